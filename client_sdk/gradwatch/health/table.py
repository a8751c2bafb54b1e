"""The table of detectors: one row each. Docs, the API and the pages are made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from .detectors.broken import BadRank, LossScale, NonFiniteGradient, NonFiniteLoss, NonFiniteWeight
from .detectors.learning import Diverging, Oscillating, Overfitting, Stalled
from .detectors.rising import DepthExplosion, Growth, LevelShift, Spike, Unbounded
from .detectors.settings import BadInit, ClipTooTight, Outgrown
from .detectors.silent import (
    Accumulating,
    DeadUnits,
    Disconnected,
    Fading,
    NeverMoves,
    Saturated,
    VanishingDepth,
    ZeroGradient,
)
from .incidents import Finding, Kind
from .kinds import KINDS, KindInfo
from .layout import Layout
from .memory import Memory

__all__ = ["DETECTORS", "KINDS", "Detector", "KindInfo"]

When: TypeAlias = Literal["frame", "loss", "validation", "tick", "ranks"]


class Look(Protocol):
    """A detector at work."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """What it has to say about the newest step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One row: what it is called, which kind it finds, what it needs (it is silent without), how grave it may become."""

    key: str
    kind: Kind
    label: str
    sentence: str
    needs: tuple[str, ...]
    severity: str
    every: int = 1
    """It looks every so many frames; 1 means each frame (or each loss)."""
    when: When = "frame"
    profiles: tuple[str, ...] = ("default", "adversarial")
    build: Callable[[], Look] | None = None


DETECTORS: Final[tuple[Detector, ...]] = (
    Detector(
        key="nonfinite_gradient",
        kind="nonfinite",
        label="NaN or Inf in a gradient",
        sentence="Any gradient that is not finite before clipping, unless the loss scaler skipped the step.",
        needs=("grad_norm",),
        severity="critical at once; warning when the script skipped the step",
        build=NonFiniteGradient,
    ),
    Detector(
        key="nonfinite_weight",
        kind="nonfinite",
        label="NaN or Inf in a weight",
        sentence="Any weight norm that is not finite.",
        needs=("weight_norm",),
        severity="critical at once",
        build=NonFiniteWeight,
    ),
    Detector(
        key="nonfinite_loss",
        kind="nonfinite",
        label="NaN or Inf in the loss",
        sentence="A loss that is not finite.",
        needs=("loss",),
        severity="critical at once",
        when="loss",
        build=NonFiniteLoss,
    ),
    Detector(
        key="loss_scale",
        kind="loss_scale",
        label="Loss-scale storm",
        sentence="Five overflow skips in a row, or more than ten in 2,000 steps, or a scale below 1.",
        needs=("skipped", "loss_scale"),
        severity="warning; critical from ten in a row",
        build=LossScale,
    ),
    Detector(
        key="diverging",
        kind="diverging",
        label="Diverging loss",
        sentence="The median of the last ten losses far above the hundred before, relative to the loss at the start; or that of "
        "the last six above what it was 100 losses ago, while the learning rate is higher than it had been until then.",
        needs=("loss",),
        severity="info, warning or critical by how far; info for losses below zero and for games",
        when="loss",
        build=Diverging,
    ),
    Detector(
        key="spike",
        kind="spike",
        label="Gradient spike",
        sentence="A norm 6 robust sigmas and 4 times above its baseline and twice above nearly all seen.",
        needs=("grad_norm",),
        severity="info; warning for three in 500 steps with a raised loss",
        build=Spike,
    ),
    Detector(
        key="level_shift",
        kind="exploding",
        label="Sudden explosion",
        sentence="The median of the last five norms at least 4 times the baseline and above nearly all seen.",
        needs=("grad_norm",),
        severity="info; warning when the loss or the updates rise too, or by itself at 1,000 times where no loss is logged; "
        "critical when the loss diverges",
        build=LevelShift,
    ),
    Detector(
        key="growth",
        kind="exploding",
        label="Gradual explosion",
        sentence="The norm doubles at least every 33 steps, over 64 steps, to above what the run has seen.",
        needs=("grad_norm",),
        severity="info; warning when the loss or the updates rise too; critical when the loss diverges",
        every=4,
        build=Growth,
    ),
    Detector(
        key="unbounded",
        kind="exploding",
        label="Loss without a floor",
        sentence="A loss below zero, a hundred times its first size, goes on sinking while the norm has grown 32 times.",
        needs=("grad_norm", "loss"),
        severity="warning",
        when="loss",
        every=10,
        profiles=("default",),
        build=Unbounded,
    ),
    Detector(
        key="depth_explosion",
        kind="exploding",
        label="Explosion in depth",
        sentence="Gradients or activations grow by 1.4 or more per layer, 64-fold in all.",
        needs=("grad_norm",),
        severity="info; warning when the loss is stuck or raised",
        every=8,
        build=DepthExplosion,
    ),
    Detector(
        key="vanishing_depth",
        kind="vanishing",
        label="Vanishing in depth",
        sentence="Gradients shrink by 1.4 or more per layer toward the input, 64-fold in all.",
        needs=("grad_norm",),
        severity="info; warning when the loss does not fall",
        every=8,
        build=VanishingDepth,
    ),
    Detector(
        key="fading",
        kind="vanishing",
        label="Fading gradient",
        sentence="The norm fell to 5 % of the start although the loss did not fall.",
        needs=("grad_norm", "loss"),
        severity="info; warning at 1 %",
        every=4,
        build=Fading,
    ),
    Detector(
        key="dead_units",
        kind="dead",
        label="Dead units",
        sentence="70 % of a layer's units with a gradient of exactly zero, the same share in 8 samples.",
        needs=("zero_fraction",),
        severity="info; warning at 90 %",
        build=DeadUnits,
    ),
    Detector(
        key="zero_gradient",
        kind="dead",
        label="Zero gradient",
        sentence="Whole tensors with a gradient of exactly zero for 20 steps while others get one.",
        needs=("grad_norm",),
        severity="warning; critical when a third of the model is hit and the loss is stuck",
        every=4,
        build=ZeroGradient,
    ),
    Detector(
        key="disconnected",
        kind="disconnected",
        label="Disconnected parameters",
        sentence="Trainable parameters without a gradient for 50 steps, or in no optimizer.",
        needs=("grad_norm",),
        severity="warning; info when most of the model is left out",
        every=10,
        build=Disconnected,
    ),
    Detector(
        key="never_moves",
        kind="disconnected",
        label="Parameters that never move",
        sentence="Parameters with a gradient and a learning rate but an update of exactly zero, in 3 samples.",
        needs=("update_ratio", "lr"),
        severity="warning",
        build=NeverMoves,
    ),
    Detector(
        key="saturated",
        kind="saturated",
        label="Saturated units",
        sentence="Half of a layer's units in the flat part of their activation, in 5 samples.",
        needs=("saturated_fraction",),
        severity="info; warning at 90 % or when the loss is stuck",
        build=Saturated,
    ),
    Detector(
        key="accumulating",
        kind="accumulating",
        label="Accumulating gradients",
        sentence="Gradients nearly parallel to the one before since the start, smooth, and grown 5 times.",
        needs=("grad_norm", "grad_cosine"),
        severity="info; warning when the loss is stuck or raised, or the cosine above 0.97",
        every=5,
        build=Accumulating,
    ),
    Detector(
        key="bad_init",
        kind="bad_init",
        label="Bad initialisation",
        sentence="A third of the matrices start with a std far from every known scheme.",
        needs=("grad_norm", "init_std"),
        severity="info; warning when the loss is stuck or raised",
        build=BadInit,
    ),
    Detector(
        key="outgrown",
        kind="exploding",
        label="Weights wiped out",
        sentence="In the first 200 steps three quarters of the matrices grew to 3 times their initial norm (5 times once the loss has lost 30 %), "
        "while more than half of the first loss is left.",
        needs=("weight_norm", "init_std", "loss"),
        severity="warning; info for games",
        build=Outgrown,
    ),
    Detector(
        key="clip_too_tight",
        kind="clip_too_tight",
        label="Clipping too tight",
        sentence="Clipping cuts 95 % of the last 50 steps to less than a tenth.",
        needs=("clip_coef or clip_limit", "grad_norm"),
        severity="warning with SGD while the loss hardly falls, else info",
        build=ClipTooTight,
    ),
    Detector(
        key="bad_rank",
        kind="bad_rank",
        label="Bad rank",
        sentence="One rank's norm ten times the others', in 3 of 5 samples, or alone not finite; or replicas that differ.",
        needs=("rank_grad_norm or replica_gap",),
        when="ranks",
        severity="critical",
        build=BadRank,
    ),
    Detector(
        key="oscillating",
        kind="oscillating",
        label="Oscillating loss",
        sentence="The loss zigzags without improving while gradients point against each other.",
        needs=("loss",),
        severity="info; warning when the gradients' cosine says so too and the swing grows or is wide",
        when="loss",
        every=10,
        profiles=("default",),
        build=Oscillating,
    ),
    Detector(
        key="stalled",
        kind="stalled",
        label="Stalled learning",
        sentence="The loss does not move over the last losses.",
        needs=("loss", "lr"),
        severity="info; warning when each update is below 5e-6 of the weights, or above a twentieth",
        when="loss",
        every=10,
        profiles=("default",),
        build=Stalled,
    ),
    Detector(
        key="overfitting",
        kind="overfitting",
        label="Overfitting",
        sentence="Three validation losses 5 % above the best while the training loss goes on falling.",
        needs=("loss", "val/loss"),
        severity="info",
        when="validation",
        build=Overfitting,
    ),
    Detector(
        key="stopped",
        kind="stopped",
        label="Stopped",
        sentence="No step for 5 minutes or 20 usual step times.",
        needs=(),
        severity="warning",
        when="tick",
    ),
)
