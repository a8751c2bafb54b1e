"""The one place with a broad ``except``: nothing that gradwatch does may break the training it watches.

Every entry from the training loop (hooks, ``run.log``), the sender's loop and the exit handlers go through a
:class:`Shield`. It lets through :class:`~gradwatch.errors.GradwatchStop`, the stop that the user asked for, and
``KeyboardInterrupt`` and ``SystemExit``, which are not ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from .errors import GradwatchStop

__all__ = ["Shield", "observe"]

P = ParamSpec("P")
R = TypeVar("R")

_observers: list[Callable[[str, Exception], None]] = []


def observe(observer: Callable[[str, Exception], None]) -> Callable[[], None]:
    """Calls ``observer(where, error)`` for every error any shield swallows; gives a function that ends it.

    The test suite uses it to raise at the end of a test what a shield swallowed during it.
    """
    _observers.append(observer)
    return lambda: _observers.remove(observer)


class Shield:
    """Swallows errors, counts them per place, tells once, and trips after ``limit`` of them.

    Args:
        tell: gets one sentence at the first error of each place, and one when the shield trips.
        limit: how many errors, over all places, until :attr:`tripped`.
        on_trip: called once when that happens; it should make gradwatch inert.
    """

    def __init__(
        self, tell: Callable[[str], None], *, limit: int = 5, on_trip: Callable[[], None] = lambda: None
    ) -> None:
        self.counts: dict[str, int] = {}
        self.tripped = False
        self._tell = tell
        self._limit = limit
        self._on_trip = on_trip

    def wrap(self, fn: Callable[P, R], where: str) -> Callable[P, R | None]:
        """``fn`` made harmless: gives None where ``fn`` raised, and once the shield is tripped. ``where`` names the place."""

        @functools.wraps(fn)
        def shielded(*args: P.args, **kwargs: P.kwargs) -> R | None:
            if self.tripped:
                return None
            try:
                return fn(*args, **kwargs)
            except GradwatchStop:
                raise
            except Exception as error:  # noqa: BLE001 - this file is where it is allowed
                self.caught(where, error)
                return None

        return shielded

    def guard(self, where: str) -> _Guard:
        """A context manager that swallows what its body raises. The body runs even when the shield is tripped."""
        return _Guard(self, where)

    def attempt(self, fn: Callable[[], R], where: str) -> R | None:
        """What ``fn`` gives, None where it raised; it runs even when the shield is tripped."""
        with self.guard(where):
            return fn()
        return None

    def caught(self, where: str, error: Exception) -> None:
        """Counts an error, tells it if it is the first of its place, and trips if it is one too many."""
        self.counts[where] = self.counts.get(where, 0) + 1
        for observer in list(_observers):
            observer(where, error)
        if self.counts[where] == 1:
            self._say(f"something went wrong in {where} ({_sentence(error)}); training goes on")
        if not self.tripped and sum(self.counts.values()) >= self._limit:
            self.tripped = True
            self._say("too much went wrong: gradwatch stops watching this run; training goes on")
            self._quietly(self._on_trip)

    def _say(self, text: str) -> None:
        self._quietly(lambda: self._tell(text))

    @staticmethod
    def _quietly(action: Callable[[], None]) -> None:
        """A broken terminal or a failing clean-up must not break training either."""
        try:
            action()
        except Exception:  # noqa: BLE001
            return


class _Guard:
    def __init__(self, shield: Shield, where: str) -> None:
        self._shield = shield
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, GradwatchStop):
            return False
        self._shield.caught(self._where, error)
        return True


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
