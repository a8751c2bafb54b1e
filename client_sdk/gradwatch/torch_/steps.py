"""Counting steps when several optimizers share a run, and finding the step that a logged scalar belongs to. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

__all__ = ["UNKNOWN", "Steps"]

UNKNOWN: Final = -1
"""An optimizer that has not stepped yet."""


class Steps:
    """A *step* is an attempted optimizer step, counted from ``start_step``.

    Optimizers are small integers. A new step begins when one of them steps that already stepped in the current step,
    or when the current step was closed (its frame has left).
    """

    def __init__(self, start_step: int) -> None:
        self._start = start_step
        self.current = start_step - 1
        """The step being taken or just taken; ``start_step - 1`` before the first."""
        self._stepped: set[int] = set()
        self.backward: set[int] = set()
        """Optimizers whose parameters got gradients since the last step."""
        self.closed = True
        """Whether whoever steps now begins a new step."""

    @property
    def next_step(self) -> int:
        """The step that begins next."""
        return self.current + 1

    def begins_new(self, optimizer: int) -> bool:
        """Whether a step of ``optimizer`` now would begin a new step."""
        return self.closed or optimizer in self._stepped

    def begin(self, optimizer: int) -> int:
        """The step that ``optimizer`` now takes part in."""
        if self.begins_new(optimizer):
            self.current += 1
            self._stepped.clear()
            self.closed = False
        self._stepped.add(optimizer)
        return self.current

    def pass_by(self, optimizer: int) -> None:
        """A whole step of the only optimizer: it begins, is taken and closed."""
        self.current += 1
        self._stepped = {optimizer}
        self.backward.clear()

    def taken(self) -> None:
        """An optimizer has stepped. What backwards before it wrote into the parameters of others does not count."""
        self.backward.clear()

    def complete(self, known: Collection[int]) -> bool:
        """Whether all ``known`` optimizers have stepped in the current step."""
        return self._stepped.issuperset(known)

    def close(self) -> None:
        """The frame of the current step has left; whoever steps now begins a new one."""
        self.closed = True

    def saw_backward(self, optimizer: int) -> None:
        """A parameter of ``optimizer`` got a gradient; :data:`UNKNOWN` if nobody knows whose it is."""
        self.backward.add(optimizer)

    def scalar_step(self) -> int:
        """The step that a scalar logged now belongs to.

        After a backward since the last step it is the coming step, otherwise the step just taken. With several
        optimizers the coming step is the current one while an optimizer that has seen a backward has not stepped in it
        (the generator's turn after the discriminator's).
        """
        if self.current < self._start:
            return self._start
        if not self.backward:
            return self.current
        if not self.closed and not self._stepped.issuperset(self.backward):
            return self.current
        return self.current + 1
