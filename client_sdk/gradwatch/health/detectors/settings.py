"""Settings that cannot work: initial weights of the wrong size, steps that wipe them out, a clip limit that cuts every step."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..baseline import median
from ..incidents import Evidence, Finding, Origin, Severity
from ..layout import Layout
from ..memory import Memory

__all__ = ["BadInit", "ClipTooTight", "Outgrown"]


@dataclass(slots=True)
class BadInit:
    """Initial weights whose std x sqrt(fan-in) is far from every known scheme, in 30 % of the matrices.

    He gives 1.41, Xavier about 1, torch's Linear 0.58, depth-scaled output projections down to 0.08. Info until the loss
    shows that it hurts. Zero matrices count only when nearly all are zero (adapters and gates start at zero on purpose).
    """

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding during the first 64 frames."""
        if memory.frames > 128 or memory.frames not in (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128):
            return None
        if memory.frame is None or memory.frame.step > 256:
            return None
        gains = layout.gains()
        if len(gains) < 2:
            return None
        value = np.array([g for _, g in gains])
        large, zero = value > 3.0, value == 0.0
        small = (value < 0.03) & ~zero
        if large.mean() < 0.3 and small.mean() < 0.3 and zero.mean() < 0.8:
            return None
        which = large if large.mean() >= 0.3 else small if small.mean() >= 0.3 else zero
        hit = [i for (i, _), bad in zip(gains, which, strict=True) if bad]
        usual = float(np.median(value[which]))
        word = "too large" if large is which else "too small" if small is which else "constant"
        text = (
            f"{len(hit)} of {len(gains)} weight matrices start {word}: std x sqrt(fan-in) is {usual:.3g} "
            "(He init gives 1.41, Xavier about 1)."
        )
        lead = layout.tensors[min(hit, key=lambda i: layout.depth[i])]
        return Finding(
            detector="bad_init",
            kind="bad_init",
            severity=self._severity(memory, large is which),
            step=0,
            tensors=tuple(hit),
            evidence=(Evidence(text, {"gain": usual, "matrices": float(len(hit))}),),
            origin=Origin(step=0, where="depth", tensor=lead.name, module=lead.module, followed=len(hit) - 1),
        )

    @staticmethod
    def _severity(memory: Memory, large: bool) -> Severity:
        loss = memory.loss
        known = loss.n >= 20
        # Weights that are too large make a first loss that is only their own size; it falls, but time is lost.
        wasted = large and known and loss.start > 0 and median(loss.first[:5]) > 5.0 * loss.near
        stuck = known and loss.improved < 0.05
        return "warning" if stuck or wasted or loss.raised() else "info"


@dataclass(slots=True)
class ClipTooTight:
    """Clipping that cuts 95 % of the last 50 steps to less than a tenth.

    Under Adam and its kin a constant factor cancels out: info only.
    """

    factors: deque[float] = field(default_factory=lambda: deque(maxlen=50))

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding every tenth frame while it holds."""
        factor = self._factor(memory)
        if factor != factor:
            return None
        self.factors.append(factor)
        if len(self.factors) < 50 or memory.frames % 5:
            return None
        clipped = sum(1 for f in self.factors if f < 0.999) / len(self.factors)
        usual = median(self.factors)
        if clipped < 0.95 or usual >= 0.1:
            return None
        sgd = layout.family == "sgd"
        slow = not memory.loss.improved >= 0.3
        severity: Severity = "warning" if sgd and slow else "info"
        limit = memory.frame.number("clip_limit") if memory.frame is not None else math.nan
        at = f" at {limit:.3g}" if limit == limit else ""
        text = (
            f"Clipping{at} cut {100 * clipped:.0f} % of the last 50 gradients, to {100 * usual:.2g} % of their size "
            f"(the norm before clipping is about {median(memory.raw):.3g})."
        )
        return Finding(
            detector="clip_too_tight",
            kind="clip_too_tight",
            severity=severity,
            step=max(memory.step - 50, 0),
            evidence=(Evidence(text, {"clipped": clipped, "factor": usual}),),
            origin=Origin(step=max(memory.step - 50, 0), where="model"),
        )

    @staticmethod
    def _factor(memory: Memory) -> float:
        frame = memory.frame
        if frame is None or not memory.total > 0 or memory.overflow or not memory.finite:
            return math.nan
        coef = frame.number("clip_coef")
        if coef == coef:
            return min(coef, 1.0)
        limit = frame.number("clip_limit")
        return min(limit / memory.total, 1.0) if limit == limit else math.nan


_OUTGROWN: Final = ((0.7, 3.0), (0.5, 5.0))
"""While more than this share of the first loss is left, a matrix has no reason to reach so many times its initial norm in 200
steps. In the 1,332 healthy runs of three seeds of the benchmark of silence three quarters of the matrices stay below 1.3 times
until the loss has lost 30 %, and below 2.6 times until it has lost half."""


@dataclass(slots=True)
class Outgrown:
    """Steps so long that they wiped out the initial weights, while the loss has gained little by it.

    Gradients need not explode for that, nor the loss rise: normalisation and adaptive optimizers hide both. Matrices that
    start far below every known scheme (gates, adapters, a bad init) are not counted: they have to grow.
    """

    told: bool = False

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at a sample of the weights, first among frames 20 to 200, then as long as the loss stays high."""
        if memory.frame is None or "weight_norm" not in memory.frame.rows:
            return None
        limit = self._limit(memory)
        if not (self.told or 20 <= memory.since <= 200) or limit != limit:
            self.told = False
            return None
        counted = [i for i, gain in layout.gains() if gain > 0.1]
        starts = np.array([(layout.tensors[i].init_std or 0.0) * layout.root_numel[i] for i in counted])
        growth = memory.weights[counted] / starts if counted else starts
        growth = growth[np.isfinite(growth) & (growth > 0)]
        least = float(np.quantile(growth, 0.25)) if len(growth) >= 2 else 0.0
        self.told = least >= limit
        return self._finding(memory, layout, least) if self.told else None

    @staticmethod
    def _limit(memory: Memory) -> float:
        loss = memory.loss
        if loss.n < 20 or loss.signed:
            return math.nan
        # The first loss, not the median of the first 20: within those it may have fallen, or risen, many times over.
        return next((times for share, times in _OUTGROWN if loss.near > share * loss.first[0]), math.nan)

    @staticmethod
    def _finding(memory: Memory, layout: Layout, least: float) -> Finding:
        left = 100 * memory.loss.near / memory.loss.first[0]
        text = (
            f"In {memory.since:,} steps three quarters of the weight matrices grew to {least:.3g} times their initial size or more, "
            f"while the loss stands at {left:.0f} % of where it began."
        )
        if memory.ratio_peak > 0.01:
            text += f" One step changed the weights by {100 * memory.ratio_peak:.2g} % of their size (0.1 % is usual)."
        began = max(memory.step - memory.since + 1, 0)
        return Finding(
            detector="outgrown",
            kind="exploding",
            severity="info" if layout.adversarial else "warning",
            step=began,
            evidence=(Evidence(text, {"growth": least, "update_ratio": memory.ratio_peak}),),
            origin=Origin(step=began, where="model"),
        )
