"""Which optimizers are between the two hooks of a step right now. Pure but for weak references."""

from __future__ import annotations

import weakref
from typing import Any

__all__ = ["Stepping"]


class Stepping:
    """Steps in progress, the outermost first. A step that raises is never left, and goes when its optimizer steps again.

    An optimizer around another one (SAM, Lookahead) and the one inside have one number, and the outermost that steps makes
    the step. Where it takes a closure, its gradients are known only afterwards; the one inside may have made the step then.
    """

    def __init__(self) -> None:
        self.now: list[tuple[int, weakref.ref[Any]]] = []
        """By number."""
        self.late: list[tuple[int, weakref.ref[Any]]] = []
        """Those by a closure, with the step that was the newest when they began."""

    def enter(self, number: int, optimizer: Any) -> bool:
        """``optimizer`` begins to step; False if one around it has begun already."""
        for at, (other, ref) in enumerate(self.now):
            if ref() is optimizer or ref() is None:
                del self.now[at:]
                break
            if other == number:
                return False
        self.now.append((number, weakref.ref(optimizer)))
        return True

    def leave(self, optimizer: Any) -> bool:
        """It has stepped; whether it was let in."""
        for at, (_, ref) in enumerate(self.now):
            if ref() is optimizer:
                del self.now[at:]
                return True
        return False

    def enter_late(self, optimizer: Any, step: int) -> None:
        """It begins to step by a closure, while ``step`` is the newest."""
        self.late = [(before, ref) for before, ref in self.late if ref() not in (None, optimizer)]
        self.late.append((step, weakref.ref(optimizer)))

    def leave_late(self, optimizer: Any, step: int) -> bool:
        """It has stepped by a closure, and ``step`` is the newest now; False if that is a step made inside."""
        for at, (before, ref) in enumerate(self.late):
            if ref() is optimizer:
                del self.late[at]
                return step == before
        return False
