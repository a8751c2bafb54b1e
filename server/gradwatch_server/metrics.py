"""What the server counts about itself, for ``/metrics`` and for its limits. Plain numbers, touched on the event loop only."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from .errors import TooMany

__all__ = ["BOUNDS", "Histogram", "Metrics"]

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram's buckets, in seconds."""


@dataclass(slots=True)
class Histogram:
    """Durations in seconds. ``counts`` has one entry more than :data:`BOUNDS`: what is longer than all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """Counters that only rise, gauges of what is open, and how long an acknowledgement takes."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.ack = Histogram()

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
