"""The table of tokens."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Double, String, Table

from .tables import metadata

__all__ = ["tokens"]

tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("project", String(512), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)
"""``key`` is the SHA-256 of the secret, ``id`` its public name."""
