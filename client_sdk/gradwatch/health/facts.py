"""What is known when an incident is explained: one flat value, computed once, that causes and remedies read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .baseline import median
from .excuses import first_module, input_scale
from .frames import Row
from .incidents import Finding, Origin, Share
from .layout import Layout
from .locate import depth_gain, forward_gain
from .memory import Memory

__all__ = ["Facts", "gather"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Numbers are NaN when unknown; a comparison with NaN is false, so nothing unknown speaks for or against."""

    kind: str
    group: str
    detectors: tuple[str, ...]
    first_step: int
    step: int
    origin: Origin
    shares: tuple[Share, ...]
    tensors: tuple[str, ...]
    modules: tuple[str, ...]
    lr: float
    lr_change: float
    """By what factor the LR changed: its jump within 60 steps before the onset, else its drift over the last 64 steps."""
    lr_back: bool
    """Whether it was raised for a moment only."""
    lr_steady: float
    """The LR before it began to rise, NaN if it has risen since the start."""
    lr_peak: float
    lr_spent: float
    """The learning rates of all steps together, as steps at the peak rate."""
    lr_near_peak: bool
    lr_rising: bool
    ratio: float
    ratio_usual: float
    ratio_high: bool
    ratio_peak: float
    cosine: float
    adam_ratio: float
    family: str
    beta2: float
    weight_decay: float
    eps: float
    norm: float
    norm_usual: float
    norm_p90: float
    norm_p95: float
    norms_known: int
    """Norms of calm steps that say what is usual."""
    rise: float
    """log2 of the newest finite norm over the usual one."""
    maxabs: float
    clip_limit: float
    clip_coef: float
    loss: float
    loss_start: float
    loss_before: float
    loss_peak: float
    """The highest median of three losses since it rose, NaN when it stands as usual."""
    improved: float
    loss_finite: bool
    gain: float
    """Median std x sqrt(fan-in) of the initial matrices."""
    gain_high: float
    std: float
    """Initial std of the first affected matrix, and the one that He init gives it."""
    std_he: float
    back_gain: float
    forward_gain: float
    layers: int
    normalised: bool
    recurrent: bool
    recurrent_leads: bool
    scaled: bool
    half: bool
    input_bad: bool
    orphans: bool
    orphans_all: bool
    """Whether no optimizer holds any tensor."""
    absent: bool
    first_layer: bool
    """Whether the origin is in the first module that learns."""
    never_alive: bool
    checkpoint: int
    """The newest marked checkpoint before the onset, -1 when there is none."""
    loss_scale: float
    input_rms: float
    """Root mean square of what goes into the first layer, told by its gradients: that of the weight over that of the bias."""
    input_rose: bool
    """Whether that grew tenfold with the onset."""
    first_layer_share: float
    """Share of the squared norm that the first module held at the onset, as far as it is among the largest five."""
    adversarial: bool
    earlier: frozenset[str] = field(default_factory=frozenset)
    """Kinds of incidents within 300 steps before this one."""

    @property
    def early(self) -> bool:
        """Whether it began within the first hundred steps."""
        return self.first_step < 100

    @property
    def witness(self) -> bool:
        """Whether large updates say something of their own: with plain SGD they are only the gradient times the LR."""
        return self.family == "adaptive" or self.sudden_lr or self.early

    @property
    def steady(self) -> bool:
        """Whether the LR is known, did not rise before the onset, and updates were of a usual size until then."""
        return (
            self.lr > 0
            and not self.sudden_lr
            and not self.lr_rising
            and not self.early
            and self.ratio_usual < 0.02
        )

    @property
    def sudden_lr(self) -> bool:
        """Whether the learning rate was raised shortly before."""
        return self.lr_change > 1.2

    @property
    def relu_gain(self) -> float:
        """The backward gain per layer that this init would give a ReLU network, in log2."""
        return math.log2(self.gain / math.sqrt(2.0)) if self.gain > 0 else math.nan


def gather(
    memory: Memory,
    layout: Layout,
    finding: Finding,
    *,
    detectors: tuple[str, ...],
    origin: Origin,
    shares: tuple[Share, ...],
    earlier: frozenset[str],
    calm: int,
) -> Facts:
    """The facts of this moment about ``finding``; ``calm`` is the step up to which norms say what is usual."""
    lead = {s.name for s in shares[:2]} | {origin.tensor}
    tensors = list(finding.tensors[:40])
    return Facts(
        kind=finding.kind,
        group=finding.group,
        detectors=detectors,
        first_step=finding.step,
        step=memory.step,
        origin=origin,
        shares=shares,
        tensors=tuple(layout.names[i] for i in tensors),
        modules=tuple(dict.fromkeys(layout.tensors[i].module for i in tensors)),
        recurrent_leads=any("_hh" in name or "recurrent" in name for name in lead),
        first_layer=bool(origin.tensor) and origin.module == first_module(layout),
        never_alive=bool(tensors) and not bool(memory.alive[tensors].any()),
        checkpoint=max((c for c in memory.checkpoints if c <= finding.step), default=-1),
        lr_change=_lr_change(memory, finding.step),
        lr_back=memory.lr_back,
        lr_steady=memory.lr_steady,
        earlier=earlier,
        **_of_norms(memory, calm),
        **_of_steps(memory),
        **_of_model(memory, layout),
        **_of_matrix(layout, tensors),
        **_of_input(memory, layout, finding.step, shares),
    )


def _of_matrix(layout: Layout, tensors: list[int]) -> dict[str, Any]:
    found = (layout.tensors[i] for i in tensors if layout.matrix[i])
    first = next((t for t in found if t.init_std is not None and t.fan_in), None)
    if first is None or first.init_std is None or not first.fan_in:
        return {"std": math.nan, "std_he": math.nan}
    return {"std": first.init_std, "std_he": math.sqrt(2.0 / first.fan_in)}


def _of_input(memory: Memory, layout: Layout, step: int, shares: tuple[Share, ...]) -> dict[str, Any]:
    first = first_module(layout)
    held = sum(s.share for s in shares if s.name.rpartition(".")[0] == first)
    rms, rose = input_scale(memory, layout, step)
    return {"input_rms": rms, "input_rose": rose, "first_layer_share": held}


def _of_norms(memory: Memory, step: int) -> dict[str, Any]:
    # At least ten, but what blew up at the start must not say what is usual.
    least = min(max(step, 1), 10)
    raw = sorted(list(memory.raw)[: max(len(memory.raw) - _after(memory, step), least)])
    rows = memory.frame.rows if memory.frame is not None else {}
    return {
        "norm": memory.raw[-1] if memory.raw else math.nan,
        "norm_usual": median(raw) if raw else math.nan,
        "norm_p90": _at(raw, 0.90),
        "norm_p95": _at(raw, 0.95),
        "norms_known": max(len(memory.raw) - _after(memory, step), 0),
        "rise": memory.xs[-1] - memory.mean if memory.xs and memory.tracker.ready else math.nan,
        "maxabs": _middle(rows.get("grad_maxabs"), 0.5),
        "adam_ratio": _middle(rows.get("adam_ratio"), 1.0),
        "cosine": median(memory.cosines) if memory.cosines else math.nan,
    }


def _of_steps(memory: Memory) -> dict[str, Any]:
    frame, loss = memory.frame, memory.loss
    return {
        "lr": memory.lr,
        "lr_peak": memory.lr_peak,
        "lr_spent": memory.lr_sum / memory.lr_peak if memory.lr_peak > 0 else math.nan,
        "lr_near_peak": memory.lr >= 0.9 * memory.lr_peak > 0,
        "lr_rising": len(memory.lrs) > 8 and memory.lrs[-1] > 1.05 * memory.lrs[0],
        "ratio": memory.ratio,
        "ratio_usual": 2.0**memory.ratio_mean,
        "ratio_high": memory.step - memory.ratio_high_step <= 60,
        "ratio_peak": memory.ratio_peak,
        "clip_limit": frame.number("clip_limit") if frame is not None else math.nan,
        "clip_coef": frame.number("clip_coef") if frame is not None else math.nan,
        "loss_scale": frame.number("loss_scale") if frame is not None else math.nan,
        "loss": loss.near,
        "loss_start": loss.start,
        "loss_before": loss.base,
        "loss_peak": memory.episode.peak if memory.episode.open else math.nan,
        "improved": loss.improved,
        "loss_finite": loss.n > 0 and not loss.bad,
        "scaled": memory.scaled,
        "input_bad": memory.input_bad,
    }


def _of_model(memory: Memory, layout: Layout) -> dict[str, Any]:
    gains = [g for _, g in layout.gains()]
    back, layers, _ = depth_gain(memory, layout)
    free = layout.trainable & ~layout.owned
    return {
        "family": layout.family,
        "beta2": layout.hyper("beta2"),
        "weight_decay": layout.hyper("weight_decay"),
        "eps": layout.hyper("eps"),
        "gain": float(np.median(gains)) if gains else math.nan,
        "gain_high": float(np.quantile(gains, 0.8)) if gains else math.nan,
        "back_gain": back if layers else math.nan,
        "forward_gain": forward_gain(memory, layout)[0] if layers else math.nan,
        "layers": layers,
        "normalised": layout.normalised,
        "recurrent": layout.recurrent,
        "half": any(t.dtype.endswith("float16") and "b" not in t.dtype for t in layout.tensors),
        "orphans_all": not layout.any_owner,
        "orphans": layout.orphaned and bool((free & memory.alive).any()),
        "absent": bool(((memory.absent_run > 40) & ~memory.alive & layout.trainable).any()),
        "adversarial": layout.adversarial,
    }


def _middle(row: Row | None, q: float) -> float:
    """A quantile of the finite entries, NaN when there are none."""
    if row is None:
        return math.nan
    finite = row[np.isfinite(row)]
    return float(np.quantile(finite, q)) if len(finite) else math.nan


def _lr_change(memory: Memory, onset: int) -> float:
    jumped = memory.lr_change_step
    if jumped >= 0 and -5 <= onset - jumped <= 60:
        return memory.lr_change
    return memory.lrs[-1] / memory.lrs[0] if memory.lrs and memory.lrs[0] > 0 else math.nan


def _after(memory: Memory, step: int) -> int:
    """Frames since ``step``: the norms to leave out when asking what was usual."""
    return min(max(memory.step - step + 1, 0), len(memory.raw)) if memory.step >= step else 0


def _at(ordered: list[float], q: float) -> float:
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else math.nan
