"""The state machine of a rule, for many series and many steps at once.

Per series: *normal* until ``for_steps`` values in a row breach (*pending* meanwhile), then *firing* until
``recover_steps`` values in a row are fine (*recovering* meanwhile). A value that says nothing (absent, NaN) holds
everything as it is. So the state is two numbers: whether the series is active (firing or recovering), and how far it is
on its way to the other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..models import InstanceState

HOLD: Final = -1
FINE: Final = 0
BREACH: Final = 1
"""Verdicts on one value, int8."""

Bools = npt.NDArray[np.bool_]
Verdicts = npt.NDArray[np.int8]


@dataclass(slots=True, eq=False)
class Instances:
    """State of ``w`` series: ``active`` bool ``[w]``; ``count`` int64 ``[w]``, values in a row towards the other side."""

    active: Bools
    count: npt.NDArray[np.int64]

    @classmethod
    def fresh(cls, width: int) -> Instances:
        """All normal."""
        return cls(np.zeros(width, np.bool_), np.zeros(width, np.int64))

    @property
    def busy(self) -> Bools:
        """Series that are not normal: fine values matter to them."""
        return self.active | (self.count > 0)

    def state(self, index: int) -> InstanceState:
        """The state of one series by its name."""
        if self.active[index]:
            return "recovering" if self.count[index] else "firing"
        return "pending" if self.count[index] else "normal"

    def worst(self) -> InstanceState:
        """The state of the rule: that of its worst series."""
        if self.active.any():
            return "firing" if (self.active & (self.count == 0)).any() else "recovering"
        return "pending" if self.count.any() else "normal"

    def grow(self, width: int) -> None:
        """Adds normal series at the end, up to ``width``."""
        extra = width - self.active.size
        self.active = np.concatenate([self.active, np.zeros(extra, np.bool_)])
        self.count = np.concatenate([self.count, np.zeros(extra, np.int64)])

    def take(self, columns: npt.NDArray[np.intp]) -> Instances:
        """A copy of some of the series."""
        return Instances(self.active[columns], self.count[columns])

    def put(self, columns: npt.NDArray[np.intp], other: Instances) -> None:
        """Writes back what :meth:`take` took."""
        self.active[columns] = other.active
        self.count[columns] = other.count


def advance(instances: Instances, verdicts: Verdicts, for_steps: int, recover_steps: int) -> Bools:
    """Takes the series through ``verdicts`` int8 ``[n, w]`` (n >= 1) and returns whether each is active after each step.

    Changes ``instances`` to the state after the last step. The result doesn't depend on how steps are cut into calls:
    being active is decided by whichever came last, ``for_steps`` breaches in a row or ``recover_steps`` fine values.
    """
    breach = verdicts == BREACH
    fine = verdicts == FINE
    towards_firing = np.where(instances.active, 0, instances.count)
    towards_normal = np.where(instances.active, instances.count, 0)
    breaches = _in_a_row(breach, fine, towards_firing)
    fines = _in_a_row(fine, breach, towards_normal)
    fires = breach & (breaches >= for_steps)
    clears = fine & (fines >= recover_steps)
    order = 2 * np.arange(1, len(verdicts) + 1, dtype=np.int64)[:, None]
    latest = np.maximum.accumulate(np.where(fires, order + 1, np.where(clears, order, 0)), axis=0)
    active: Bools = np.where(latest > 0, (latest & 1).astype(np.bool_), instances.active)
    instances.active = active[-1].copy()
    instances.count = np.where(instances.active, fines[-1], breaches[-1])
    return active


def _in_a_row(what: Bools, ends: Bools, before: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many times in a row ``what`` was true at each step, ``ends`` being what ends a row; ``before`` is carried in."""
    total = np.cumsum(what, axis=0, dtype=np.int64)
    start = np.maximum.accumulate(np.where(ends, total, -before), axis=0)
    return total - start
