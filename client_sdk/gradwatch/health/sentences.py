"""Verdicts for people: one sentence for an incident, one for a run."""

from __future__ import annotations

import math

from .incidents import Incident, Origin

__all__ = ["duration", "followers", "headline", "verdict"]

_OPENING = {
    "exploding": "Exploding since step {step}",
    "spike": "A gradient spike at step {step}",
    "vanishing": "Vanishing gradients since step {step}",
    "nonfinite": "NaN or Inf since step {step}",
    "diverging": "The loss diverges since step {step}",
    "oscillating": "The loss swings without improving since step {step}",
    "dead": "Dead units since step {step}",
    "saturated": "Saturated units since step {step}",
    "bad_init": "The initial weights are of the wrong size",
    "stalled": "Learning has stalled since step {step}",
    "overfitting": "Overfitting since step {step}",
    "clip_too_tight": "Clipping cuts nearly every step since step {step}",
    "disconnected": "Parameters are not being trained",
    "accumulating": "Gradients add up from step to step",
    "loss_scale": "The loss scaler skips step after step since step {step}",
    "bad_rank": "One rank differs from the others since step {step}",
    "stopped": "No step since step {step}",
}


_WHICH = ("dead", "disconnected", "saturated")
"""Kinds of a state, not of an event: which tensors are in it says more than which came first."""


def verdict(kind: str, step: int, origin: Origin) -> str:
    """One sentence: what, since when, where it began, how it spread."""
    text = _OPENING[kind].format(step=f"{step:,}")
    if kind in _WHICH and origin.where == "tensor":
        more = f" and {origin.followed:,} more tensors" if origin.followed > 1 else ""
        more = " and 1 more tensor" if origin.followed == 1 else more
        return f"{text}: {origin.tensor}{more}."
    place = _place(origin)
    if place:
        text += f": {place}"
    spread = followers(origin) if origin.where in ("tensor", "weights") else ""
    if spread:
        text += f", {spread}"
    return text + "."


def headline(incident: Incident) -> str:
    """An incident in one line: how grave, the verdict, the likely cause, what to try first."""
    text = f"{incident.severity}: {incident.sentence}"
    if incident.causes and not incident.unsure:
        text += f" Likely cause: {_within(incident.causes[0].label)}."
    if incident.remedies:
        text += f" Try: {incident.remedies[0].text}"
    return text


def _within(label: str) -> str:
    """A label in the middle of a sentence: its first letter small, unless it belongs to a name such as ReLU."""
    first = label.split()[0]
    return label if first[1:] != first[1:].lower() or first.endswith("'s") else label[0].lower() + label[1:]


def _place(origin: Origin) -> str:
    where = origin.where
    if where == "tensor":
        return f"began in {origin.tensor}"
    if where == "weights":
        return (
            f"the weights of {origin.tensor} are the origin"
            if origin.tensor
            else "the weights are the origin"
        )
    if where == "input":
        return "the input of the model is the origin"
    if where == "loss":
        return "the forward pass or the loss is the origin"
    if where == "depth":
        module = origin.module or origin.tensor
        return f"from {module} on" if module else "the factor repeats from layer to layer"
    return ""


def followers(origin: Origin) -> str:
    """How it spread: "9 tensors followed within 4 steps"; "" when it did not."""
    if not origin.followed:
        return ""
    what = "tensor" if origin.followed == 1 else "tensors"
    last = max((s for _, s in origin.followers), default=origin.step)
    within = last - origin.step
    when = "at the same step" if within <= 0 else f"within {within:,} step{'s' if within > 1 else ''}"
    return f"{origin.followed:,} {what} followed {when}"


def run_sentence(
    worst: Incident | None, *, frames: int, need: int, norm: float, low: float, high: float, seconds: float
) -> tuple[str, str]:
    """State and sentence of a run: ``worst`` is the gravest open incident above info, if any.

    States: "learning" (no baseline yet), "healthy", "attention" (warning), "critical".
    """
    if worst is not None:
        return ("critical" if worst.severity == "critical" else "attention"), worst.sentence
    if frames < need:
        return "learning", f"Learning what is normal: {frames} of {need} steps."
    usual = f" (usual {low:.2g} to {high:.2g})" if math.isfinite(low) and math.isfinite(high) else ""
    return "healthy", f"Healthy for {duration(seconds)}, norm {norm:.2g}{usual}."


def duration(seconds: float) -> str:
    """ "6 h 12 min", "4 min", "12 s"."""
    if seconds < 60:
        return f"{max(seconds, 0):.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
