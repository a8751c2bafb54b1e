"""What the server counts about itself, for ``/metrics`` and for its limits. Plain numbers, touched on the event loop only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .errors import TooMany
from .histogram import Histogram

__all__ = ["REFUSALS", "Metrics"]


REFUSALS: Final = ("connections", "sockets", "requests", "passwords", "link")
"""What may be refused because it is too much: the first four of an address, the last of a share link."""


class Metrics:
    """Counters that only rise, gauges of what is open, and how long an acknowledgement takes."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.ack = Histogram()

    def refuse(self, what: str) -> None:
        """Something of :data:`REFUSALS` was refused."""
        self.counters[f"refused_{what}"] += 1

    def add(self, name: str, amount: int = 1) -> None:
        """Raises a counter."""
        self.counters[name] += amount

    @contextmanager
    def holding(self, what: str, most: int) -> Iterator[None]:
        """Counts one more open ``what`` while the body runs.

        Raises:
            TooMany: ``most`` are open already.
        """
        if self.open[what] >= most:
            raise TooMany(f"This server has {most:,} {what} already. Try again later.")
        self.open[what] += 1
        try:
            yield
        finally:
            self.open[what] -= 1
