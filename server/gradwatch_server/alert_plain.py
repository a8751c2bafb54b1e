"""Rules and alerts as plain data for JSON."""

from __future__ import annotations

from typing import Any

from gradwatch.protocol.codec import to_plain

from .alerts.sentences import rule_sentence
from .models import Alert, Rule

__all__ = ["alert_plain", "rule_plain"]


def rule_plain(rule: Rule) -> dict[str, Any]:
    """The rule for JSON, with the sentence that it waits for."""
    return {**to_plain(rule), "sentence": rule_sentence(rule)}


def alert_plain(alert: Alert, *, full: bool) -> dict[str, Any]:
    """The alert for JSON; the note, words among colleagues, only if ``full``."""
    plain: dict[str, Any] = to_plain(alert)
    return plain if full else {**plain, "note": ""}
