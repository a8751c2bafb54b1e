"""What is normal for one series: robust trackers that a spike or a NaN cannot poison.

All work on log2 of a norm. A score never includes the value it judges: call ``score`` (or read the fields) first, then
``learn``. Non-finite values are never learnt (one NaN would silence a mean/sigma rule for a whole window).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "FLOOR",
    "Quantile",
    "Tracker",
    "TurnRate",
    "level_and_spread",
    "mad",
    "median",
    "middle",
    "theil_sen",
]

FLOOR: Final = 0.15
"""Smallest scale of a log2 series: below it, even a calm run is taken to vary by 11 %."""

_WARM: Final = 30
"""Values before a tracker scores; the first ten of them are left out of its start (initial transient)."""


def median(values: Iterable[float]) -> float:
    """Median of a non-empty collection."""
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else 0.5 * (ordered[half - 1] + ordered[half])


def middle(values: npt.NDArray[Any]) -> float:
    """Median of a non-empty array; for the short ones here much cheaper than numpy's."""
    return median(values.tolist()) if len(values) <= 256 else float(np.median(values))


def mad(values: Sequence[float], centre: float) -> float:
    """Median absolute deviation, scaled to the standard deviation of a normal law."""
    return 1.4826 * median(abs(v - centre) for v in values)


def level_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Median and scale of some losses (not empty).

    The upper tail counts too: with one sample per batch most losses are near zero and the MAD says nothing.
    """
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    centre = ordered[half] if odd else 0.5 * (ordered[half - 1] + ordered[half])
    high = ordered[int(0.95 * (len(ordered) - 1))]
    return centre, max(mad(ordered, centre), (high - centre) / 1.645)


@lru_cache(maxsize=64)
def _pairs(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    i, j = np.triu_indices(n, 1)
    return i, j


def theil_sen(y: npt.NDArray[np.float64], x: npt.NDArray[np.float64] | None = None) -> float:
    """Median of all pairwise slopes of ``y`` over ``x`` (or over 0, 1, 2 ...); 0 for fewer than two points."""
    n = len(y)
    if n < 2:
        return 0.0
    i, j = _pairs(n)
    if x is None:
        return float(np.median((y[j] - y[i]) / (j - i)))
    run = x[j] - x[i]
    keep = run != 0
    return float(np.median((y[j] - y[i])[keep] / run[keep])) if keep.any() else 0.0


@dataclass(slots=True)
class Tracker:
    """Huberised exponential mean and scale of one series in log2 (science notes, section 3).

    ``fast`` steps of quicker learning follow :meth:`shift`, which a declared change of regime calls.
    """

    m: float = 0.0
    s: float = 1.0
    n: int = 0
    fast: int = 0
    first: list[float] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether there is a baseline."""
        return self.n >= _WARM

    def score(self, x: float) -> float:
        """Robust z of ``x`` against the past; 0 before there is a baseline."""
        return (x - self.m) / max(self.s, FLOOR) if self.ready else 0.0

    def learn(self, x: float) -> None:
        """Takes ``x`` into the baseline, if it is finite."""
        if not math.isfinite(x):
            return
        self.n += 1
        if self.n <= _WARM:
            self.first.append(x)
            if self.n == _WARM:
                self._start()
            return
        rate = 0.02
        if self.fast > 0:
            self.fast -= 1
            rate = 0.1
        limit = 3.0 * max(self.s, FLOOR)
        r = min(max(x - self.m, -limit), limit)
        self.m += rate * r
        self.s += rate * (1.2533 * abs(r) - self.s)

    def shift(self, steps: int = 40) -> None:
        """The regime changed: learn faster for a while."""
        self.fast = max(self.fast, steps)

    def restart(self) -> None:
        """Forget: the series is a new one from here on."""
        self.n = self.fast = 0
        self.first = []

    def _start(self) -> None:
        tail = self.first[10:]
        self.m = median(tail)
        self.s = max(mad(tail, self.m), FLOOR)
        self.first = []


@dataclass(slots=True)
class Quantile:
    """A high quantile of the last ``size`` values, refreshed every 16th value; and the largest value of the first 100."""

    size: int = 512
    q: float = 0.99
    values: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    n: int = 0
    top: float = -math.inf
    first_max: float = -math.inf

    def learn(self, x: float) -> None:
        """Takes ``x`` in, if it is finite."""
        if not math.isfinite(x):
            return
        self.n += 1
        self.values.append(x)
        if self.n <= 100:
            self.first_max = max(self.first_max, x)
        if self.n % 16 == 0 or self.n < 32:
            self.top = self.at(self.q)

    def at(self, q: float) -> float:
        """Any quantile of what is kept; -inf when nothing is."""
        ordered = sorted(self.values)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else -math.inf

    def restart(self) -> None:
        """Forget."""
        self.values.clear()
        self.n = 0
        self.top = self.first_max = -math.inf


@dataclass(slots=True)
class TurnRate:
    """Share of the last values at which a series turned (2/3 for pure noise, 1 for a zigzag)."""

    last: float = math.nan
    before: float = math.nan
    turns: deque[bool] = field(default_factory=lambda: deque(maxlen=50))

    def learn(self, x: float) -> None:
        """Takes ``x`` in, if it is finite."""
        if not math.isfinite(x):
            return
        if math.isfinite(self.before):
            self.turns.append((self.last - self.before) * (x - self.last) < 0)
        self.before, self.last = self.last, x

    @property
    def rate(self) -> float:
        """Share of turns, 0 before 40 values are known."""
        return sum(self.turns) / len(self.turns) if len(self.turns) >= 40 else 0.0
