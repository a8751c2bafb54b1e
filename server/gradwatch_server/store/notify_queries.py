"""SQL of notification channels and of the outbox."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ..models import Channel, Notification
from .alert_tables import channels, notifications

__all__ = [
    "add_message",
    "delete_channel",
    "due_messages",
    "fired_since",
    "has_message",
    "list_channels",
    "mark_channel",
    "next_due",
    "save_channel",
    "set_message",
    "sweep_messages",
]


def list_channels(conn: Connection) -> list[Channel]:
    """The channels, oldest first, with their secrets."""
    rows = conn.execute(select(channels).order_by(channels.c.created_at, channels.c.id)).all()
    return [Channel(**row._mapping) for row in rows]


def save_channel(conn: Connection, channel: Channel) -> Channel:
    """Adds the channel, or puts it in the place of its older self."""
    row: dict[str, Any] = {
        name: getattr(channel, name) for name in Channel.__dataclass_fields__ if name != "id"
    }
    if not conn.execute(update(channels).where(channels.c.id == channel.id).values(**row)).rowcount:
        conn.execute(insert(channels).values(id=channel.id, **row))
    return channel


def delete_channel(conn: Connection, channel_id: str) -> bool:
    """Removes a channel and what waits for it. False if there is none."""
    conn.execute(delete(notifications).where(notifications.c.channel_id == channel_id))
    return bool(conn.execute(delete(channels).where(channels.c.id == channel_id)).rowcount)


def mark_channel(conn: Connection, channel_id: str, *, error: str, sent: float | None) -> None:
    """Notes how the last message went."""
    values: dict[str, Any] = {"last_error": error}
    if sent is not None:
        values["last_sent"] = sent
    conn.execute(update(channels).where(channels.c.id == channel_id).values(**values))


def has_message(conn: Connection, message_id: str) -> bool:
    """Whether this message was made before, sent or not."""
    found = conn.execute(select(notifications.c.id).where(notifications.c.id == message_id))
    return found.one_or_none() is not None


def add_message(conn: Connection, message: Notification) -> None:
    """Puts a message into the outbox, once."""
    if not has_message(conn, message.id):
        row = {name: getattr(message, name) for name in Notification.__dataclass_fields__}
        conn.execute(insert(notifications).values(**row))


def fired_since(conn: Connection, channel_id: str, run_id: str, since: float) -> list[str]:
    """Severities of the messages about a run that fired since a time, for one channel."""
    query = select(notifications.c.severity).where(
        notifications.c.channel_id == channel_id,
        notifications.c.run_id == run_id,
        notifications.c.kind == "fired",
        notifications.c.created_at > since,
    )
    return list(conn.execute(query).scalars())


def due_messages(conn: Connection, now: float, limit: int) -> list[Notification]:
    """Messages that should go out now, the oldest first."""
    query = (
        select(notifications)
        .where(notifications.c.state == "waiting", notifications.c.due_at <= now)
        .order_by(notifications.c.due_at, notifications.c.id)
        .limit(limit)
    )
    return [Notification(**row._mapping) for row in conn.execute(query).all()]


def next_due(conn: Connection) -> float | None:
    """When the next message should go out."""
    due = conn.execute(
        select(func.min(notifications.c.due_at)).where(notifications.c.state == "waiting")
    ).scalar()
    return None if due is None else float(due)


def set_message(conn: Connection, message_id: str, **values: Any) -> None:
    """Changes state, attempts, due_at or error of a message."""
    conn.execute(update(notifications).where(notifications.c.id == message_id).values(**values))


def sweep_messages(conn: Connection, before: float) -> None:
    """Forgets messages that were dealt with and are older than a time."""
    done = notifications.c.state != "waiting"
    conn.execute(delete(notifications).where(done, notifications.c.created_at < before))
