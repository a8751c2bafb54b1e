"""What alerting speaks to, and what it keeps until it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .alerts.engine import Outcome
from .models import Alert

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Announce", "Messenger", "Unsaved"]


class Announce(Protocol):
    """Tells every open page, on the event loop. ``private`` is for owners only."""

    def __call__(
        self, kind: str, run: str | None, data: dict[str, Any], private: dict[str, Any] | None = None
    ) -> None: ...


class Messenger(Protocol):
    """Sends messages about alerts."""

    def queue(self, conn: Connection, kind: str, alert: Alert) -> None:
        """Makes messages about an alert that "opened" or "closed", in the write that stores that."""

    def wake(self) -> None:
        """What was queued is committed."""


@dataclass(slots=True)
class Unsaved:
    """What the engine said of a run since it was last stored: alerts by id, rules whose state changed, rows judged."""

    since: float
    alerts: dict[str, Alert] = field(default_factory=dict)
    news: list[tuple[str, Alert]] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)
    rows: int = 0

    def add(self, outcome: Outcome) -> bool:
        """Takes in what the engine said; whether an alert opened or closed, which is to be stored at once."""
        self.rules.update(transition.rule_id for transition in outcome.transitions)
        for change in outcome.changes:
            self.alerts[change.alert.id] = change.alert
            self.rules.add(change.alert.rule_id)
            if change.kind != "updated" and not change.quiet:
                self.news.append((change.kind, change.alert))
        return any(change.kind != "updated" for change in outcome.changes)
