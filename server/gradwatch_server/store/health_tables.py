"""The tables of the health engine: what it found, and where it stands in each run."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, String, Table, Text

from .tables import metadata

__all__ = ["dismissals", "health", "incidents"]

incidents: Final = Table(
    "incidents",
    metadata,
    Column("run_id", String(512), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("opened_step", BigInteger, nullable=False),
    Column("opened_time", Double, nullable=False),
    Column("closed_step", BigInteger),
    Column("body", Text, nullable=False),
    Index(None, "run_id", "opened_step"),
)
"""``body`` is the whole incident as JSON: evidence, causes, remedies."""

health: Final = Table(
    "health",
    metadata,
    Column("run_id", String(512), primary_key=True),
    Column("segment", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("fed", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
"""``summary`` is the sentence and scores, ``state`` the engine's memory, ``fed`` the newest step it has had of each
statistic: what comes after is replayed when the run is taken up again. All JSON but the state."""

dismissals: Final = Table(
    "dismissals",
    metadata,
    Column("run_id", String(512), primary_key=True),
    Column("incident", String(64), primary_key=True),
    Column("who", String(128), nullable=False),
    Column("time", Double, nullable=False),
)
"""Incidents of which somebody said that they are not a problem. Apart from ``incidents``: the engine writes those anew."""
