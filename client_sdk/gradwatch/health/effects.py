"""Did it help? Norm and loss after an action, against what they were before and where their trend would have led."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["AFTER", "BEFORE", "Course", "Effect", "changes", "effect_of"]

Floats: TypeAlias = npt.NDArray[np.float64]
Verdict: TypeAlias = Literal["helped", "no difference", "worse", "too early"]

BEFORE: Final = 50
AFTER: Final = 50
"""Steps that are looked at before and after."""

_FEW: Final = 10
_LEAST: Final = 0.1
"""A difference below this factor of two to the power of it is none, however quiet the run is."""

_STEEPEST: Final = 1.0
"""A trend is followed for at most this many doublings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """One quantity: medians of the steps before and after, and what the trend before would have given after."""

    before: float
    expected: float
    after: float
    lost_before: int
    lost_after: int
    """Values that are not finite."""
    better: int
    """-1 for worse, 0 for no difference, 1 for better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What came of one action."""

    verdict: Verdict
    sentence: str
    norm: Course | None = None
    loss: Course | None = None


def effect_of(at: int, norm: tuple[Floats, Floats], loss: tuple[Floats, Floats]) -> Effect:
    """The effect of what was done at step ``at``. ``norm`` and ``loss`` are steps and values ``[n]``, as far as known.

    A trend is Theil and Sen's slope of the logarithm over the 50 steps before; what follows is compared by medians, and a
    difference counts if it is above twice the standard error of a median and 7 %.
    """
    courses = {"norm": _course(at, *norm), "loss": _course(at, *loss)}
    known = {name: course for name, course in courses.items() if course is not None}
    if not known:
        return Effect(verdict="too early", sentence="It is too early to say whether it helped.")
    decisive = known.get("loss") or known["norm"]
    total = decisive.better or (known["norm"].better if "norm" in known else 0)
    verdict: Verdict = "helped" if total > 0 else "worse" if total < 0 else "no difference"
    words = {
        "helped": "It helped",
        "worse": "It did not help: it got worse",
        "no difference": "It made no difference",
        "too early": "",
    }[verdict]
    said = "; ".join(_said(name, course) for name, course in known.items())
    return Effect(verdict=verdict, sentence=f"{words}: {said}.", norm=courses["norm"], loss=courses["loss"])


def changes(steps: Floats, values: Floats, *, factor: float = 1.5) -> list[tuple[int, float, float]]:
    """Steps at which somebody changed a value, such as a learning rate: ``(step, old, new)``.

    A schedule changes it too; a change counts only if it is by ``factor`` at least and the steps around it were quiet:
    it stands out by four times the largest of the ten steps before and after it.
    """
    with np.errstate(all="ignore"):
        jumps = np.diff(np.log2(np.abs(values)))
    found = []
    for k in np.flatnonzero(np.isfinite(jumps) & (np.abs(jumps) >= math.log2(factor))):
        around = np.abs(np.concatenate([jumps[max(0, k - 10) : k], jumps[k + 1 : k + 11]]))
        if not len(around) or 4 * np.nanmax(around) < abs(jumps[k]):
            found.append((int(steps[k + 1]), float(values[k]), float(values[k + 1])))
    return found


def _course(at: int, steps: Floats, values: Floats) -> Course | None:
    before = (steps >= at - BEFORE) & (steps < at)
    after = (steps > at) & (steps <= at + AFTER)
    finite = np.isfinite(values) & (values > 0)
    old, new = before & finite, after & finite
    lost_before, lost_after = (
        int(np.sum(before & ~np.isfinite(values))),
        int(np.sum(after & ~np.isfinite(values))),
    )
    if np.sum(old) < _FEW or np.sum(after) < _FEW:
        return None
    y, x = np.log2(values[old]), steps[old]
    slope = _slope(x, y)
    line = float(np.median(y - slope * x))
    spread = 1.4826 * float(np.median(np.abs(y - slope * x - line)))
    level = line + slope * at
    if not np.any(new):
        return _made(level, level, math.nan, lost_before, lost_after, -1)
    ahead = float(np.median(steps[new])) - at
    expected = level + min(max(slope * ahead, -_STEEPEST), _STEEPEST)
    now = np.log2(values[new])
    error = 1.2533 * math.hypot(spread / math.sqrt(len(y)), spread / math.sqrt(len(now)))
    difference = float(np.median(now)) - expected
    better = 0 if abs(difference) <= max(2 * error, _LEAST) else -1 if difference > 0 else 1
    if lost_after > lost_before:
        better = -1
    elif lost_before > 0 == lost_after:
        better = max(better, 1)
    return _made(level, expected, float(np.median(now)), lost_before, lost_after, better)


def _made(before: float, expected: float, after: float, lost: int, lost_after: int, better: int) -> Course:
    return Course(
        before=2.0**before,
        expected=2.0**expected,
        after=2.0**after,
        lost_before=lost,
        lost_after=lost_after,
        better=better,
    )


def _slope(x: Floats, y: Floats) -> float:
    """The median of the slopes between all pairs."""
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))


def _said(name: str, course: Course) -> str:
    text = f"the {name} went from {course.before:.3g} to {course.after:.3g}"
    if abs(math.log2(course.expected / course.before)) > _LEAST:
        text += f", where its trend led to {course.expected:.3g}"
    if course.lost_before or course.lost_after:
        text += f" ({course.lost_before} values before and {course.lost_after} after were not finite)"
    return text
