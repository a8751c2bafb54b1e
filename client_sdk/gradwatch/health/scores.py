"""Numbers to compare runs by: spike scores, the first bad step, the share of clipped steps; and what a clip limit would do."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .memory import Memory

__all__ = ["Scores", "WhatIf", "what_if"]

_WINDOW: Final = 1000
_SIGMAS: Final = 7.0


@dataclass(slots=True)
class Scores:
    """Counters over a whole run, updated once per frame, with bounded memory.

    ``olmo_spikes`` counts norms at least 7 standard deviations above the mean of the 1,000 before (OLMo 2, arXiv
    2501.00656); non-finite norms are counted as spikes, but not learnt. Sums are renewed from the window now and then, so
    rounding cannot build up.
    """

    frames: int = 0
    judged: int = 0
    olmo_spikes: int = 0
    spikes: int = 0
    clip_known: int = 0
    clipped: int = 0
    first_bad_step: int = -1
    window: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    total: float = 0.0
    squares: float = 0.0

    def learn(self, memory: Memory, coef: float, spike: bool) -> None:
        """Takes one frame in; ``coef`` is the clip coefficient or NaN, ``spike`` what our own detector says."""
        self.frames += 1
        self.spikes += spike
        if coef == coef:
            self.clip_known += 1
            self.clipped += coef < 0.999
        norm = memory.total
        if len(self.window) >= 128:
            self.judged += 1
            mean = self.total / len(self.window)
            sigma = math.sqrt(max(self.squares / len(self.window) - mean * mean, 0.0))
            self.olmo_spikes += not norm <= mean + _SIGMAS * sigma + 1e-12 * abs(mean)
        if math.isfinite(norm) and abs(norm) < 1e150:
            self._push(norm)

    def _push(self, norm: float) -> None:
        if len(self.window) == _WINDOW:
            old = self.window[0]
            self.total -= old
            self.squares -= old * old
        self.window.append(norm)
        self.total += norm
        self.squares += norm * norm
        if self.frames % _WINDOW == 0:
            self.total = math.fsum(self.window)
            self.squares = math.fsum(v * v for v in self.window)

    def numbers(self) -> dict[str, Any]:
        """Spike scores in spikes per 1,000 steps (None before any step was judged), first bad step or None, clipped share."""
        return {
            "frames": self.frames,
            "spike_score_olmo2": 1000.0 * self.olmo_spikes / self.judged if self.judged else None,
            "spike_score": 1000.0 * self.spikes / self.frames if self.frames else None,
            "first_bad_step": self.first_bad_step if self.first_bad_step >= 0 else None,
            "clipped_share": self.clipped / self.clip_known if self.clip_known else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What a clip limit would have done: which of the given steps it clips, and the limit that we would choose."""

    max_norm: float
    steps: tuple[int, ...]
    share: float
    suggested: float


def what_if(
    steps: Sequence[int] | npt.NDArray[Any],
    norms: Sequence[float] | npt.NDArray[Any],
    *,
    max_norm: float | None = None,
    percentile: float | None = None,
    usual: npt.NDArray[np.bool_] | None = None,
) -> WhatIf:
    """The effect of clipping by norm on stored pre-clip norms ``[n]`` at ``steps`` ``[n]``.

    Give ``max_norm``, or a ``percentile`` (0-100) of the finite norms, or neither for the suggested limit: 1.5 times
    their 95th percentile (science notes, 5). A non-finite norm counts as clipped. ``usual`` says which steps ``[n]`` were as
    usual (all when left out): the limit is suggested by these, and by the calmest twentieth where there are none.

    Raises:
        ValueError: both are given, or there is no finite norm to judge by.
    """
    values = np.asarray(norms, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if max_norm is not None and percentile is not None:
        raise ValueError("give max_norm or percentile, not both")
    if not len(finite):
        raise ValueError("there is no finite norm in this range; choose a longer one")
    calm = finite if usual is None else values[np.isfinite(values) & usual]
    suggested = 1.5 * float(np.percentile(calm, 95) if len(calm) else np.percentile(finite, 5))
    limit = float(np.percentile(finite, percentile)) if percentile is not None else max_norm
    limit = suggested if limit is None else float(limit)
    hit = ~(values <= limit)
    at = np.asarray(steps)
    return WhatIf(
        max_norm=limit,
        steps=tuple(int(s) for s in at[hit]),
        share=float(hit.mean()),
        suggested=suggested,
    )
