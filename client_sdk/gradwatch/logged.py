"""What a script says about a step, made usable or refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["MANY", "NO_STEP", "objection", "read_number", "together", "whole"]

MANY: Final = 1_000
"""So many values logged before the first step are told."""

NO_STEP: Final = (
    "no step was measured, for no torch optimizer of the watched parameters has stepped: give the one that trains them as "
    "optimizer=, or tell the norms by run.record()"
)


def read_number(value: Any) -> float | Callable[[], float] | None:
    """``value`` as a float, None if it is not one real number. For everything but tensors."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def whole(step: Any) -> int | None:
    """``step`` as an int, None if it is no step: text, a flag, below 0, not finite."""
    try:
        number = None if isinstance(step, (bool, str)) else int(step)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and number >= 0 else None


def together(values: Any, scalars: Mapping[str, Any]) -> dict[str, Any]:
    """Both by name; nothing of ``values`` if they have no names."""
    return {**(values if hasattr(values, "keys") else {}), **scalars}


def objection(values: Any, step: Any) -> str:
    """Why ``run.log(values, step=step)`` cannot be taken, "" if it can."""
    if values is not None and not hasattr(values, "keys"):
        given = type(values).__name__
        return f"run.log() takes numbers with names, such as run.log(loss=loss), not {given}; it was left out"
    if step is not None and whole(step) is None:
        return f"run.log(step=) takes a whole number from 0 on, not {step!r}; the values were left out"
    return ""
