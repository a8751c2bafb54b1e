"""Numbers that are not numbers, the loss scaler, a rank that differs, and a run that stands still."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ..baseline import median
from ..incidents import Evidence, Finding, Origin, Severity
from ..layout import Layout
from ..locate import nonfinite_origin
from ..memory import Memory

__all__ = ["BadRank", "LossScale", "NonFiniteGradient", "NonFiniteLoss", "NonFiniteWeight", "Stopped"]


@dataclass(slots=True)
class NonFiniteGradient:
    """A gradient that is NaN or Inf, unless the loss scaler skipped the step: that is its normal way of working."""

    last_good: int = -1

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at each such step."""
        if memory.overflow or memory.finite:
            self.last_good = memory.step
            return None
        origin, tensors = nonfinite_origin(memory, layout, loss_bad=False)
        if len(tensors) == layout.n and layout.n > 1 and origin.where == "tensor":
            # All at once: the forward pass, or clipping before we looked. The loss of this step decides.
            origin = Origin(step=memory.step, where="loss", followed=len(tensors))
        skipped = memory.frame is not None and memory.frame.number("skipped") > 0
        text = (
            f"At step {memory.step:,} the gradient of {len(tensors)} of {layout.n} tensors was NaN or Inf; "
            f"the last good step was {self.last_good:,}."
        )
        return Finding(
            detector="nonfinite_gradient",
            kind="nonfinite",
            severity="warning" if skipped else "critical",
            step=memory.step,
            tensors=tensors,
            evidence=(
                Evidence(text, {"tensors": float(len(tensors)), "last_good_step": float(self.last_good)}),
            ),
            origin=origin,
        )


@dataclass(slots=True)
class NonFiniteLoss:
    """A loss that is NaN or Inf."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at each such step."""
        if not memory.loss.bad:
            return None
        same = memory.frame is not None and memory.frame.step == memory.loss.step
        if same:
            origin, tensors = nonfinite_origin(memory, layout, loss_bad=True)
        else:
            origin, tensors = Origin(step=memory.loss.step, where="loss"), ()
        overflow = memory.overflow and memory.scaled
        word = "NaN" if math.isnan(memory.loss.value) else "infinite"
        return Finding(
            detector="nonfinite_loss",
            kind="nonfinite",
            severity="warning" if overflow else "critical",
            step=memory.loss.step,
            tensors=tensors,
            evidence=(Evidence(f"At step {memory.loss.step:,} the loss was {word}."),),
            origin=origin,
        )


@dataclass(slots=True)
class NonFiniteWeight:
    """A weight norm that is NaN or Inf: the damage is in the model, and no later step mends it."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at each sample that shows it."""
        if (
            memory.weight_step != memory.step
            or memory.frame is None
            or "weight_norm" not in memory.frame.rows
        ):
            return None
        counts = memory.frame.rows.get("weight_nonfinite")
        bad = ~np.isfinite(memory.weights) if counts is None else counts > 0
        if not bad.any():
            return None
        found = [int(i) for i in layout.order if bad[i]]
        lead = layout.tensors[found[0]]
        text = f"At step {memory.step:,} {len(found)} of {layout.n} weight tensors held NaN or Inf."
        origin = Origin(
            step=memory.step, where="weights", tensor=lead.name, module=lead.module, followed=len(found) - 1
        )
        return Finding(
            detector="nonfinite_weight",
            kind="nonfinite",
            severity="critical",
            step=memory.step,
            tensors=tuple(found),
            evidence=(Evidence(text, {"tensors": float(len(found))}),),
            origin=origin if len(found) < layout.n else None,
        )


@dataclass(slots=True)
class LossScale:
    """Overflow skips in a row, or too many of them (science notes, D3). Single ones are normal; the first 20 frames are free."""

    count: int = 0
    steps: deque[int] = field(default_factory=lambda: deque(maxlen=32))

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at a skipped step."""
        self.count += 1
        if not memory.overflow:
            return None
        scale = memory.frame.number("loss_scale") if memory.frame is not None else math.nan
        if self.count > 20:
            self.steps.append(memory.step)
        often = sum(1 for s in self.steps if memory.step - s < 2000)
        in_row = min(memory.skips, self.count - 20)
        if in_row < 5 and often <= 10 and not scale < 1.0:
            return None
        severity: Severity = "critical" if in_row >= 10 or scale < 2.0**-10 else "warning"
        text = f"{max(in_row, 1)} steps in a row were skipped for overflow, {often} of the last 2,000"
        if scale == scale:
            text += f"; the loss scale is {scale:g}"
        return Finding(
            detector="loss_scale",
            kind="loss_scale",
            severity=severity,
            step=memory.step - memory.skips + 1,
            evidence=(Evidence(text + ".", {"in_a_row": float(memory.skips), "in_2000": float(often)}),),
            origin=Origin(step=memory.step - memory.skips + 1, where="model"),
        )


GAP: Final = 1e-3
"""Replicas get the same gradients bit for bit; sums in another order differ by less than this."""


@dataclass(slots=True)
class BadRank:
    """One rank whose own gradient norm is ten times that of the others in 3 of 5 samples, or alone not finite; or replicas
    of a gradient that differ."""

    seen: deque[int] = field(default_factory=lambda: deque(maxlen=5))

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at a sample of the ranks."""
        sample = memory.ranks
        if sample is None:
            return None
        if sample.name == "replica_gap":
            return self._differs(sample.step, float(sample.values[0]), int(sample.values[1]))
        return self._stands_out(sample.step, sample.values, np.flatnonzero(sample.present))

    def _stands_out(
        self, step: int, norms: npt.NDArray[np.float64], there: npt.NDArray[np.intp]
    ) -> Finding | None:
        if len(there) < 2:
            return None
        broken = [int(rank) for rank in there if not math.isfinite(norms[rank])]
        others = {int(rank): float(np.median(norms[there[there != rank]])) for rank in there}
        high = [rank for rank, usual in others.items() if norms[rank] > 10.0 * usual > 0.0]
        suspects = broken or high
        rank = suspects[0] if len(suspects) == 1 else -1
        self.seen.append(rank)
        if rank < 0 or (not broken and sum(1 for r in self.seen if r == rank) < 3):
            return None
        value, usual = float(norms[rank]), others[rank]
        text = f"Rank {rank} has a gradient norm of {value:.3g}, the others about {usual:.3g}."
        return _bad_rank(step, rank, text, {"rank": float(rank), "norm": value, "others": usual})

    def _differs(self, step: int, gap: float, rank: int) -> Finding | None:
        if not gap > GAP:
            return None
        how = "in whether it is finite" if math.isinf(gap) else f"by {100 * gap:.2g} %"
        text = f"Rank {rank} holds a copy of a gradient that differs {how} from another rank's, though both must be the same."
        return _bad_rank(step, rank, text, {"rank": float(rank), "gap": gap})


def _bad_rank(step: int, rank: int, text: str, numbers: dict[str, float]) -> Finding:
    return Finding(
        detector="bad_rank",
        kind="bad_rank",
        severity="critical",
        step=step,
        group=f"rank {rank}",
        evidence=(Evidence(text, numbers),),
        origin=Origin(step=step, where=f"rank {rank}"),
    )


@dataclass(slots=True)
class Stopped:
    """No step for 5 minutes or 20 usual step times, whichever is longer. Looks at the time that ``tick`` is given."""

    def look_at(self, memory: Memory, now: float) -> Finding | None:
        """The finding while nothing comes."""
        if memory.step < 0:
            return None
        usual = median(memory.step_times) if memory.step_times else 1.0
        silent = now - memory.time
        if silent < max(300.0, 20.0 * usual):
            return None
        text = f"No step for {silent / 60:.0f} minutes; a step usually takes {usual:.2g} s."
        return Finding(
            detector="stopped",
            kind="stopped",
            severity="warning",
            step=memory.step,
            evidence=(Evidence(text, {"silent_s": silent, "usual_s": usual}),),
            origin=Origin(step=memory.step, where="model"),
        )
