"""Values folded into buckets, and buckets into wider ones. Pure numpy; nothing that happened once gets lost.

A bucket of width w with number b holds steps ``[b*w, (b+1)*w)``. Of each row it keeps the extremes over the finite values,
the newest value as it is, and how many values were present, NaN, infinite and exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..models import FLAG_INF, FLAG_NAN, FLAG_PRESENT, FLAG_ZERO

__all__ = ["INF", "NAN", "PRESENT", "ZERO", "Buckets", "coarsen", "fold", "to_f4"]

F4: Final = np.float32
_NAN4: Final = np.float32(np.nan)
_INF4: Final = np.float32(np.inf)
_TOP: Final = np.finfo(np.float32).max

PRESENT, NAN, INF, ZERO = 0, 1, 2, 3
"""Planes of :attr:`Buckets.counts`."""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """``n`` buckets in a row, empty ones too, the first of them number ``first``.

    ``low``, ``high`` float32 ``[rows, n]``: extremes over finite values, NaN where there are none. ``last`` float32
    ``[rows, n]``: the newest value, NaN where none is present. Finite float64 values beyond float32 become its largest.
    ``counts`` uint32 ``[4, rows, n]`` (planes PRESENT, NAN, INF, ZERO), or None when each row has a finite value that is not
    zero at every step. ``steps`` int64 ``[n]``: how many steps are in the bucket; ``ends`` int64 ``[n]``: the newest of
    them, -1 if none; ``times`` float64 ``[n]``: its time.
    """

    width: int
    first: int
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    last: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32] | None
    steps: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]

    def flags(self) -> npt.NDArray[np.uint8]:
        """The FLAG bits of :mod:`..models`, uint8 ``[rows, n]``."""
        if self.counts is None:
            return np.broadcast_to((self.steps > 0).astype(np.uint8), self.last.shape)
        out = np.zeros(self.last.shape, np.uint8)
        for plane, bit in ((PRESENT, FLAG_PRESENT), (NAN, FLAG_NAN), (INF, FLAG_INF), (ZERO, FLAG_ZERO)):
            out |= (self.counts[plane] > 0).astype(np.uint8) * np.uint8(bit)
        return out

    def full_counts(self) -> npt.NDArray[np.uint32]:
        """``counts``, made up where they are None."""
        if self.counts is not None:
            return self.counts
        out = np.zeros((4, *self.last.shape), np.uint32)
        out[PRESENT] = self.steps
        return out

    def cut(self, start: int, end: int) -> Buckets:
        """Buckets number ``start`` (inclusive) to ``end`` (exclusive)."""
        at = slice(start - self.first, end - self.first)
        counts = None if self.counts is None else self.counts[:, :, at]
        planes = (self.low[:, at], self.high[:, at], self.last[:, at])
        return Buckets(self.width, start, *planes, counts, self.steps[at], self.ends[at], self.times[at])


def fold(
    width: int,
    steps: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    values: npt.NDArray[Any],
    present: npt.NDArray[np.bool_] | None = None,
) -> Buckets:
    """Exact values ``[n, rows]`` (``n`` > 0, steps rising) as the buckets from the first step's to the last step's."""
    whole = steps.astype(np.int64)
    number = whole // width
    first = int(number[0])
    starts = np.concatenate(([0], np.flatnonzero(np.diff(number)) + 1))
    ends = np.append(starts[1:], len(whole)) - 1
    plain = present is None and bool(np.isfinite(values).all()) and bool(values.all())
    if plain:
        low, high = np.minimum.reduceat(values, starts, axis=0), np.maximum.reduceat(values, starts, axis=0)
        last, counts = values[ends], None
    else:
        low, high, last, counts = _fold_mixed(values, present, starts)
    filled = np.zeros(int(number[-1]) - first + 1, np.int64)
    at = number[starts] - first
    filled[at] = np.diff(np.append(starts, len(whole)))
    return Buckets(
        width,
        first,
        _spread(to_f4(low), at, len(filled)),
        _spread(to_f4(high), at, len(filled)),
        _spread(to_f4(last), at, len(filled)),
        None if counts is None else _spread_counts(counts, at, len(filled)),
        filled,
        _place(whole[ends], at, len(filled), -1),
        _place(times[ends], at, len(filled), 0.0),
    )


def _fold_mixed(
    values: npt.NDArray[Any], present: npt.NDArray[np.bool_] | None, starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.uint32]]:
    there = np.ones(values.shape, np.bool_) if present is None else present
    is_nan, is_inf = np.isnan(values), np.isinf(values)
    finite = there & ~(is_nan | is_inf)
    masks = (there, is_nan & there, is_inf & there, (values == 0) & there)
    counts = np.stack([np.add.reduceat(mask, starts, axis=0, dtype=np.uint32) for mask in masks])
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts, axis=0)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts, axis=0)
    none = counts[PRESENT] == counts[NAN] + counts[INF]
    low[none] = high[none] = np.nan
    newest = _newest(there, starts)
    last = np.where(newest < 0, np.nan, np.take_along_axis(values, np.maximum(newest, 0), axis=0))
    return low, high, last, counts


def _newest(there: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each stretch and column, the index of the last True along axis 0, -1 if none."""
    index = np.where(there, np.arange(len(there))[:, None], -1)
    return np.maximum.reduceat(index, starts, axis=0)


def coarsen(parts: Sequence[Buckets], width: int) -> Buckets:
    """Buckets of one width, the parts one after the other, as wider ones (``width`` a multiple of theirs).

    Parts may differ in rows: a later one may have more. The result has as many as the widest, and begins with the bucket
    that holds the first part's first.
    """
    step = width // parts[0].width
    joined = parts[0] if len(parts) == 1 else _join(parts)
    number = (joined.first + np.arange(len(joined.steps))) // step
    starts = np.concatenate(([0], np.flatnonzero(np.diff(number)) + 1))
    first = int(number[0])
    if joined.counts is None and bool(joined.steps.all()):
        low = np.minimum.reduceat(joined.low, starts, axis=1)
        high = np.maximum.reduceat(joined.high, starts, axis=1)
        last = joined.last[:, np.append(starts[1:], len(number)) - 1]
        counts = None
    else:
        full = joined.full_counts()
        low, high = (
            np.fmin.reduceat(joined.low, starts, axis=1),
            np.fmax.reduceat(joined.high, starts, axis=1),
        )
        newest = _newest((full[PRESENT] > 0).T, starts).T
        last = np.where(newest < 0, _NAN4, np.take_along_axis(joined.last, np.maximum(newest, 0), axis=1))
        counts = None if joined.counts is None else np.add.reduceat(full, starts, axis=2, dtype=np.uint32)
    ends = np.maximum.reduceat(joined.ends, starts)
    newest_step = _newest((joined.ends >= 0)[:, None], starts)[:, 0]
    times = np.where(newest_step < 0, 0.0, joined.times[np.maximum(newest_step, 0)])
    return Buckets(width, first, low, high, last, counts, np.add.reduceat(joined.steps, starts), ends, times)


def _join(parts: Sequence[Buckets]) -> Buckets:
    first, width = parts[0].first, parts[0].width
    n = parts[-1].first + len(parts[-1].steps) - first
    rows = max(len(part.last) for part in parts)
    planes = [np.full((rows, n), _NAN4) for _ in range(3)]
    mixed = any(part.counts is not None or len(part.last) < rows for part in parts)
    counts = np.zeros((4, rows, n), np.uint32) if mixed else None
    steps, ends, times = np.zeros(n, np.int64), np.full(n, -1, np.int64), np.zeros(n)
    for part in parts:
        at = slice(part.first - first, part.first - first + len(part.steps))
        for plane, source in zip(planes, (part.low, part.high, part.last), strict=True):
            plane[: len(source), at] = source
        if counts is not None:
            counts[:, : len(part.last), at] = part.full_counts()
        steps[at], ends[at], times[at] = part.steps, part.ends, part.times
    return Buckets(width, first, planes[0], planes[1], planes[2], counts, steps, ends, times)


def to_f4(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As float32; what is finite stays so: beyond its range it becomes the largest."""
    if values.dtype == np.float32:
        return values
    clipped = np.where(np.isinf(values), values, np.clip(values, -_TOP, _TOP))
    return clipped.astype(np.float32)


def _spread(values: npt.NDArray[np.float32], at: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float32]:
    """``[stretches, rows]`` as ``[rows, n]`` with stretch i in column ``at[i]``, NaN elsewhere."""
    if len(at) == n:
        return np.ascontiguousarray(values.T)
    out = np.full((values.shape[1], n), _NAN4)
    out[:, at] = values.T
    return out


def _spread_counts(
    counts: npt.NDArray[np.uint32], at: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.uint32]:
    out = np.zeros((4, counts.shape[2], n), np.uint32)
    out[:, :, at] = counts.transpose(0, 2, 1)
    return out


def _place(values: npt.NDArray[Any], at: npt.NDArray[np.int64], n: int, empty: Any) -> npt.NDArray[Any]:
    out = np.full(n, empty, values.dtype)
    out[at] = values
    return out
