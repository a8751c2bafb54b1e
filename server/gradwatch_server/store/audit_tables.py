"""The table of what people changed."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Integer, String, Table

from .tables import metadata

__all__ = ["audit"]

audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("time", Double, nullable=False),
    Column("who", String(128), nullable=False),
    Column("address", String(64), nullable=False),
    Column("what", String(128), nullable=False),
    Column("target", String(512), nullable=False),
)
"""``what`` is the method and path of the API, ``target`` what stood in the place of its parameters. No bodies: they may
hold secrets."""
