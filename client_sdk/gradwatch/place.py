"""Where a process stands among those that train one model together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .protocol import Statistic

__all__ = ["LOCAL_EVERY", "LOCAL_NORM", "Place"]

LOCAL_EVERY: Final = 50
"""Steps between a replicated rank's samples of its own norm. The first is at step 50."""

LOCAL_NORM: Final = Statistic(name="local_grad_norm", scope="run", dtype="f8", cadence=LOCAL_EVERY)
"""A rank's own gradient norm, before gradients are averaged over the ranks."""


@dataclass(frozen=True, slots=True)
class Place:
    """``parts``: every rank sends each step what it holds, and the server merges; otherwise ranks hold the same, the first
    sends each step, and the others their own norms now and then."""

    rank: int = 0
    world: int = 1
    parts: bool = False

    @property
    def replicated(self) -> bool:
        """Whether there are others that hold the same."""
        return self.world > 1 and not self.parts
