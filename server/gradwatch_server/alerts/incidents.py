"""Rules about what the health engine finds: an incident, as plain data, becomes an alert that lives as long as it does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..models import Alert, Rule, Severity
from .globs import matches
from .ledger import WORST

__all__ = ["RANK", "alert_of", "closed_as", "concerns"]

RANK: Final[dict[str, int]] = {"info": 0, "warning": 1, "critical": 2}
"""Severities in their order."""


def concerns(rule: Rule, incident: Mapping[str, Any]) -> bool:
    """Whether the rule waits for such an incident. One that another explains, or is part of another, is left to that."""
    if rule.condition != "incident" or incident["caused_by"] or incident["merged_into"]:
        return False
    return matches(rule.incidents, incident["kind"]) and RANK[incident["severity"]] >= RANK[rule.least]


def alert_of(rule: Rule, run_id: str, incident: Mapping[str, Any]) -> Alert:
    """The alert for an incident; the same id for all snapshots of it."""
    origin = incident["origin"]
    layers = [origin["tensor"], *(name for name, _ in origin["followers"])]
    severity: Severity = incident["severity"]
    text = f"{rule.id}|{rule.version}|{run_id}|{incident['id']}"
    return Alert(
        id=hashlib.blake2s(text.encode(), digest_size=10).hexdigest(),
        rule_id=rule.id,
        run_id=run_id,
        rule_name=rule.name,
        severity=severity,
        statistic=rule.statistic,
        condition="incident",
        threshold=0.0,
        opened_step=int(incident["opened_step"]),
        opened_time=float(incident["opened_time"]),
        cleared_step=incident["closed_step"],
        cleared_time=incident["closed_time"],
        count=int(origin["followed"]) + bool(origin["tensor"]),
        worst=tuple(layer for layer in layers if layer)[:WORST],
        sentence=incident["sentence"],
    )


def closed_as(alert: Alert, step: int, now: float, reason: str) -> Alert:
    """The alert closed for ``reason`` at Unix time ``now``, at ``step`` unless its incident closed before."""
    at = step if alert.cleared_step is None else alert.cleared_step
    return replace(alert, cleared_step=at, cleared_time=now, reason=reason)
