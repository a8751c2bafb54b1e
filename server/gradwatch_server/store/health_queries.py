"""The SQL of the health engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from .dismissal_queries import calmed
from .health_tables import health, incidents
from .plain import from_json, to_json
from .tables import runs

__all__ = [
    "ILL",
    "HealthRow",
    "calmer",
    "ill_runs",
    "list_incidents",
    "load_health",
    "load_optimizers",
    "open_incidents",
    "save_health",
    "save_incidents",
    "summaries",
]


ILL: Final = ("attention", "critical")
"""States in which something is open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthRow:
    """Where the engine stands in a run. See :mod:`.health_tables` for the fields."""

    run_id: str
    segment: int
    summary: dict[str, Any]
    fed: dict[str, int]
    state: bytes


def save_incidents(conn: Connection, run_id: str, found: Iterable[dict[str, Any]]) -> None:
    """Adds incidents (as plain objects) or replaces those of the same id. One that became part of another is removed."""
    for plain in found:
        key = (incidents.c.run_id == run_id) & (incidents.c.id == plain["id"])
        if plain["merged_into"]:
            conn.execute(delete(incidents).where(key))
            continue
        values = {
            name: plain[name]
            for name in ("kind", "severity", "first_step", "opened_step", "opened_time", "closed_step")
        }
        values["body"] = to_json(plain)
        if conn.execute(update(incidents).where(key).values(values)).rowcount == 0:
            conn.execute(insert(incidents).values(run_id=run_id, id=plain["id"], **values))


def list_incidents(conn: Connection, run_id: str, *, limit: int = 500) -> list[dict[str, Any]]:
    """Incidents of a run as plain objects, the newest first."""
    rows = conn.execute(
        select(incidents.c.body)
        .where(incidents.c.run_id == run_id)
        .order_by(incidents.c.opened_step.desc(), incidents.c.id)
        .limit(limit)
    )
    return [from_json(row.body) for row in rows]


def ill_runs(conn: Connection, run_ids: Collection[str]) -> set[str]:
    """Those of the runs in which there ever was an incident graver than mere information."""
    grave = (incidents.c.run_id.in_(run_ids)) & (incidents.c.severity != "info")
    return set(conn.execute(select(incidents.c.run_id).where(grave).distinct()).scalars())


def save_health(conn: Connection, row: HealthRow) -> None:
    """Stores where the engine stands; an empty ``state`` leaves state and ``fed`` as they are."""
    values: dict[str, Any] = {"summary": to_json(row.summary)}
    if row.state:
        values |= {"segment": row.segment, "fed": to_json(row.fed), "state": row.state}
    if conn.execute(update(health).where(health.c.run_id == row.run_id).values(values)).rowcount == 0:
        empty = {"segment": row.segment, "fed": "{}", "state": b""}
        conn.execute(insert(health).values(run_id=row.run_id, **(empty | values)))


def load_health(conn: Connection, run_id: str) -> HealthRow | None:
    """Where the engine stands in a run, None if it has never seen it."""
    row = conn.execute(select(health).where(health.c.run_id == run_id)).one_or_none()
    if row is None:
        return None
    return HealthRow(
        run_id=run_id,
        segment=row.segment,
        summary=from_json(row.summary),
        fed=from_json(row.fed),
        state=row.state,
    )


def load_optimizers(conn: Connection, run_id: str) -> list[dict[str, Any]]:
    """The optimizers that a run declared when it began."""
    text = conn.execute(select(runs.c.optimizers).where(runs.c.id == run_id)).scalar()
    return [dict(one) for one in from_json(text or "[]")]


def summaries(conn: Connection, run_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The summaries of runs by id, as :func:`calmer` tells them; runs never judged are left out."""
    rows = conn.execute(select(health.c.run_id, health.c.summary).where(health.c.run_id.in_(run_ids)))
    found = {str(row.run_id): dict(from_json(row.summary)) for row in rows}
    ill = [run_id for run_id, summary in found.items() if summary.get("state") in ILL]
    calm = calmed(conn, ill) if ill else set()
    return {run_id: calmer(summary) if run_id in calm else summary for run_id, summary in found.items()}


def calmer(summary: dict[str, Any]) -> dict[str, Any]:
    """What is said of a run whose open incidents somebody called no problem."""
    return {**summary, "state": "healthy", "sentence": f"Said to be no problem: {summary['sentence']}"}


def open_incidents(conn: Connection) -> dict[str, int]:
    """How many incidents have not ended, by severity."""
    c = incidents.c
    rows = conn.execute(select(c.severity, func.count()).where(c.closed_step.is_(None)).group_by(c.severity))
    return {str(severity): int(count) for severity, count in rows}
