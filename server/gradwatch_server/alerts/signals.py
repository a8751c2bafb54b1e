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
Combine = Callable[[Floats, Floats], Floats]
Memo = dict[float, tuple[Floats, Floats]]
"""The last baseline of a rule about the unusual, by its stretch of steps."""

MAD_TO_SIGMA: Final = 1.4826
"""Median absolute deviation of a normal distribution to its standard deviation."""
_FEW: Final = 4
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


def judge(
    rule: Rule,
    values: Floats,
    present: Bools | None,
    steps: Floats,
    times: Floats,
    n: int,
    memo: Memo | None = None,
) -> Judged:
    """Judges the last ``n`` rows of ``values`` ``[h + n, w]``, NaN where absent; the ``h`` rows before are history.

    ``h`` is :func:`history` of the rule; where there were no rows yet, the history is NaN with step -1. ``memo`` saves
    work from call to call with consecutive rows of the same series.
    """
    if rule.condition == "nonfinite":
        return _nonfinite(values, present)
    if rule.condition == "silent":
        return _silent(rule, values, times, n)
    if rule.condition == "unusual":
        signal, known = _unusual(rule, values, steps, n, {} if memo is None else memo)
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
    count = _trailing(np.add, known.astype(np.float64), rule.window, 0.0, n)
    if rule.aggregate == "min":
        signal = _trailing(np.fmin, values, rule.window, np.nan, n)
    elif rule.aggregate == "max":
        signal = _trailing(np.fmax, values, rule.window, np.nan, n)
    else:
        terms = breaches(rule, values).astype(np.float64) if rule.aggregate == "share" else values
        signal = _ratio(_trailing(np.add, np.where(known, terms, 0.0), rule.window, 0.0, n), count)
    return signal, known[-n:] & (2 * count >= rule.window) & ~np.isnan(signal)


def _change(rule: Rule, values: Floats, n: int) -> tuple[Floats, Bools]:
    here = ~np.isnan(values)
    now, enough_now = _mean(values, here, rule.window, n)
    before, enough_before = _mean(values[: -rule.window], here[: -rule.window], rule.window, n)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if rule.condition == "rises":
            signal = now - before
        elif rule.condition == "falls":
            signal = before - now
        else:
            signal = np.where(before > 0, now / before, np.nan)
    return signal, here[-n:] & enough_now & enough_before & ~np.isnan(signal)


def _mean(values: Floats, here: Bools, window: int, n: int) -> tuple[Floats, Bools]:
    """Mean over the window up to each of the last ``n`` rows, and whether at least half of its values are there."""
    count = _trailing(np.add, here.astype(np.float64), window, 0.0, n)
    total = _trailing(np.add, np.where(here, values, 0.0), window, 0.0, n)
    return _ratio(total, count), 2 * count >= window


def _stride(rule: Rule) -> int:
    """How many steps share one baseline: the median is the dear part, and hardly moves within an eighth of the window."""
    return max(1, rule.window // 8)


def _unusual(rule: Rule, values: Floats, steps: Floats, n: int, memo: Memo) -> tuple[Floats, Bools]:
    """Robust z-score in log2: (log2 x - median) / max(1.4826 MAD, 0.15), median and MAD of the ``window`` rows before the
    stretch of steps that the value lies in (stretches are aligned to whole multiples of their length)."""
    stretch = steps // _stride(rule)
    starts = np.flatnonzero(np.diff(stretch, prepend=np.nan) != 0).tolist()
    first = len(values) - n
    z = np.full((n, values.shape[1]), np.nan)
    ready = _logs(values) if n > rule.window else None  # many baselines share rows: each logarithm once
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        if end <= first or start < rule.window:
            continue
        key = float(stretch[start])
        if key not in memo:
            memo.clear()
            rows = slice(start - rule.window, start)
            memo[key] = _baseline(_logs(values[rows]) if ready is None else ready[rows])
        median, spread = memo[key]
        begin = max(start, first)
        with np.errstate(invalid="ignore"):
            logs = _logs(values[begin:end]) if ready is None else ready[begin:end]
            z[begin - first : end - first] = (logs - median) / spread
    return z, ~np.isnan(z)


def _logs(values: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values > 0, np.log2(values), np.nan)


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
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return total / count


def _trailing(combine: Combine, x: Floats, window: int, identity: float, n: int) -> Floats:
    """``combine`` over the last ``window`` rows up to each of the last ``n`` rows.

    The order of combining depends on the window's end only, so that sums are the same bits however rows are cut: parts of
    1, 2, 4, ... rows, each made of two halves. For few rows the parts are made one by one, else for all rows at once.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if n <= _FEW and len(x) >= window + n - 1:
            ends = range(len(x) - n + 1, len(x) + 1)
            return np.stack([_one(combine, x[end - window : end], window) for end in ends])
        return _many(combine, x, window, identity)[-n:]


def _one(combine: Combine, rows: Floats, window: int) -> Floats:
    result: Floats | None = None
    end, bit = len(rows), 1
    while bit <= window:
        if window & bit:
            part = rows[end - bit : end]
            while len(part) > 1:
                part = combine(part[1::2], part[0::2])
            result = part[0] if result is None else combine(result, part[0])
            end -= bit
        bit *= 2
    assert result is not None
    return result


def _many(combine: Combine, x: Floats, window: int, identity: float) -> Floats:
    result: Floats | None = None
    power, offset, bit = x, 0, 1
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
