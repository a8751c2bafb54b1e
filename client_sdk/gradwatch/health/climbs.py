"""A loss that climbs while the learning rate goes where the run has not been: slow ramps poison a rolling baseline."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from .baseline import level_and_spread

__all__ = ["Climb"]

_LAG: Final = 100
_LEAST: Final = 50
_BEYOND: Final = 1.5
"""Times the highest rate of more than ``_LAG`` losses ago: cycles and restarts come back to rates that were fine before."""


@dataclass(slots=True)
class Climb:
    """The second witness that lets a small rise of the loss count: a rate higher than any of 100 losses ago.

    The rise is measured against the 100 losses before those, which the ramp has not touched. ``base`` and ``spread`` are
    their centre and scale, NaN while the rate is one that the run has known.
    """

    known: float = 0.0
    base: float = math.nan
    spread: float = math.nan
    age: int = 0
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_LAG))

    def learn(self, rate: float, losses: Sequence[float] | deque[float]) -> None:
        """Takes the rate of the newest of ``losses`` in (NaN: unknown, which teaches nothing)."""
        if not rate > 0:
            return
        if len(self.rates) == _LAG:
            self.known = max(self.known, self.rates[0])
        self.rates.append(rate)
        if not 0 < _BEYOND * self.known < rate:
            self.base, self.age = math.nan, 0
            return
        if self.age % 10 == 0:
            end = len(losses) - _LAG
            before = list(islice(losses, max(end - _LAG, 0), max(end, 0)))
            if len(before) >= _LEAST:
                self.base, self.spread = level_and_spread(before)
        self.age += 1

    @property
    def beyond(self) -> bool:
        """Whether the rate is one that the run has not known, and there is something to measure against."""
        return self.base == self.base

    def above(self, near: float, scale: float) -> bool:
        """Whether a loss of ``near`` (median of the last six) is clearly worse than at the rates that the run has known.

        ``scale`` is the loss at the start. The limits are tuned on seeds 0 to 2 of the health benchmark, beside one-cycle,
        triangular, stepped and slowly rising schedules.
        """
        rise = near - self.base
        return rise > 2.0 * self.spread and near > 1.25 * self.base > 0 and rise > 0.05 * scale

    def restart(self) -> None:
        """A new phase: its rates are not known yet."""
        self.known, self.base, self.age = 0.0, math.nan, 0
        self.rates.clear()
