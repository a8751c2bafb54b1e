"""Durations counted in buckets, as Prometheus wants them. Plain numbers; one thread adds."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

__all__ = ["BOUNDS", "Histogram"]

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
