"""From values to verdicts: what a rule makes of the numbers, for all series and many steps at once.

Every verdict depends on a bounded stretch of rows before it (:func:`history`), never on how rows are cut into calls, so
that live judging, back-tests and the rebuild after a restart say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..models import Rule
from .kinds import KIND
from .machine import BREACH, FINE, HOLD, Bools, Verdicts

Floats = npt.NDArray[np.float64]

MAD_TO_SIGMA: Final = 1.4826
"""Median absolute deviation of a normal distribution to its standard deviation."""
LEAST_SPREAD: Final = 0.15
"""Smallest spread in log2 that counts (10 %): quieter series would make every wobble unusual."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """``signal`` float64 ``[n, w]``: the number that the rule judges; ``verdicts`` int8 ``[n, w]``."""

    signal: Floats
    verdicts: Verdicts


def is_plain(rule: Rule) -> bool:
    """Whether each value is judged for itself against thresholds: no window, no NaN."""
    return rule.condition in ("above", "below", "outside") and (rule.aggregate == "last" or rule.window == 1)


def history(rule: Rule) -> int:
    """How many rows before a value its verdict depends on."""
    if rule.condition == "unusual":
        return rule.window + _stride(rule) - 1
    if KIND[rule.condition].compares:
        return 2 * rule.window - 1
    if rule.condition == "silent":
        return 1
    return 0 if rule.condition == "nonfinite" or is_plain(rule) else rule.window - 1


def judge(rule: Rule, values: Floats, present: Bools | None, steps: Floats, times: Floats, n: int) -> Judged:
    """Judges the last ``n`` rows of ``values`` ``[h + n, w]``, NaN where absent; the ``h`` rows before are history.

    ``h`` is :func:`history` of the rule; where there were no rows yet, the history is NaN with step -1.
    """
    if rule.condition == "nonfinite":
        return _nonfinite(values, present)
    if rule.condition == "silent":
        return _silent(rule, values, times, n)
    if rule.condition == "unusual":
        signal, known = _unusual(rule, values, steps, n)
    elif KIND[rule.condition].compares:
        signal, known = _change(rule, values, n)
    elif is_plain(rule):
        signal, known = values, ~np.isnan(values)
    else:
        signal, known = _aggregate(rule, values, n)
    breach = signal >= rule.share if _judges_share(rule) else breaches(rule, signal)
    return Judged(signal, _verdicts(breach, known))


def breaches(rule: Rule, signal: npt.NDArray[Any]) -> Bools:
    """Where the signal meets the rule's condition. NaN never does."""
    result: Bools
    if rule.condition in ("below", "shrinks"):
        result = signal < rule.threshold
    elif rule.condition == "outside":
        result = (signal < rule.threshold) | (signal > rule.upper)
    else:
        result = signal > rule.threshold
    return result


def badness(rule: Rule, signal: Floats) -> Floats:
    """Orders signals of one rule: more is worse. What the "worst few" and the peak of an alert go by."""
    if rule.condition == "nonfinite":
        return np.zeros_like(signal)
    if _judges_share(rule):
        return signal
    if rule.condition in ("below", "shrinks"):
        return -signal
    if rule.condition == "outside":
        return np.maximum(signal - rule.upper, rule.threshold - signal)
    return signal


def _judges_share(rule: Rule) -> bool:
    return rule.aggregate == "share" and KIND[rule.condition].aggregated and rule.window > 1


def _verdicts(breach: Bools, known: Bools) -> Verdicts:
    verdicts: Verdicts = np.where(breach, BREACH, FINE).astype(np.int8)
    verdicts[~known] = HOLD
    return verdicts


def _nonfinite(values: Floats, present: Bools | None) -> Judged:
    known = np.ones(values.shape, np.bool_) if present is None else present
    return Judged(values, _verdicts(~np.isfinite(values), known))


def _silent(rule: Rule, values: Floats, times: Floats, n: int) -> Judged:
    gaps = np.zeros(n)
    if n and times.size > 1:
        since = np.diff(times)[-n:]
        gaps[n - since.size :] = np.nan_to_num(since, nan=0.0)
    signal = np.broadcast_to(gaps[:, None], (n, values.shape[1])).copy()
    return Judged(signal, _verdicts(breaches(rule, signal), np.ones(signal.shape, np.bool_)))


def _aggregate(rule: Rule, values: Floats, n: int) -> tuple[Floats, Bools]:
    known = ~np.isnan(values)
    count = _trailing(np.add, known.astype(np.float64), rule.window, 0.0)
    if rule.aggregate == "min":
        signal = _trailing(np.fmin, values, rule.window, np.nan)
    elif rule.aggregate == "max":
        signal = _trailing(np.fmax, values, rule.window, np.nan)
    else:
        terms = breaches(rule, values).astype(np.float64) if rule.aggregate == "share" else values
        signal = _ratio(_trailing(np.add, np.where(known, terms, 0.0), rule.window, 0.0), count)
    known = known & (2 * count >= rule.window) & ~np.isnan(signal)
    return signal[-n:], known[-n:]


def _change(rule: Rule, values: Floats, n: int) -> tuple[Floats, Bools]:
    here = ~np.isnan(values)
    count = _trailing(np.add, here.astype(np.float64), rule.window, 0.0)
    mean = _ratio(_trailing(np.add, np.where(here, values, 0.0), rule.window, 0.0), count)
    enough = 2 * count >= rule.window
    now, before = mean[-n:], mean[-n - rule.window : -rule.window]
    known = here[-n:] & enough[-n:] & enough[-n - rule.window : -rule.window]
    with np.errstate(invalid="ignore", divide="ignore"):
        if rule.condition == "rises":
            signal = now - before
        elif rule.condition == "falls":
            signal = before - now
        else:
            signal = np.where(before > 0, now / before, np.nan)
    return signal, known & ~np.isnan(signal)


def _stride(rule: Rule) -> int:
    """How many steps share one baseline: the median is the dear part, and hardly moves within an eighth of the window."""
    return max(1, rule.window // 8)


def _unusual(rule: Rule, values: Floats, steps: Floats, n: int) -> tuple[Floats, Bools]:
    """Robust z-score in log2: (log2 x - median) / max(1.4826 MAD, 0.15), median and MAD of the ``window`` rows before the
    stretch of steps that the value lies in (stretches are aligned to whole multiples of their length)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.where(values > 0, np.log2(values), np.nan)
    stretch = steps // _stride(rule)
    starts = np.flatnonzero(np.diff(stretch, prepend=np.nan) != 0).tolist()
    first = len(values) - n
    z = np.full((n, values.shape[1]), np.nan)
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        if end <= first or start < rule.window:
            continue
        median, spread = _baseline(logs[start - rule.window : start])
        begin = max(start, first)
        with np.errstate(invalid="ignore"):
            z[begin - first : end - first] = (logs[begin:end] - median) / spread
    return z, ~np.isnan(z)


def _baseline(logs: Floats) -> tuple[Floats, Floats]:
    """Median and spread of the finite values of each column; NaN where fewer than half are finite."""
    finite = np.where(np.isfinite(logs), logs, np.nan)
    median = _median(finite)
    return median, np.maximum(MAD_TO_SIGMA * _median(np.abs(finite - median)), LEAST_SPREAD)


def _median(columns: Floats) -> Floats:
    ordered = np.sort(columns, axis=0)
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    across = np.arange(columns.shape[1])
    middle: Floats = (ordered[low, across] + ordered[np.minimum(high, len(columns) - 1), across]) / 2
    middle[2 * count < len(columns)] = np.nan
    return middle


def _ratio(total: Floats, count: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count


def _trailing(combine: Callable[[Floats, Floats], Floats], x: Floats, window: int, identity: float) -> Floats:
    """``combine`` over the last ``window`` rows up to each row, in about 2 log2(window) passes.

    The order of combining depends on the window's end only, so that sums are the same bits however rows are cut.
    """
    result: Floats | None = None
    power, offset, bit = x, 0, 1
    with np.errstate(invalid="ignore", over="ignore"):
        while True:
            if window & bit:
                part = _shift(power, offset, identity)
                result = part if result is None else combine(result, part)
                offset += bit
            bit *= 2
            if bit > window:
                break
            power = combine(power, _shift(power, bit // 2, identity))
    assert result is not None
    return result


def _shift(x: Floats, rows: int, identity: float) -> Floats:
    if rows == 0:
        return x
    moved = np.full_like(x, identity)
    moved[rows:] = x[:-rows]
    return moved
