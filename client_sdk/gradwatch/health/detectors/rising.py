"""Gradients that grow: explosions (sudden, gradual, in depth) and spikes. They open as info; others make them graver."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np

from ..baseline import median, theil_sen
from ..excuses import may_be_new_data
from ..incidents import Evidence, Finding, Origin, Severity
from ..layout import Layout
from ..locate import depth_gain, due, forward_gain
from ..losses import CRITICAL, ELEVATED, NORMAL
from ..memory import Memory

__all__ = ["DepthExplosion", "Growth", "LevelShift", "Spike", "Unbounded", "corroborated", "times"]


def times(log2_rise: float) -> str:
    """A rise in log2 as people say it: "8 times"."""
    factor = 2.0 ** min(log2_rise, 1000.0)
    return (
        f"{factor:.1f} times"
        if factor < 10
        else f"{factor:,.0f} times"
        if factor < 1e6
        else f"{factor:.1e} times"
    )


def corroborated(memory: Memory, layout: Layout) -> Severity:
    """How grave a rise of the gradients is, by what the loss and the updates say."""
    loss = memory.loss
    if not (may_be_new_data(memory, layout) or loss.signed or layout.adversarial):
        if loss.level >= CRITICAL:
            return "critical"
        if loss.level >= ELEVATED or loss.raised():
            return "warning"
    # With plain SGD the update is the gradient times the LR: no second witness.
    independent = layout.family == "adaptive" or loss.n == 0
    return "warning" if independent and memory.update_high(10) else "info"


_BY_ITSELF: Final = 10.0
"""log2: where no loss is told that could speak for it or against it, a norm of 1,000 times the usual counts by itself."""


@dataclass(slots=True)
class LevelShift:
    """The median of the last five norms far above the baseline and above nearly all that the run has seen."""

    reference: float = math.nan
    onset: int = -1
    rise: float = 0.0

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while the level stands high."""
        if self.reference == self.reference:
            return self._still(memory, layout, memory.level_of(5))
        if memory.since < 30:
            return self._early(memory, layout)
        limit = memory.mean + max(2.0, 6.0 * memory.sigma)
        if not memory.x >= limit:
            return None
        level = memory.level_of(5)
        if not (level >= limit and level >= memory.top + 0.5):
            return None
        return self._open(memory, layout, memory.mean, level)

    def _early(self, memory: Memory, layout: Layout) -> Finding | None:
        known = memory.start_xs
        if len(known) < 3 or len(memory.xs) < 2:
            return None
        base = known[0] if len(known) < 8 else median(known[: max(3, len(known) - 3)])
        low = min(memory.xs[-1], memory.xs[-2])
        return self._open(memory, layout, base, low) if low >= base + 5.0 else None

    def _open(self, memory: Memory, layout: Layout, base: float, level: float) -> Finding:
        self.reference, self.rise = base, level - base
        limit = base + max(1.5, 0.6 * self.rise)
        back = 0
        while back < len(memory.xs) and memory.xs[-1 - back] >= limit:
            back += 1
        steps, _ = memory.window(max(back, 1))
        self.onset = int(steps[0])
        return self._finding(memory, layout)

    def _still(self, memory: Memory, layout: Layout, level: float) -> Finding | None:
        if level == level and level < self.reference + 0.5 * self.rise:
            self.reference = math.nan
            return None
        return self._finding(memory, layout)

    def _finding(self, memory: Memory, layout: Layout) -> Finding:
        now, usual = memory.total, 2.0**self.reference
        text = f"The global gradient norm went from about {usual:.3g} to {now:.3g}, {times(math.log2(now / usual) if now > 0 else self.rise)} the usual level."
        numbers = {"usual": usual, "now": now, "rise_log2": self.rise}
        severity = corroborated(memory, layout)
        above = max(self.rise, memory.level_of(5) - self.reference)
        if severity == "info" and memory.loss.n == 0 and above >= _BY_ITSELF:
            severity = "warning"
        return Finding(
            detector="level_shift",
            kind="exploding",
            severity=severity,
            step=self.onset,
            evidence=(Evidence(text, numbers),),
        )


@dataclass(slots=True)
class Growth:
    """A steady climb: Theil-Sen slope of 16 medians-of-4 over 64 steps, ending above what the run has seen before."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while the norm climbs."""
        if len(memory.xs) < 64 or memory.since < 100 or self._learning(memory):
            return None
        if max(islice(reversed(memory.xs), 4)) - min(islice(memory.xs, 4)) < 1.5:
            return None
        xs = np.array(memory.xs)
        medians = np.median(xs.reshape(16, 4), axis=1)
        if medians[-1] - medians[0] < 1.5:
            return None
        slope = theil_sen(medians) / 4.0
        if slope < 0.03:
            return None
        older = sorted(memory.quantile.values)[:-64] if len(memory.quantile.values) >= 96 else []
        past = list(memory.quantile.values)[:-64]
        if not older or median(xs[-8:]) <= sorted(past)[int(0.99 * (len(past) - 1))]:
            return None
        steps, _ = memory.window(64)
        doubling = 1.0 / slope
        text = (
            f"The global gradient norm has been climbing for 64 steps: it doubles every {doubling:.0f} steps "
            f"and is at {memory.total:.3g}."
        )
        return Finding(
            detector="growth",
            kind="exploding",
            severity=corroborated(memory, layout),
            step=int(steps[0]),
            evidence=(Evidence(text, {"slope_log2_per_step": slope, "doubling_steps": doubling}),),
        )

    @staticmethod
    def _learning(memory: Memory) -> bool:
        """Whether the loss has fallen meanwhile: gradients grow as a net leaves its plateau, and that is no explosion."""
        loss = memory.loss
        if loss.n < 80 or loss.level != NORMAL:
            return False
        before = loss.ago(64)
        low = memory.x < median(memory.start_xs) + 3.0
        return loss.near < 0.8 * before or (low and loss.near < 0.95 * before)


@dataclass(slots=True)
class Spike:
    """One norm far above the baseline. Normal now and then; three in 500 steps with a raised loss are not."""

    seen: deque[int] = field(default_factory=lambda: deque(maxlen=16))

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at the step of the spike."""
        rise = memory.x - memory.mean
        if memory.since < 50 or memory.z < 6.0 or rise < 2.0 or memory.x < memory.top + 1.0:
            return None
        self.seen.append(memory.step)
        many = sum(1 for s in self.seen if memory.step - s < 500) >= 3
        severity: Severity = corroborated(memory, layout) if many else "info"
        text = (
            f"At step {memory.step:,} the global gradient norm was {memory.total:.3g}, {times(rise)} the usual "
            f"{2.0**memory.mean:.3g}."
        )
        return Finding(
            detector="spike",
            kind="spike",
            severity=severity,
            step=memory.step,
            evidence=(Evidence(text, {"norm": memory.total, "usual": 2.0**memory.mean, "z": memory.z}),),
        )


@dataclass(slots=True)
class DepthExplosion:
    """Gradients or activations that grow from layer to layer (science notes, D9 and 2.3)."""

    fine: int = -1
    """The last step at which the profile was looked at and was not that steep, -1 before the first."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while the profile over depth is that steep."""
        if memory.frames not in (8, 16, 32) and memory.frames % max(due(memory.frames), 64):
            return None
        back, n = depth_gain(memory, layout)[:2]
        front, m = forward_gain(memory, layout)
        backward, forward = back >= 0.5 and back * n >= 6.0, front >= 0.5 and front * m >= 6.0
        if not backward and not forward:
            self.fine = memory.step if n or m else self.fine
            return None
        gain, layers = (back, n) if backward else (front, m)
        what = "gradients grow toward the input" if backward else "activations grow toward the output"
        text = f"Over {layers} layers {what} by a factor of {2.0**gain:.2f} per layer."
        stuck = memory.loss.improved < 0.02 and memory.loss.n >= 30
        grave = stuck or memory.loss.level >= ELEVATED or (backward and forward)
        step = memory.step if memory.frames > 64 else self.fine + 1
        return Finding(
            detector="depth_explosion",
            kind="exploding",
            severity="warning" if grave else "info",
            step=step,
            group="depth",
            evidence=(
                Evidence(text, {"backward_gain_log2": back, "forward_gain_log2": front, "layers": layers}),
            ),
            origin=Origin(step=step, where="depth"),
        )


_DEEP: Final = 100.0
"""Times the largest of the first losses that one without a floor has sunk."""
_FAR: Final = 5.0
"""In log2: by how much the gradients must have grown for a loss that sinks to be one without a floor."""


@dataclass(slots=True)
class Unbounded:
    """A loss that sinks without end while gradients grow: it has no floor, as when its sign is wrong."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding every tenth loss while it goes on."""
        loss = memory.loss
        if loss.n % 10 or layout.adversarial or not memory.start_xs or not loss.sinking(_DEEP):
            return None
        rise = memory.level_of(20) - median(memory.start_xs)
        if not rise >= _FAR:
            return None
        text = (
            f"The loss has sunk from {loss.start:.4g} to {loss.near:.4g} and goes on sinking, while the gradient norm has grown "
            f"{times(rise)} since the start."
        )
        return Finding(
            detector="unbounded",
            kind="exploding",
            severity="warning",
            step=0,
            evidence=(Evidence(text, {"now": loss.near, "at_start": loss.start, "rise_log2": rise}),),
            origin=Origin(step=0, where="model"),
        )
