"""What watching costs in the training thread, measured by itself."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Costs"]


class Costs:
    """Seconds spent in our calls, per step, over the last ``window`` steps."""

    def __init__(self, window: int = 128) -> None:
        self._begun: float | None = None
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=window)
        self.spent = 0.0
        """Seconds spent in the step in progress; whoever spends them adds them."""
        self.sampling = 0.0
        """Of those, the seconds for sampled statistics."""

    def lap(self, now: float) -> float | None:
        """A step begins, and so ends the one before it: the seconds that this took in all, None for the first."""
        last, self._begun = self._begun, now
        if last is None:
            return None
        self._steps.append((self.spent, self.sampling, now - last))
        self.spent = self.sampling = 0.0
        return now - last

    @property
    def step_time(self) -> float:
        """Mean seconds of a step; infinite before the second one."""
        return sum(step[2] for step in self._steps) / len(self._steps) if self._steps else math.inf

    @property
    def fixed(self) -> float:
        """Mean seconds of a step that go into what is measured at every step; 0 before the second one."""
        return sum(step[0] - step[1] for step in self._steps) / len(self._steps) if self._steps else 0.0

    def summary(self) -> dict[str, float]:
        """``us_per_step`` (mean) and ``share_of_step``; empty before the second step."""
        spent = sum(step[0] for step in self._steps)
        whole = sum(step[2] for step in self._steps)
        if not whole:
            return {}
        return {"us_per_step": 1e6 * spent / len(self._steps), "share_of_step": spent / whole}
