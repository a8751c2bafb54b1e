"""How hard the server works. When it is too much, trainers come first: pages wait for their numbers, and no new ones are let
in, until what was sent is stored. Plain numbers, touched on the event loop only."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Load"]

MOST_BYTES: Final = 256 << 20
"""Bytes of all trainers together that may wait for a commit; above it nothing more is read from those who have some."""

BUSY_BYTES: Final = 96 << 20
LATE_S: Final = 3.0
"""Pages wait above either: bytes that wait for a commit, or seconds that the event loop comes late."""

CALM: Final = 0.5
"""They wait until both are below this part of it, so that it does not go to and fro."""

BEAT_S: Final = 0.25


class Load:
    """Told of what waits; asked by those who can wait themselves.

    Args:
        most_bytes, busy_bytes: see above.
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES, busy_bytes: int = BUSY_BYTES) -> None:
        self.most_bytes = most_bytes
        self.busy_bytes = busy_bytes
        self.uncommitted = 0
        """Bytes that trainers have sent and that are not durable yet."""
        self.late = 0.0
        """Seconds that the event loop came late, the newest and the ones before it together."""
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether pages have to wait."""
        part = CALM if self._busy else 1.0
        self._busy = self.uncommitted > part * self.busy_bytes or self.late > part * LATE_S
        return self._busy

    @property
    def full(self) -> bool:
        """Whether trainers have to wait: their bytes stay in their own memory, or on their disk."""
        return self.uncommitted > self.most_bytes

    def hold(self, size: int) -> None:
        """Bytes have come (or, if negative, are stored)."""
        self.uncommitted += size

    def came_late(self, seconds: float) -> None:
        """The event loop woke so much later than asked."""
        self.late = max(seconds, self.late * 0.7)

    async def watch(self) -> None:
        """Measures until cancelled how late the event loop comes."""
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            await asyncio.sleep(BEAT_S)
            self.came_late(max(0.0, clock() - before - BEAT_S))
