"""Actions as data, and how many of them there may be. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigError

__all__ = ["Action", "Budget", "Purse"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One thing that was done, as it stands in the audit list.

    ``kind`` is ``clip``, ``clip_freeze``, ``skip``, ``lr_cut``, ``lr_recover`` or ``stop``. ``old`` and ``new`` are what
    was changed (a limit, a multiplier), None where nothing has a value; ``bounds`` what the script allowed.
    """

    kind: str
    step: int
    reason: str
    old: float | None = None
    new: float | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As the data of a mark."""
        return {
            "action": self.kind,
            "reason": self.reason,
            "old": self.old,
            "new": self.new,
            "bounds": dict(self.bounds),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much may be done before training stops instead: the trouble is then not one that an action mends.

    Clipping is not counted: it is what the script does anyway, with another limit.
    """

    actions: int = 3
    """Most cuts of the learning rate and stretches of skipped steps within ``window`` steps."""

    window: int = 1000

    skips: int = 5
    """Most steps skipped one after the other."""

    def __post_init__(self) -> None:
        if self.actions < 1 or self.window < 1 or self.skips < 1:
            raise ConfigError("Budget(actions=, window=, skips=) takes whole numbers from 1 on")


class Purse:
    """What is left of a :class:`Budget`."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._spent: deque[int] = deque()
        self._in_a_row = 0
        self._last_skip = -2

    def allows(self, step: int) -> bool:
        """Whether one more action is in the budget."""
        while self._spent and self._spent[0] <= step - self._budget.window:
            self._spent.popleft()
        return len(self._spent) < self._budget.actions

    def spend(self, step: int) -> None:
        """An action was taken."""
        self._spent.append(step)

    def skip(self, step: int) -> str:
        """A step was skipped; gives why training should stop, "" to go on. A stretch of skips is one action."""
        self._in_a_row = self._in_a_row + 1 if step == self._last_skip + 1 else 1
        self._last_skip = step
        budget = self._budget
        if self._in_a_row > budget.skips:
            return f"{self._in_a_row} steps in a row had gradients that are not finite; at most {budget.skips} may be skipped"
        if self._in_a_row == 1:
            if not self.allows(step):
                return (
                    f"more than {budget.actions} actions within {budget.window} steps: the last one is a step whose "
                    "gradients are not finite"
                )
            self.spend(step)
        return ""

    @property
    def skipping(self) -> int:
        """How many steps in a row have been skipped."""
        return self._in_a_row
