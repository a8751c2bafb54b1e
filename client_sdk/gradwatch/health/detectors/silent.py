"""Gradients that fade or never come: vanishing, dead and saturated units, disconnected parameters, missing zero_grad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..baseline import median
from ..incidents import Evidence, Finding, Origin, Severity
from ..layout import Layout
from ..locate import depth_gain, due
from ..memory import Memory

__all__ = [
    "Accumulating",
    "DeadUnits",
    "Disconnected",
    "Fading",
    "NeverMoves",
    "Saturated",
    "VanishingDepth",
    "ZeroGradient",
]


def _names(layout: Layout, which: npt.NDArray[np.bool_]) -> str:
    found = [layout.names[int(i)] for i in layout.order if which[i]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _first(layout: Layout, which: npt.NDArray[np.bool_], step: int) -> Origin:
    found = [int(i) for i in layout.order if which[i]]
    lead = layout.tensors[found[0]]
    rest = tuple((layout.names[i], step) for i in found[1:13])
    return Origin(
        step=step,
        where="tensor",
        tensor=lead.name,
        module=lead.module,
        followers=rest,
        followed=len(found) - 1,
    )


def _stuck(memory: Memory, least: int, gain: float = 0.02) -> bool:
    """Whether the loss has hardly improved since the start (False when that is not known)."""
    return memory.loss.n >= least and memory.loss.improved < gain


def _stopped_early(memory: Memory) -> bool:
    """Whether the loss lost a little at first, as the last biases learn how often each class comes, and nothing since."""
    loss = memory.loss
    return _stuck(memory, 90, 0.1) and not loss.ago(0, 40) < 0.995 * loss.ago(40, 40)


def _all_still(memory: Memory, layout: Layout) -> bool:
    """Whether no trainable matrix moved in the last 2 samples."""
    matrices = layout.trainable & layout.matrix
    return bool(matrices.any()) and bool((memory.still >= 2)[matrices].all())


@dataclass(slots=True)
class VanishingDepth:
    """Gradients that shrink from layer to layer toward the input (science notes, D9). Info until learning is stuck too."""

    fine: int = -1
    """The last step at which the profile was looked at and was not that steep, -1 before the first."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while the profile over depth is that steep."""
        if memory.frames < 8 or memory.frames % due(memory.frames):
            return None
        gain, layers, profile = depth_gain(memory, layout)
        if gain > -0.5 or -gain * layers < 6.0:
            self.fine = memory.step if layers else self.fine
            return None
        stuck = _stuck(memory, 50) or _stopped_early(memory)
        severity: Severity = "warning" if stuck or (memory.loss.n == 0 and -gain * layers > 20) else "info"
        ratio = 2.0 ** (profile[0] - profile[-1])
        text = (
            f"Over {layers} layers the gradient shrinks by a factor of {2.0**-gain:.2f} per layer toward the input; "
            f"the first layer gets {ratio:.1e} of what the last one gets."
        )
        numbers = {"gain_log2_per_layer": gain, "layers": float(layers), "first_to_last": ratio}
        first = layout.tensors[layout.probe[0]]
        step = self.fine + 1 if memory.frames <= 64 else memory.step
        origin = Origin(step=step, where="depth", tensor=first.name, module=first.module)
        return Finding(
            detector="vanishing_depth",
            kind="vanishing",
            severity=severity,
            step=step,
            tensors=tuple(int(i) for i in layout.order if layout.matrix[i] and layout.trainable[i]),
            evidence=(Evidence(text, numbers),),
            origin=origin,
        )


@dataclass(slots=True)
class Fading:
    """The whole gradient has faded although the loss has not fallen: not convergence."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while it stays so."""
        if memory.since < 80 or len(memory.start_xs) < 10 or memory.loss.signed:
            return None
        fell = median(memory.start_xs) - memory.level_of(20)
        loss = memory.loss
        if not fell >= 4.3 or loss.n < 60 or not loss.best > 0.8 * loss.start:
            return None
        grave = fell >= 6.6 and loss.best > 0.95 * loss.start and not layout.adversarial
        text = (
            f"The global gradient norm has fallen to {2.0**-fell:.1e} of what it was at the start, "
            f"but the loss by only {100 * max(memory.loss.improved, 0.0):.0f} %."
        )
        return Finding(
            detector="fading",
            kind="vanishing",
            severity="warning" if grave else "info",
            step=memory.step,
            evidence=(Evidence(text, {"fall_log2": fell, "improved": memory.loss.improved}),),
        )


@dataclass(slots=True)
class DeadUnits:
    """Units whose bias gradient is exactly zero in each of 8 samples, the same share each time.

    A share that varies is sparse activation (batch size one), not death.
    """

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while the units stay dead."""
        if memory.zeros_n < 8 or memory.frame is None or "zero_fraction" not in memory.frame.rows:
            return None
        low, high = memory.zeros.min(axis=0), memory.zeros.max(axis=0)
        units = (
            layout.vector & layout.trainable & ~layout.sparse & ~layout.expert & (layout.root_numel >= 2.8)
        )
        hit = units & (low >= 0.7) & (high - low <= 0.1)
        if not hit.any():
            return None
        worst = float(low[hit].max())
        grave = worst >= 0.9
        text = f"In {_names(layout, hit)}, up to {100 * worst:.0f} % of the units get a gradient of exactly zero at every step."
        return Finding(
            detector="dead_units",
            kind="dead",
            severity="warning" if grave else "info",
            step=memory.step,
            tensors=tuple(np.flatnonzero(hit).tolist()),
            evidence=(Evidence(text, {"dead_share": worst, "layers": float(hit.sum())}),),
            origin=_first(layout, hit, memory.step),
        )


@dataclass(slots=True)
class ZeroGradient:
    """Whole tensors with a gradient of exactly zero for 20 steps while others get one (absent is another matter).

    Zero-initialised branches start so and come alive within a few steps; idle experts and sparse rows are healthy, and so is a
    bias that cancels out of the loss (differences of outputs: critics, contrasts, rankings) while its weight learns.
    """

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while they stay zero."""
        if memory.frames < 20 or not memory.any_zero or memory.x != memory.x:
            return None
        patience = np.where(layout.expert | layout.sparse, 1000, 20)
        hit = (memory.zero_run >= patience) & layout.trainable
        solved = memory.loss.n >= 20 and memory.loss.near <= 1e-6 * abs(memory.loss.start)
        if not hit.any() or solved:
            return None
        fell = hit & memory.alive
        kind_dead = bool(fell.any()) or self._is_prefix(layout, hit)
        onset = memory.step - int(memory.zero_run[hit].min()) + 1
        many = (hit & layout.matrix).sum() >= 0.3 * max(int((layout.matrix & layout.trainable).sum()), 1)
        resting = not (hit & ~layout.expert & ~layout.sparse & ~self._cancelled(layout, hit)).any()
        when = "since step" if fell.any() else "from the start, step"
        text = f"The gradient of {_names(layout, hit)} has been exactly zero {when} {onset:,}."
        return Finding(
            detector="zero_gradient",
            kind="dead" if kind_dead else "disconnected",
            severity="info" if resting else "critical" if many and _stuck(memory, 20) else "warning",
            step=max(onset, 0),
            tensors=tuple(np.flatnonzero(hit).tolist()),
            evidence=(
                Evidence(text, {"tensors": float(hit.sum()), "steps": float(memory.zero_run[hit].min())}),
            ),
            origin=self._last(layout, hit, max(onset, 0)),
        )

    @staticmethod
    def _cancelled(layout: Layout, hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Biases whose weight gets a gradient: what reaches the layer's output adds up to exactly nothing."""
        found = np.zeros_like(hit)
        for weight, bias in layout.pairs:
            found[bias] = hit[bias] and not hit[weight]
        return found

    @staticmethod
    def _is_prefix(layout: Layout, hit: npt.NDArray[np.bool_]) -> bool:
        """Whether all trainable tensors up to some depth are hit: something above them is dead."""
        ordered = [bool(hit[i]) for i in layout.order if layout.trainable[i]]
        count = sum(ordered)
        return count >= 2 and all(ordered[: count - 1])

    @staticmethod
    def _last(layout: Layout, hit: npt.NDArray[np.bool_], step: int) -> Origin:
        """Backward stops at the dead layer and starves all below: the deepest layer whose bias is zero is the origin."""
        found = [int(i) for i in layout.order if hit[i]]
        biases = [i for i in found if layout.tensors[i].kind == "bias"]
        lead = (biases or found)[-1]
        rest = [i for i in reversed(found) if i != lead]
        return Origin(
            step=step,
            where="tensor",
            tensor=layout.names[lead],
            module=layout.tensors[lead].module,
            followers=tuple((layout.names[i], step) for i in rest[:12]),
            followed=len(rest),
        )


@dataclass(slots=True)
class Disconnected:
    """Trainable parameters that never got a gradient, or that no optimizer holds. Frozen on purpose is not disconnected."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at 50 frames and while it stays so."""
        if memory.frames < 50 or not (memory.any_absent or layout.orphaned):
            return None
        patience = np.where(layout.expert | layout.sparse, 1000, 50)
        absent = (memory.absent_run >= patience) & ~memory.alive & layout.trainable
        orphan = layout.trainable & ~layout.owned & memory.alive
        # An optimizer that holds none of them may move them by way of copies of its own (flat or in float32).
        whole = not layout.any_owner
        if whole and not (layout.orphaned and _all_still(memory, layout)):
            orphan[:] = False
        if not absent.any() and not orphan.any():
            return None
        hit = absent | orphan
        found = []
        if absent.any():
            found.append(Evidence(f"{_names(layout, absent)} got no gradient in {memory.frames:,} steps."))
        if orphan.any() and whole:
            found.append(
                Evidence(
                    "The optimizer holds none of the model's parameters, and none of them moves: it was made from another model, "
                    "or before this one was changed."
                )
            )
        elif orphan.any():
            found.append(
                Evidence(
                    f"{_names(layout, orphan)} get a gradient but are in no optimizer, so they never move."
                    if orphan.sum() > 1
                    else f"{_names(layout, orphan)} gets a gradient but is in no optimizer, so it never moves."
                )
            )
        # Leaving most of a model out of the optimizer is a usual way to train only its head.
        on_purpose = not absent.any() and orphan.sum() > 0.5 * layout.n and not whole
        return Finding(
            detector="disconnected",
            kind="disconnected",
            severity="info" if on_purpose else "warning",
            step=0,
            tensors=tuple(np.flatnonzero(hit).tolist()),
            evidence=tuple(found),
            origin=_first(layout, hit, 0),
        )


@dataclass(slots=True)
class NeverMoves:
    """Parameters with a gradient and a learning rate, whose update is exactly zero in each of 3 samples."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at a sample at which they did not move."""
        if memory.frame is None or "update_ratio" not in memory.frame.rows:
            return None
        rates = memory.frame.run.get("lr")
        hit = (memory.still >= 3) & layout.trainable & layout.matrix & ~layout.sparse & layout.owned
        if not hit.any() or rates is None or bool((rates <= 0).any()) or memory.overflow:
            return None
        if memory.lr < 1e-3 * memory.lr_peak:
            return None  # the end of a schedule; where it comes too soon, learning has stalled
        verb = "get a gradient but do" if hit.sum() > 1 else "gets a gradient but does"
        text = f"{_names(layout, hit)} {verb} not move: the update is exactly zero."
        return Finding(
            detector="never_moves",
            kind="disconnected",
            severity="warning",
            step=memory.step,
            tensors=tuple(np.flatnonzero(hit).tolist()),
            evidence=(Evidence(text, {"tensors": float(hit.sum())}),),
            origin=_first(layout, hit, memory.step),
        )


@dataclass(slots=True)
class Saturated:
    """Units that sit in the flat part of their activation: the client's ``saturated_fraction`` in 5 samples."""

    count: int = 0
    onset: int = -1

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at a sample at which half of some layer is saturated."""
        share = memory.frame.rows.get("saturated_fraction") if memory.frame is not None else None
        if share is None:
            return None
        hit = share >= 0.5
        self.count = self.count + 1 if hit.any() else 0
        if self.count == 1:
            self.onset = memory.step
        if self.count < 5:
            return None
        worst = float(np.nanmax(share))
        text = f"After {_names(layout, hit)}, {100 * worst:.0f} % of the units are saturated: they pass almost no gradient."
        return Finding(
            detector="saturated",
            kind="saturated",
            severity="warning" if _stuck(memory, 30, 0.1) or worst >= 0.9 else "info",
            step=self.onset,
            tensors=tuple(np.flatnonzero(hit).tolist()),
            evidence=(Evidence(text, {"saturated_share": worst}),),
            origin=_first(layout, hit, self.onset),
        )


_ENOUGH_COSINES = 8
"""Samples of the cosine of which a high one isn't chance: both networks of a GAN have a few where sampling is rare."""


@dataclass(slots=True)
class Accumulating:
    """Gradients that add up from step to step: nearly parallel to the one before, smooth, and many times the first ones.

    What a missing ``zero_grad()`` looks like. Full-batch training is parallel too, but its norm does not grow so; and after a
    blow-up gradients are parallel that were not before: what adds up has done so since the start.
    """

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while it goes on."""
        if len(memory.cosines) < 3 or len(memory.xs) < 20 or len(memory.start_xs) < 3:
            return None
        if self._refuted(memory, layout):
            return None
        xs = list(memory.xs)
        rough = median(abs(b - a) for a, b in zip(xs[-20:], xs[-19:], strict=False))
        parallel = median(list(memory.cosines)[-5:])
        rise = max(xs) - memory.start_xs[0]
        if parallel < 0.9 or rough > 0.3 or rise < 2.3 or memory.cosine_least < 0.5:
            return None
        enough = len(memory.cosines) >= _ENOUGH_COSINES
        bad = enough and (memory.loss.raised() or _stuck(memory, 20, 0.05))
        text = (
            f"Each gradient is nearly parallel to the one before (cosine {parallel:.2f}) and the norm has grown "
            f"{2.0**rise:.0f} times since the start: gradients add up."
        )
        return Finding(
            detector="accumulating",
            kind="accumulating",
            severity="warning" if bad or parallel > 0.97 else "info",
            step=0,
            evidence=(Evidence(text, {"cosine": parallel, "rise_log2": rise}),),
            origin=Origin(step=0, where="model"),
        )

    @staticmethod
    def _refuted(memory: Memory, layout: Layout) -> bool:
        """What sums cannot do: be exactly zero after they were not, or go on lowering a loss below zero.

        Parameters that no optimizer holds add up too, for it is the optimizer that clears them; that is the fault then.
        """
        fell_to_zero = memory.any_zero and bool(((memory.zero_run > 0) & memory.alive).any())
        return fell_to_zero or memory.loss.sunk or (layout.orphaned and not layout.any_owner)
