"""Which findings belong together: what is a sign of what, what takes what over, what may have caused what."""

from __future__ import annotations

from typing import Final

__all__ = ["ABSORBED_BY", "CAUSED_BY", "REMARKS_OF", "SIGN_OF", "TAKES_OVER"]

ABSORBED_BY: Final[dict[str, tuple[str, ...]]] = {
    "spike": ("nonfinite", "exploding", "diverging", "accumulating", "bad_init"),
    "diverging": ("nonfinite", "exploding", "accumulating", "bad_init", "loss_scale"),
    "exploding": ("nonfinite", "diverging", "accumulating", "bad_init"),
    "oscillating": ("nonfinite", "diverging", "exploding", "accumulating"),
    "stalled": (
        "nonfinite",
        "vanishing",
        "dead",
        "saturated",
        "bad_init",
        "disconnected",
        "clip_too_tight",
        "exploding",
        "diverging",
        "accumulating",
        "oscillating",
        "loss_scale",
    ),
    "vanishing": ("nonfinite", "bad_init", "dead", "saturated"),
    "dead": ("nonfinite",),
    "saturated": ("nonfinite",),
    "clip_too_tight": ("nonfinite", "exploding", "diverging", "accumulating", "bad_init"),
    "disconnected": ("nonfinite",),
    "accumulating": ("nonfinite",),
    "overfitting": ("nonfinite",),
    "loss_scale": ("nonfinite",),
}
"""A finding of the first kind is evidence for an open incident of one of the others, not an incident of its own."""

SIGN_OF: Final[dict[str, tuple[str, ...]]] = {
    # Deep untrained ReLU nets have units that are off for every input: a sign of their init.
    "dead_units": ("vanishing", "bad_init"),
    # An update is lost to rounding because the gradient has faded.
    "never_moves": ("vanishing", "bad_init", "dead", "stalled"),
    "outgrown": ("dead", "saturated", "oscillating", "stalled", "vanishing"),
    # Weights that were thrown far away let nothing through.
    "vanishing_depth": ("exploding", "diverging"),
    "fading": ("exploding", "diverging"),
}
"""As above, by the detector of the finding."""

TAKES_OVER: Final[dict[str, tuple[str, ...]]] = {
    "exploding": ("spike",),
    "diverging": ("spike",),
    "accumulating": ("spike", "exploding", "diverging", "oscillating"),
    "bad_init": ("vanishing", "stalled", "exploding"),
    "dead": ("vanishing", "stalled"),
    "saturated": ("vanishing", "stalled"),
    "vanishing": ("stalled",),
    "disconnected": ("stalled",),
    "clip_too_tight": ("stalled",),
}
"""A new incident of the first kind makes open ones of the others its own: they were its signs."""

CAUSED_BY: Final[dict[str, tuple[str, ...]]] = {
    "nonfinite": ("exploding", "diverging", "bad_init", "loss_scale", "spike", "accumulating"),
    "dead": ("exploding", "diverging", "spike"),
    "saturated": ("exploding", "diverging", "spike", "bad_init"),
    "stalled": ("exploding", "diverging", "dead", "vanishing"),
    "vanishing": ("exploding", "diverging"),
    "loss_scale": ("exploding", "diverging"),
    "diverging": ("spike",),
    "oscillating": ("exploding", "diverging"),
}

REMARKS_OF: Final[dict[str, tuple[str, ...]]] = {"outgrown": ("vanishing", "stalled")}
"""A new incident that this detector opens makes open ones of these kinds its own, as long as they are remarks."""
