"""The SQL of what people say of incidents: that one is not a problem."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select

from .health_tables import dismissals, incidents
from .plain import from_json

__all__ = ["calmed", "dismissed_by_kind", "dismissed_in", "find_incident", "say"]

_JOINED = and_(dismissals.c.run_id == incidents.c.run_id, dismissals.c.incident == incidents.c.id)


def find_incident(conn: Connection, run_id: str, incident: str) -> dict[str, Any] | None:
    """One incident as a plain object."""
    key = (incidents.c.run_id == run_id) & (incidents.c.id == incident)
    body = conn.execute(select(incidents.c.body).where(key)).scalar()
    return None if body is None else dict(from_json(body))


def say(conn: Connection, run_id: str, incident: str, said: dict[str, Any] | None) -> None:
    """Notes ``{who, time}`` (Unix seconds) of whoever called it no problem; None forgets it. The last word counts."""
    conn.execute(
        delete(dismissals).where((dismissals.c.run_id == run_id) & (dismissals.c.incident == incident))
    )
    if said is not None:
        conn.execute(insert(dismissals).values(run_id=run_id, incident=incident, **said))


def dismissed_in(conn: Connection, run_id: str) -> dict[str, dict[str, Any]]:
    """By id of the incident, ``{who, time}``."""
    rows = conn.execute(select(dismissals).where(dismissals.c.run_id == run_id))
    return {row.incident: {"who": row.who, "time": row.time} for row in rows}


def calmed(conn: Connection, run_ids: Collection[str]) -> set[str]:
    """Those of the runs in which every open incident graver than mere information was said to be no problem, and there is
    one."""
    c = incidents.c
    grave = c.run_id.in_(run_ids) & c.closed_step.is_(None) & (c.severity != "info")
    counts = (
        select(c.run_id)
        .select_from(incidents.outerjoin(dismissals, _JOINED))
        .where(grave)
        .group_by(c.run_id)
        .having(func.count() == func.count(dismissals.c.incident))
    )
    return set(conn.execute(counts).scalars())


def dismissed_by_kind(conn: Connection) -> dict[str, int]:
    """How many incidents of each kind were said to be no problem: false alarms, as people see them."""
    rows = conn.execute(
        select(incidents.c.kind, func.count())
        .select_from(incidents.join(dismissals, _JOINED))
        .group_by(incidents.c.kind)
    )
    return {str(kind): int(count) for kind, count in rows}
