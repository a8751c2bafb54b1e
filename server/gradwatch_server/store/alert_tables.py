"""The tables of rules, alerts, links and messages. Runs are named by ``runs.id`` here: these rows are few."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, String, Table, Text

from .tables import metadata

__all__ = ["alerts", "channels", "notifications", "rule_states", "rules", "shares"]

rules: Final = Table(
    "rules",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("body", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("deleted_at", Double),
)
"""``body`` is the rule as JSON: a new parameter needs no new column. A removed default rule stays removed."""

rule_states: Final = Table(
    "rule_states",
    metadata,
    Column("rule_id", String(64), primary_key=True),
    Column("run_id", String(512), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("step", Double, nullable=False),
    Column("data", Text, nullable=False),
)

alerts: Final = Table(
    "alerts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("rule_id", String(64), nullable=False),
    Column("run_id", String(512), nullable=False),
    Column("rule_name", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("statistic", Text, nullable=False),
    Column("condition", String(16), nullable=False),
    Column("threshold", Double, nullable=False),
    Column("opened_step", BigInteger, nullable=False),
    Column("opened_time", Double, nullable=False),
    Column("cleared_step", BigInteger),
    Column("cleared_time", Double),
    Column("peak", Double),
    Column("count", Integer, nullable=False),
    Column("worst", Text, nullable=False),
    Column("acknowledged", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("muted_until", Double),
    Index(None, "run_id", "opened_time"),
    Index(None, "rule_id"),
    Index(None, "cleared_step", "opened_time"),
)
"""``peak`` is NULL for NaN, which SQLite can't hold; ``worst`` JSON."""

shares: Final = Table(
    "shares",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("run_id", String(512), nullable=False, index=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("label", Text, nullable=False),
    Column("view", Text, nullable=False),
    Column("views", BigInteger, nullable=False),
    Column("last_seen", Double),
    Column("password_hash", Text, nullable=False),
    Column("others", Text, nullable=False, server_default="[]"),
)

channels: Final = Table(
    "channels",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("least", String(16), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("last_sent", Double),
    Column("last_error", Text, nullable=False),
)

notifications: Final = Table(
    "notifications",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("channel_id", String(64), nullable=False),
    Column("run_id", String(512), nullable=False),
    Column("alert_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("link", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text, nullable=False),
    Index(None, "state", "due_at"),
    Index(None, "run_id", "created_at"),
)
"""The outbox: a message stands here from the commit that makes it until it is delivered or given up."""
