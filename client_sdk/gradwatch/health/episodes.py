"""One stretch of a raised loss: when it began, how high it went, and whether it looks like new data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Final

from .baseline import median
from .losses import NORMAL, LossTrack

__all__ = ["Episode"]

_YOUNG: Final = 5
_PATIENT: Final = 15
_LONG: Final = 300
"""Losses after which what was a jump is the new normal."""
_BEYOND: Final = 4.0
"""Times the loss at the start: new data of the same kind is not that far off."""


@dataclass(slots=True)
class Episode:
    """Open from the first raised loss until 70 % of the rise is gone.

    A jump that falls again while neither LR nor updates rose looks like new data (a harder stretch, a new task), not like
    divergence: :meth:`fresh` and :meth:`falling` tell. How much of the jump may be left shrinks with its age in losses.
    """

    reference: float = math.nan
    peak: float = 0.0
    onset: int = -1
    age: int = 0

    @property
    def open(self) -> bool:
        """Whether the loss is in such a stretch."""
        return self.reference == self.reference

    def fresh(self, loss: LossTrack) -> bool:
        """Too young to tell a jump that falls from one that stays; a loss beyond any start is told sooner."""
        return self.age < (_YOUNG if loss.near3 > _BEYOND * loss.start else _PATIENT)

    def falling(self, loss: LossTrack) -> bool:
        """Whether as much of the jump is gone as new data would have lost by now, and more goes.

        What is left is measured against the loss at the start where that is lower: a task that is as new as the first one
        was begins there, however high the first surprise.
        """
        if not self.open or self.age > _LONG or self._idle(loss):
            return False
        left = 0.9 if self.age <= 20 else 0.7 if self.age <= 30 else 0.5 if self.age <= 60 else 0.35
        if loss.near3 - self.reference >= left * (self.peak - self.reference):
            return False
        recovered = loss.near - self.reference < 0.3 * self._whole(loss)
        return self.age <= 60 or recovered or loss.ago(0, 20) < 0.95 * loss.ago(40, 20)

    def _idle(self, loss: LossTrack) -> bool:
        """Whether it stands where a run begins, for twice as long as this one took to leave that place at first, and falls no
        more."""
        long = 0 < 2 * loss.fell_at < self.age and loss.near > 0.8 * loss.start
        return long and not loss.ago(0, 15) < 0.95 * loss.ago(15, 15)

    def lasting(self, loss: LossTrack) -> bool:
        """Whether the loss still stands clearly above what it was before, whatever its baseline has learnt since."""
        above = loss.near - self.reference
        return self.open and self.age > 60 and above > max(0.2 * abs(loss.scale), 0.5 * self.reference)

    def learn(self, loss: LossTrack) -> None:
        """Takes the newest loss in, after ``loss`` has."""
        if not self.open:
            if loss.level == NORMAL and not loss.raised():
                return
            self.reference, self.age = loss.base, 0
            last = list(islice(loss.recent, max(len(loss.recent) - 14, 0), None))
            self.peak = max(median(last[n : n + 3]) for n in range(max(len(last) - 2, 1)))
            self.onset = self._began(loss)
        self.age += 1
        self.peak = max(self.peak, loss.near3)
        low = loss.near3 < self.reference + 0.3 * self._whole(loss)
        if loss.level == NORMAL and (low or self.age > _LONG) or not math.isfinite(self.peak):
            self.reference = math.nan

    def _whole(self, loss: LossTrack) -> float:
        """The jump, but no more than to where a new task begins."""
        top = min(self.peak, loss.start) if loss.start > self.reference else self.peak
        return top - self.reference

    def _began(self, loss: LossTrack) -> int:
        limit = self.reference + 0.5 * (self.peak - self.reference)
        back = 0
        for value in islice(reversed(loss.recent), 0, 40):
            if value < limit:
                break
            back += 1
        gap = 1.0 if loss.gap != loss.gap else loss.gap
        return max(int(loss.step - (max(back, 1) - 1) * gap), 0)
