"""SQL of rules, their states, and alerts. Each function is one statement or a few, on a connection that it is given."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from gradwatch.protocol.codec import to_plain

from ..models import Alert, Rule, RuleState
from .alert_tables import alerts, rule_states, rules
from .tables import runs

__all__ = [
    "add_default_rules",
    "close_alerts",
    "delete_rule",
    "find_alert",
    "known_alerts",
    "list_alerts",
    "list_rules",
    "list_states",
    "note_alert",
    "save_alert",
    "save_rule",
    "save_state",
    "start_states",
]


def list_rules(conn: Connection) -> list[Rule]:
    """The rules, oldest first."""
    rows = conn.execute(select(rules.c.body).where(rules.c.deleted_at.is_(None))).all()
    return sorted((_rule(row.body) for row in rows), key=lambda rule: (rule.created_at, rule.id))


def save_rule(conn: Connection, rule: Rule) -> Rule:
    """Adds the rule, or puts it in the place of its older version."""
    row = {
        "body": json.dumps(to_plain(rule), allow_nan=False),
        "version": rule.version,
        "updated_at": rule.updated_at,
    }
    if not conn.execute(update(rules).where(rules.c.id == rule.id).values(**row)).rowcount:
        conn.execute(insert(rules).values(id=rule.id, **row))
    return rule


def delete_rule(conn: Connection, rule_id: str, *, now: float) -> None:
    """Removes the rule; its alerts stay."""
    conn.execute(update(rules).where(rules.c.id == rule_id).values(deleted_at=now))
    conn.execute(delete(rule_states).where(rule_states.c.rule_id == rule_id))


def add_default_rules(conn: Connection, defaults: Iterable[Rule]) -> None:
    """Adds those that were never there: an edited one stays edited, a removed one removed."""
    known = set(conn.execute(select(rules.c.id)).scalars())
    for rule in defaults:
        if rule.id not in known:
            save_rule(conn, rule)


def list_states(conn: Connection, run_id: str) -> list[RuleState]:
    """The states of all rules in a run."""
    rows = conn.execute(select(rule_states).where(rule_states.c.run_id == run_id)).all()
    return [RuleState(**row._mapping) for row in rows]


def save_state(conn: Connection, state: RuleState) -> None:
    """Puts the state in the place of the one before."""
    row = {"version": state.version, "step": state.step, "data": state.data}
    same = (rule_states.c.rule_id == state.rule_id) & (rule_states.c.run_id == state.run_id)
    if not conn.execute(update(rule_states).where(same).values(**row)).rowcount:
        conn.execute(insert(rule_states).values(rule_id=state.rule_id, run_id=state.run_id, **row))


def start_states(conn: Connection, rule: Rule, data: str) -> None:
    """A new or edited rule judges what comes from now on: up to here it has nothing to say of runs that may go on."""
    going = select(runs.c.id, runs.c.last_step).where(runs.c.state.in_(("running", "lost")))
    for row in conn.execute(going.order_by(runs.c.last_seen.desc()).limit(_MOST_STARTED)).all():
        step = float(row.last_step)
        save_state(
            conn, RuleState(rule_id=rule.id, run_id=row.id, version=rule.version, step=step, data=data)
        )


def save_alert(conn: Connection, alert: Alert) -> Alert:
    """Adds or updates the alert; what people said of it (acknowledged, note, muted) stays. Returns it as it then is."""
    row = {
        "rule_name": alert.rule_name,
        "severity": alert.severity,
        "cleared_step": alert.cleared_step,
        "cleared_time": alert.cleared_time,
        "peak": None if math.isnan(alert.peak) else alert.peak,
        "count": alert.count,
        "worst": json.dumps(alert.worst),
        "sentence": alert.sentence,
        "reason": alert.reason,
    }
    if not conn.execute(update(alerts).where(alerts.c.id == alert.id).values(**row)).rowcount:
        conn.execute(
            insert(alerts).values(
                id=alert.id,
                rule_id=alert.rule_id,
                run_id=alert.run_id,
                statistic=alert.statistic,
                condition=alert.condition,
                threshold=alert.threshold,
                opened_step=alert.opened_step,
                opened_time=alert.opened_time,
                acknowledged=False,
                note="",
                **row,
            )
        )
    return _expect(find_alert(conn, alert.id))


def find_alert(conn: Connection, alert_id: str) -> Alert | None:
    """The alert, None if there is none of this id."""
    row = conn.execute(select(alerts).where(alerts.c.id == alert_id)).one_or_none()
    return None if row is None else _alert(row)


def list_alerts(
    conn: Connection, *, run_id: str | None = None, open_only: bool | None = None, limit: int = 500
) -> list[Alert]:
    """Alerts, newest first. ``open_only`` False gives the cleared ones only, None both."""
    query = select(alerts).order_by(alerts.c.opened_time.desc(), alerts.c.id).limit(limit)
    if run_id is not None:
        query = query.where(alerts.c.run_id == run_id)
    if open_only is not None:
        query = query.where(
            alerts.c.cleared_step.is_(None) if open_only else alerts.c.cleared_step.is_not(None)
        )
    return [_alert(row) for row in conn.execute(query).all()]


def known_alerts(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are of an alert."""
    return list(conn.execute(select(alerts.c.id).where(alerts.c.id.in_(ids))).scalars())


def note_alert(conn: Connection, alert_id: str, **values: Any) -> Alert | None:
    """Sets what people say of an alert: ``acknowledged``, ``note``, ``muted_until``. None if there is no such alert."""
    if not conn.execute(update(alerts).where(alerts.c.id == alert_id).values(**values)).rowcount:
        return None
    return find_alert(conn, alert_id)


def close_alerts(
    conn: Connection, *, reason: str, now: float, rule_id: str | None = None, run_id: str | None = None
) -> list[Alert]:
    """Closes what is still open of a rule or of a run, at the run's newest step, and forgets the states."""
    mine = alerts.c.rule_id == rule_id if rule_id is not None else alerts.c.run_id == run_id
    states = rule_states.c.rule_id == rule_id if rule_id is not None else rule_states.c.run_id == run_id
    conn.execute(delete(rule_states).where(states))
    found = conn.execute(
        select(alerts.c.id, alerts.c.run_id).where(mine, alerts.c.cleared_step.is_(None))
    ).all()
    for row in found:
        step = select(func.coalesce(func.max(runs.c.last_step), alerts.c.opened_step)).where(
            runs.c.id == row.run_id
        )
        conn.execute(
            update(alerts)
            .where(alerts.c.id == row.id)
            .values(cleared_step=step.scalar_subquery(), cleared_time=now, reason=reason)
        )
    return [_expect(find_alert(conn, row.id)) for row in found]


_MOST_STARTED = 500
_RULE_FIELDS = {field.name for field in fields(Rule)}


def _rule(body: str) -> Rule:
    plain = {key: value for key, value in json.loads(body).items() if key in _RULE_FIELDS}
    return Rule(**{**plain, "channels": tuple(plain.get("channels", ()))})


def _alert(row: Row[Any]) -> Alert:
    values: dict[str, Any] = dict(row._mapping)
    peak: float | None = values["peak"]
    worst: Sequence[str] = json.loads(values["worst"])
    return Alert(**{**values, "peak": math.nan if peak is None else peak, "worst": tuple(worst)})


def _expect(alert: Alert | None) -> Alert:
    assert alert is not None
    return alert
