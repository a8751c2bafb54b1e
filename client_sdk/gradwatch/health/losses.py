"""The loss of a run: its baseline, its level now, and whether it has improved. One pass, bounded memory."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from .baseline import TurnRate, level_and_spread, median
from .climbs import Climb

__all__ = ["CRITICAL", "ELEVATED", "NORMAL", "RAISED", "LossTrack"]

NORMAL: Final = 0
RAISED: Final = 1
"""Above its baseline for some steps: enough to corroborate, not to speak alone."""
ELEVATED: Final = 2
"""Clearly worse than before, relative to the loss at the start."""
CRITICAL: Final = 3

_BASE: Final = 100
_NEAR: Final = 10


@dataclass(slots=True)
class LossTrack:
    """Level test of the science notes (D4): the median of the last 10 against the 100 before, anchored to the first loss.

    ``scale`` is the loss at the start (median of the first 20), or, for losses that go below zero, the spread of the
    first 100; ``base`` and ``spread`` the centre and scale of the baseline; ``near`` the median of the last 10.
    """

    n: int = 0
    step: int = -1
    bad: int = 0
    value: float = math.nan
    signed: bool = False
    scale: float = math.nan
    start: float = math.nan
    base: float = math.nan
    spread: float = 0.0
    near: float = math.nan
    near3: float = math.nan
    best: float = math.inf
    best_step: int = -1
    level: int = NORMAL
    in_row: int = 0
    frozen: int = 0
    gap: float = math.nan
    first: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_BASE + _NEAR))
    fell_at: int = 0
    """How many losses it took at first to fall to 80 % of the start; 0 before that."""
    long: deque[float] = field(default_factory=lambda: deque(maxlen=400))
    gaps: deque[int] = field(default_factory=lambda: deque(maxlen=5))
    turn: TurnRate = field(default_factory=TurnRate)
    climb: Climb = field(default_factory=Climb)

    def learn(self, step: int, value: float, rate: float = math.nan) -> None:
        """Takes one loss in, with the learning rate where it is known, and judges it. A non-finite one only counts."""
        if self.step >= 0 and step > self.step:
            self.gaps.append(step - self.step)
            if self.gaps.count(step - self.step) < 3 or self.gap != step - self.step:
                self.gap = median(self.gaps)
        self.step, self.value = step, value
        if not math.isfinite(value):
            self.bad += 1
            return
        self.bad = 0
        self.n += 1
        self.recent.append(value)
        self.long.append(value)
        self.turn.learn(value)
        self.climb.learn(rate, self.long)
        self.signed = self.signed or value < 0
        self._anchor(value)
        self._judge()

    def restart(self) -> None:
        """A new phase: what came before is no baseline any more."""
        self.n = 0
        self.recent.clear()
        self.long.clear()
        self.turn.turns.clear()
        self.climb.restart()
        self.first = []
        self.level, self.in_row, self.frozen, self.best = NORMAL, 0, 0, math.inf
        self.fell_at = 0
        self.scale = self.start = self.base = math.nan

    @property
    def improved(self) -> float:
        """Share of the loss at the start that is gone by now (negative when it got worse); NaN before 20 values."""
        if self.n < 20 or self.signed or not self.start > 0:
            return math.nan
        return 1.0 - self.near / self.start

    @property
    def sunk(self) -> bool:
        """Whether a loss below zero is lower than at its start, and not far from its best."""
        return self.signed and self.n >= 20 and self.near < min(self.start, 0.5 * self.best)

    def sinking(self, times: float) -> bool:
        """Whether a loss below zero goes on falling, and is beyond ``times`` the largest of the first 20."""
        if self.n < 30 or not self.signed:
            return False
        return self.near < self.ago(20) and self.near < -times * max(map(abs, self.first[:20]))

    def ago(self, losses: int, over: int = _NEAR) -> float:
        """Median of the ``over`` losses up to the one ``losses`` before the newest, NaN when there were not so many."""
        end = len(self.recent) - losses
        return median(islice(self.recent, max(end - over, 0), end)) if end > 0 else math.nan

    def raised(self) -> bool:
        """Whether the last 3 values stand above the baseline: corroborates what a gradient says."""
        if 3 <= self.n < 8:
            return min(self.first[-2:]) > 3.0 * self.first[0] > 0
        if self.n < 8 or not math.isfinite(self.base):
            return False
        above = self.near3 - self.base
        ratio = self.signed or self.near3 > 1.2 * self.base
        return ratio and above > 3 * self.spread and above > 0.05 * abs(self.scale)

    def _anchor(self, value: float) -> None:
        if self.n > _BASE:
            return
        self.first.append(value)
        if self.n <= 20:
            self.start = median(self.first)
        if self.signed:
            ordered = sorted(self.first)
            self.scale = ordered[int(0.95 * (len(ordered) - 1))] - ordered[int(0.05 * (len(ordered) - 1))]
        else:
            self.scale = self.start
        if self.n == _BASE:
            self.first = self.first[:20]

    def _judge(self) -> None:
        size = len(self.recent)
        tail = list(islice(reversed(self.recent), _NEAR))
        self.near = median(tail)
        self.near3 = median(tail[:3])
        if not self.fell_at and self.n > 20 and self.near < 0.8 * self.start:
            self.fell_at = self.n
        if self.n >= _NEAR and self.near < self.best:
            self.best, self.best_step = self.near, self.step
        hint = self.near3 > self.base + 0.02 * abs(self.scale) + 1.5 * self.spread
        # While the loss stands high, its baseline must not learn that; not for ever, for a new normal is possible.
        self.frozen = self.frozen + 1 if self.level >= ELEVATED and self.frozen < 60 else 0
        if not self.frozen and (self.n % 10 == 0 or hint or not math.isfinite(self.base)):
            self._baseline(size)
        level = self._level(size)
        climb = self.climb
        climbing = level < ELEVATED and climb.beyond and not self.signed
        if climbing and climb.above(median(tail[:6]), abs(self.scale)):
            self.base, self.spread = climb.base, climb.spread
            level = max(self._level(size), ELEVATED)
        self.in_row = self.in_row + 1 if level >= RAISED else 0
        self.level = NORMAL if level == RAISED and self.in_row < 5 else level

    def _baseline(self, size: int) -> None:
        keep = size - _NEAR if size >= 40 else size - 3
        if keep < 5:
            return
        self.base, self.spread = level_and_spread(list(islice(self.recent, 0, keep)))

    def _level(self, size: int) -> int:
        if not math.isfinite(self.base):
            return NORMAL
        if size < _BASE + _NEAR:
            return self._early_level(size)
        above, s, a = self.near - self.base, self.spread, abs(self.scale)
        times = math.inf if self.signed else self.near / self.base if self.base > 0 else math.inf
        if above > 4 * s and times > 1.5 and above > 0.2 * a:
            return CRITICAL
        if not self.signed and self.base >= 0.2 * a and above > 2.5 * s and times > 1.05 and above > 0.03 * a:
            return ELEVATED
        if above > 6 * s and times > 1.5 and above > 0.1 * a:
            return RAISED
        return NORMAL

    def _early_level(self, size: int) -> int:
        """Before 110 values: only what is far above everything so far (a falling start makes a high baseline)."""
        if self.signed or size < 10:
            return NORMAL
        if self.n < 40 and self._soared():
            return ELEVATED
        now = self.near if size >= 40 else median(islice(self.recent, size - 5, size))
        above = now - self.base
        if above > 6 * self.spread and now > 2.0 * self.base and above > 0.5 * abs(self.scale):
            return CRITICAL if now > 3.0 * self.base else RAISED
        return self._never_better()

    def _soared(self) -> bool:
        """Whether all of the last ten stand far above the first three: a start that no overshoot of a warm-up explains."""
        began = median(self.first[:3])
        low = min(islice(reversed(self.recent), _NEAR))
        if not (began > 0 and self.n >= _NEAR + 2 and low > 1.5 * began and self.near > 2.5 * began):
            return False
        self.base = began
        return True

    def _never_better(self) -> int:
        """Above where it began, and never below: what a rate that is too high from the start looks like.

        A loss that wanders at first may have been a little below; it is told once it is three times where it began.
        """
        if self.n < 40:
            return NORMAL
        began = median(self.first[:3])
        above = self.near > 1.5 * began and self.best > 1.2 * began
        far = self.near > 3.0 * began and self.best > 0.8 * began
        if not (began > 0 and (above or far)):
            return NORMAL
        self.base = began
        return ELEVATED
