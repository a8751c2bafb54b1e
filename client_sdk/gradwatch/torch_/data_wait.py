"""How long the training thread is inside ``next()`` of its DataLoaders: loading without workers, waiting with them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from torch.utils.data import dataloader

from . import forked

__all__ = ["DataWait"]


class DataWait:
    """Adds two looks at the clock to each ``next()`` of any DataLoader of this process.

    Args:
        timer: seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self._timer = timer
        self._seconds: float | None = None

    def __call__(self) -> float | None:
        """Seconds so far, None while no loader has been used."""
        return self._seconds

    def attach(self) -> Callable[[], None]:
        """From now on, until what it gives is called."""
        kind: Any = dataloader._BaseDataLoaderIter
        before, timer, generation = kind.__next__, self._timer, forked.generation()

        @functools.wraps(before)
        def measured(iterator: Any) -> Any:
            if forked.in_child(generation):
                return before(iterator)
            begun = timer()
            try:
                return before(iterator)
            finally:
                self._seconds = (self._seconds or 0.0) + timer() - begun

        def undo() -> None:
            # Somebody else who came later keeps their place; ours then only passes on.
            if kind.__next__ is measured:
                kind.__next__ = before

        kind.__next__ = measured
        return undo
