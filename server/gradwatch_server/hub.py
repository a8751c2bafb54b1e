"""Publish and subscribe, on the event loop, in memory. Publishing never waits: a slow reader's mailbox conflates.

Two kinds of news. *Updates* are numbers as stored: a mailbox keeps what its subscriptions want until it is emptied, and
when that is more than its bound it drops them and says so (``overflowed``): the reader then reads the store afresh.
*Events* are everything else; those with a revision are also remembered, so that a reader which was away a short while
gets what it missed. When even events pile up in a mailbox, it becomes ``stale``: its reader must start over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from .models import StoredBlock
from .visitors import Viewer

__all__ = ["Event", "Hub", "Mailbox", "Update", "block_key"]

MOST_EVENTS: Final = 512
"""Events that wait in a mailbox; one more makes it stale."""

MOST_CELLS: Final = 4_000_000
"""Values that wait in a mailbox for one subscription; more are dropped and read from the store."""

REMEMBERED: Final = 2_048
"""Events kept for readers that come back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """News other than numbers. ``revision`` is 0 for what is not worth remembering (``status``). ``private`` is added to
    ``data`` for owners."""

    kind: str
    run: str | None
    data: dict[str, Any]
    revision: int = 0
    private: dict[str, Any] = field(default_factory=dict)

    def plain(self, viewer: Viewer) -> dict[str, Any]:
        """The message to a viewer's browser."""
        return {
            "type": "event",
            "kind": self.kind,
            "run": self.run,
            "revision": self.revision,
            "data": {**self.data, **self.private} if viewer.may_edit else self.data,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Numbers of one segment of a run that are now stored."""

    run_id: str
    segment: int
    """Index of the segment in its run."""
    blocks: tuple[StoredBlock, ...]


def block_key(run_id: str, scope: str, statistic: str) -> Hashable:
    """What updates are sorted by."""
    return (run_id, scope, statistic)


@dataclass(slots=True)
class Pending:
    """What waits for one subscription: blocks with the index of their segment, in the order they were stored."""

    key: Hashable
    blocks: list[tuple[int, StoredBlock]] = field(default_factory=list)
    cells: int = 0
    overflowed: bool = False

    def add(self, segment: int, block: StoredBlock) -> None:
        """Keeps it, unless there is too much already."""
        if self.overflowed:
            return
        self.cells += block.values.size
        if self.cells > MOST_CELLS and self.blocks:
            self.blocks, self.cells, self.overflowed = [], 0, True
            return
        self.blocks.append((segment, block))

    def take(self) -> tuple[list[tuple[int, StoredBlock]], bool]:
        """What waited, and whether some of it was dropped. Empty afterwards."""
        taken = self.blocks, self.overflowed
        self.blocks, self.cells, self.overflowed = [], 0, False
        return taken


class Mailbox:
    """One reader's news. All methods belong to the event loop's thread.

    Args:
        viewer: whose eyes it is for; events of runs it may not see are left out.
    """

    def __init__(self, hub: Hub, viewer: Viewer) -> None:
        self.viewer = viewer
        self.run: str | None = None
        """The run whose events are wanted, None for all."""
        self.stale = False
        """Events were dropped: the reader must start over."""
        self.revoked = False
        """The share link it came by was withdrawn."""
        self.recheck = False
        """Whether its reader may still look is to be asked again now."""
        self.wake = asyncio.Event()
        self._hub = hub
        self._events: deque[Event] = deque()
        self._latest: dict[str, Event] = {}
        self._wanted: dict[int, Pending] = {}

    def want(self, subscription: int, run_id: str, scope: str, statistic: str) -> None:
        """Collects updates for a subscription from now on."""
        self.unwant(subscription)
        pending = self._wanted[subscription] = Pending(block_key(run_id, scope, statistic))
        self._hub.readers.setdefault(pending.key, {})[(id(self), subscription)] = (self, pending)

    def unwant(self, subscription: int) -> None:
        """Ends it."""
        pending = self._wanted.pop(subscription, None)
        if pending is not None:
            readers = self._hub.readers[pending.key]
            del readers[(id(self), subscription)]
            if not readers:
                del self._hub.readers[pending.key]

    def accepts(self, event: Event) -> bool:
        """Whether the reader may see it and asked for it. Owners hear of all runs coming and going; links hear of
        nothing but their run, and not of rules and shares."""
        if not self.viewer.may_edit and event.kind in ("rule", "share"):
            return False
        if event.run is None:
            return self.viewer.may_edit
        if not self.viewer.may_see(event.run):
            return False
        return self.run is None or event.run == self.run or event.kind in ("run", "run_deleted")

    def tell(self, event: Event) -> None:
        """Puts an event in; a ``status`` replaces the one that still waits for the same run."""
        if (
            event.kind == "share"
            and event.data.get("revoked")
            and event.data.get("id") == self.viewer.share_id
        ):
            self.revoked = True
            self.wake.set()
        if not self.accepts(event):
            return
        if event.kind == "status" and event.run is not None:
            self._latest[event.run] = event
        elif len(self._events) >= MOST_EVENTS:
            self.stale = True
            self._events.clear()
        else:
            self._events.append(event)
        self.wake.set()

    def take_events(self) -> list[Event]:
        """The events that wait, oldest first."""
        events = [*self._events, *self._latest.values()]
        self._events.clear()
        self._latest.clear()
        return events

    def pending(self, subscription: int) -> Pending | None:
        """What waits for a subscription."""
        return self._wanted.get(subscription)

    def close(self) -> None:
        """Leaves the hub."""
        for subscription in list(self._wanted):
            self.unwant(subscription)
        self._hub.mailboxes.discard(self)


class Hub:
    """Everybody who wants news."""

    def __init__(self, revision: int = 0) -> None:
        self.mailboxes: set[Mailbox] = set()
        self.readers: dict[Hashable, dict[tuple[int, int], tuple[Mailbox, Pending]]] = {}
        self._events: deque[Event] = deque(maxlen=REMEMBERED)
        self._forgotten = revision
        self.revision = revision
        """The newest revision published (at the start, the newest in the database)."""

    def mailbox(self, viewer: Viewer) -> Mailbox:
        """A new reader; it must :meth:`Mailbox.close`."""
        box = Mailbox(self, viewer)
        self.mailboxes.add(box)
        return box

    def publish(self, update: Update) -> None:
        """Numbers that are now stored, to those who want them."""
        for block in update.blocks:
            for box, pending in self.readers.get(
                block_key(update.run_id, block.scope, block.statistic), {}
            ).values():
                pending.add(update.segment, block)
                box.wake.set()

    def announce(self, event: Event) -> None:
        """An event, to all who may see it."""
        if event.revision:
            if len(self._events) == REMEMBERED:
                self._forgotten = max(self._forgotten, self._events[0].revision)
            self._events.append(event)
            self.revision = max(self.revision, event.revision)
        for box in self.mailboxes:
            box.tell(event)

    def recheck(self) -> None:
        """Asks of every reader whether it may still look, because a way in was closed."""
        for box in self.mailboxes:
            box.recheck = True
            box.wake.set()

    def since(self, revision: int) -> Iterable[Event] | None:
        """The remembered events after ``revision``, or None when some of them are forgotten."""
        if revision < self._forgotten or revision > self.revision:
            return None
        return [event for event in self._events if event.revision > revision]
