"""The table of kinds of incidents: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .incidents import Kind

__all__ = ["KINDS", "KindInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInfo:
    """A kind of incident for people: its name, one sentence, its help page, how many steps it must be quiet to close, and
    whether it takes hold of a whole model (others leave most of its numbers as they are)."""

    key: Kind
    label: str
    sentence: str
    help: str
    quiet: int = 60
    spreads: bool = False


def _kind(
    key: Kind, label: str, sentence: str, help: str, quiet: int = 60, *, spreads: bool = False
) -> KindInfo:
    return KindInfo(key=key, label=label, sentence=sentence, help=help, quiet=quiet, spreads=spreads)


KINDS: Final[dict[str, KindInfo]] = {
    k.key: k
    for k in (
        _kind(
            "exploding",
            "Exploding",
            "Gradients or weights grow far beyond their usual size and stay there.",
            "exploding",
            130,
            spreads=True,
        ),
        _kind(
            "spike",
            "Spike",
            "One gradient far above the usual, gone at the next step.",
            "exploding",
            20,
            spreads=True,
        ),
        _kind(
            "vanishing",
            "Vanishing",
            "Gradients fade before they reach the early layers.",
            "vanishing",
            130,
            spreads=True,
        ),
        _kind(
            "nonfinite",
            "NaN or Inf",
            "A gradient, the loss or a weight is not a finite number.",
            "nonfinite",
            50,
            spreads=True,
        ),
        _kind("diverging", "Diverging", "The loss rises and stays up.", "learning-rate", spreads=True),
        _kind(
            "oscillating",
            "Oscillating",
            "The loss swings to and fro without improving.",
            "learning-rate",
            100,
        ),
        _kind(
            "dead",
            "Dead units",
            "Units whose gradient is exactly zero: they never learn again.",
            "vanishing",
            100,
        ),
        _kind(
            "saturated",
            "Saturated",
            "Units in the flat part of their activation pass no gradient.",
            "vanishing",
            200,
        ),
        _kind(
            "bad_init",
            "Bad initialisation",
            "The initial weights are of the wrong size.",
            "initialisation",
            200,
            spreads=True,
        ),
        _kind("stalled", "Stalled", "The loss does not move.", "learning-rate", 100),
        _kind(
            "overfitting",
            "Overfitting",
            "Validation worsens while training improves.",
            "early-stopping",
            2000,
        ),
        _kind("clip_too_tight", "Clipping too tight", "Clipping cuts every step to a fraction.", "clipping"),
        _kind(
            "disconnected",
            "Disconnected",
            "Parameters that get no gradient, or never move.",
            "detectors",
            100,
        ),
        _kind(
            "accumulating",
            "Accumulating",
            "Gradients add up from step to step.",
            "detectors",
            60,
            spreads=True,
        ),
        _kind("loss_scale", "Loss-scale storm", "The loss scaler skips step after step.", "nonfinite", 100),
        _kind("bad_rank", "Bad rank", "One rank's gradients differ from all others'.", "detectors", 300),
        _kind("stopped", "Stopped", "No step has come for too long.", "health", 1),
    )
}
