"""SQL of the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from .audit_tables import audit

__all__ = ["KEPT", "AuditEntry", "add_entry", "list_entries"]

KEPT: Final = 100_000
"""Entries kept; the oldest go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """Who changed what, when (Unix seconds), from which address."""

    time: float
    who: str
    address: str
    what: str
    target: str


def add_entry(conn: Connection, entry: AuditEntry) -> None:
    """Adds an entry."""
    added = conn.execute(
        insert(audit).values(
            time=entry.time, who=entry.who, address=entry.address, what=entry.what, target=entry.target
        )
    )
    key = added.inserted_primary_key
    if key is not None and key[0] % 1_000 == 0:
        conn.execute(delete(audit).where(audit.c.id <= key[0] - KEPT))


def list_entries(conn: Connection, *, limit: int) -> list[AuditEntry]:
    """The newest entries, newest first."""
    c = audit.c
    rows = conn.execute(select(c.time, c.who, c.address, c.what, c.target).order_by(c.id.desc()).limit(limit))
    return [AuditEntry(**row._mapping) for row in rows]
