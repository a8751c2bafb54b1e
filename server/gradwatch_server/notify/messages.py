"""What a message says: what, where, since when, and a link. One wording for all channels; plain text. Pure."""

from __future__ import annotations

import hashlib
from typing import Literal

from ..alerts.incidents import RANK
from ..alerts.sentences import clean, number
from ..models import Alert, Channel, Notification, Run

__all__ = ["RANK", "a_test", "body_of", "compose", "notification_id"]

MOST_WORST = 5
LONGEST = 4_000
"""Characters of a message's text: some services refuse more."""


def compose(
    alert: Alert,
    run: Run | None,
    channel: Channel,
    kind: Literal["fired", "cleared"],
    *,
    link: str,
    now: float,
) -> Notification:
    """The message about an alert to one channel. ``link`` is the address of the server's pages."""
    name = clean(f"{run.project} / {run.name}" if run is not None else alert.run_id)
    rule = clean(alert.rule_name)
    head = {"info": "Note", "warning": "Warning", "critical": "Critical"}[alert.severity]
    if kind == "fired":
        title = f"{head}: {rule} ({name})"
        lines = [alert.sentence]
        if alert.count > 1:
            more = alert.count - len(alert.worst)
            lines.append(
                "Worst: " + ", ".join(alert.worst[:MOST_WORST]) + (f" and {more:,} more" if more > 0 else "")
            )
    else:
        title = f"Cleared: {rule} ({name})"
        lines = [_ended(alert)]
    return Notification(
        id=notification_id(alert.id, channel.id, kind),
        channel_id=channel.id,
        run_id=alert.run_id,
        alert_id=alert.id,
        kind=kind,
        severity=alert.severity,
        title=title,
        text="\n".join(clean(line) for line in lines)[:LONGEST],
        link=f"{link}/runs/{alert.run_id}?alert={alert.id}",
        created_at=now,
        due_at=now,
    )


def a_test(channel: Channel, *, link: str, now: float, id: str) -> Notification:
    """The message of the "send a test" button."""
    return Notification(
        id=id,
        channel_id=channel.id,
        run_id="",
        alert_id="",
        kind="test",
        severity="info",
        title="Test from gradwatch",
        text=f"The channel {clean(channel.name)!r} works: alerts will arrive here.",
        link=link,
        created_at=now,
        due_at=now,
    )


def notification_id(alert_id: str, channel_id: str, kind: str) -> str:
    """The same for the same news to the same channel."""
    return hashlib.blake2s(f"{alert_id}|{channel_id}|{kind}".encode(), digest_size=12).hexdigest()


def body_of(message: Notification) -> dict[str, object]:
    """The JSON of a webhook."""
    return {
        "id": message.id,
        "kind": message.kind,
        "severity": message.severity,
        "title": message.title,
        "text": message.text,
        "link": message.link,
        "run": message.run_id,
        "alert": message.alert_id,
        "time": message.created_at,
    }


def _ended(alert: Alert) -> str:
    until = f"{alert.cleared_step:,}" if alert.cleared_step is not None else "now"
    how = f"Closed: {alert.reason}." if alert.reason else f"Fine again at step {until}."
    peak = "" if alert.condition in ("incident", "silent") else f" (peak: {number(alert.peak)})"
    return f"{how} It was open since step {alert.opened_step:,}{peak}."
