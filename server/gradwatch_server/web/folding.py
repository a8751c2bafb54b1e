"""Frames into the buckets of a view: turns what was just stored into deltas that hold whole buckets. Pure.

A view starts as a snapshot from the store. The newest bucket of it is still open: frames to come belong to it. A
:class:`Fold` keeps that bucket and merges frames into it, so that a delta's buckets replace the reader's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ..models import FLAG_INF, FLAG_NAN, FLAG_PRESENT, FLAG_ZERO, Series, StoredBlock

__all__ = ["Fold", "Unfoldable"]

MOST_BUCKETS: Final = 65_536
"""A delta of more buckets is not worth it: a jump in step numbers, or a reader that was away for long."""

_Plane = npt.NDArray[np.float32]


class Unfoldable(Exception):
    """The blocks don't continue this view: read a fresh snapshot. (New tensors, or a jump in step numbers.)"""


class Fold:
    """The open end of one view.

    Args:
        series: the snapshot.
        rows: run-wide indexes of the view's rows, None for all (0, 1, 2, ...).
        to_step: exclusive end of the view, None for open.
    """

    def __init__(self, series: Series, rows: Sequence[int] | None = None, to_step: int | None = None) -> None:
        self.width = series.width
        self.last_step = series.last_step
        self.last_time = series.last_time
        self._rows = np.arange(series.last.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)
        self._all = rows is None
        self._to_step = to_step
        self._picks: tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]] | None = None
        self._open_bucket = -1
        self._open: tuple[_Plane, _Plane, _Plane, npt.NDArray[np.uint8]] | None = None
        column = series.last_step // series.width - series.first_bucket
        if series.last_step >= 0 and 0 <= column < series.last.shape[1]:
            self._open_bucket = series.first_bucket + column
            planes = (series.low, series.high, series.last)
            low, high, last = (np.array(plane[:, column], dtype=np.float32) for plane in planes)
            self._open = low, high, last, np.array(series.flags[:, column])

    def add(self, blocks: Sequence[StoredBlock]) -> Series | None:
        """The buckets that ``blocks`` change, whole; None when they hold nothing new (steps already in the view).

        Raises:
            Unfoldable: a fresh snapshot is needed.
        """
        parts = [part for block in blocks if (part := self._part(block)) is not None]
        if not parts:
            return None
        steps, times, values, present = (np.concatenate(piece) for piece in zip(*parts, strict=True))
        buckets = (steps // self.width).astype(np.int64)
        first, last = int(buckets[0]), int(buckets[-1])
        if last - first >= MOST_BUCKETS or (
            self._open_bucket >= 0 and first > self._open_bucket + MOST_BUCKETS
        ):
            raise Unfoldable
        delta = _reduce(buckets, values, present)
        if first == self._open_bucket and self._open is not None:
            _merge(self._open, delta)
        self.last_step, self.last_time = int(steps[-1]), float(times[-1])
        low, high, newest, flags = delta
        self._open_bucket = last
        self._open = low[:, -1].copy(), high[:, -1].copy(), newest[:, -1].copy(), flags[:, -1].copy()
        return Series(
            width=self.width,
            first_bucket=first,
            low=low,
            high=high,
            last=newest,
            flags=flags,
            last_step=self.last_step,
            last_time=self.last_time,
        )

    def _part(
        self, block: StoredBlock
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], _Plane, npt.NDArray[np.bool_]] | None:
        """Steps, times, values ``[n, rows]`` and presence of what is new in a block. Steps rise from block to block."""
        fresh = block.steps > self.last_step
        if self._to_step is not None:
            fresh &= block.steps < self._to_step
        if not fresh.any():
            return None
        start = int(np.argmax(fresh))
        stop = start + int(np.count_nonzero(fresh))
        self.last_step = int(block.steps[stop - 1])
        picks = self._pick(block)
        values = block.values[start:stop]
        with np.errstate(over="ignore"):
            chosen = values[:, np.maximum(picks, 0)].astype(np.float32, copy=False)
        if block.present is None:
            present = np.broadcast_to(picks >= 0, chosen.shape)
        else:
            present = block.present[start:stop][:, np.maximum(picks, 0)] & (picks >= 0)
        return block.steps[start:stop], block.times[start:stop], chosen, present

    def _pick(self, block: StoredBlock) -> npt.NDArray[np.int64]:
        """For each row of the view its column in the block, -1 where there is none."""
        if self._picks is None or self._picks[0] is not block.rows:
            size = int(block.rows.max(initial=-1)) + 1
            if self._all and size > len(self._rows):
                raise Unfoldable
            column = np.full(max(size, int(self._rows.max(initial=-1)) + 1), -1, dtype=np.int64)
            column[block.rows] = np.arange(len(block.rows))
            self._picks = block.rows, column[self._rows]
        return self._picks[1]


def _reduce(
    buckets: npt.NDArray[np.int64], values: _Plane, present: npt.NDArray[np.bool_]
) -> tuple[_Plane, _Plane, _Plane, npt.NDArray[np.uint8]]:
    """Extremes, newest value and flags per bucket, each ``[rows, last - first + 1]``; buckets without frames are absent."""
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    finite = np.isfinite(values) & present
    seen_nan = np.isnan(values) & present
    seen_zero = (values == 0) & present
    inf = np.float32(np.inf)
    low = np.minimum.reduceat(np.where(finite, values, inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -inf), starts)
    low[np.isinf(low)] = np.nan
    high[np.isinf(high)] = np.nan
    order = np.arange(len(values))[:, None]
    newest = np.maximum.reduceat(np.where(present, order, -1), starts)
    last = np.take_along_axis(values, np.maximum(newest, 0), axis=0)
    last = np.where(newest >= 0, last, np.float32(np.nan))
    flags = np.zeros(low.shape, np.uint8)
    for bit, cells in (
        (FLAG_PRESENT, present),
        (FLAG_NAN, seen_nan),
        (FLAG_INF, present & ~finite & ~seen_nan),
        (FLAG_ZERO, seen_zero),
    ):
        flags |= np.uint8(bit) * np.logical_or.reduceat(cells, starts).astype(np.uint8)
    places = buckets[starts] - buckets[0]
    n = int(places[-1]) + 1
    rows = values.shape[1]
    full = tuple(np.full((rows, n), np.nan, np.float32) for _ in range(3))
    for plane, source in zip(full, (low, high, last), strict=True):
        plane[:, places] = source.T
    all_flags = np.zeros((rows, n), np.uint8)
    all_flags[:, places] = flags.T
    return full[0], full[1], full[2], all_flags


def _merge(
    opened: tuple[_Plane, _Plane, _Plane, npt.NDArray[np.uint8]],
    delta: tuple[_Plane, _Plane, _Plane, npt.NDArray[np.uint8]],
) -> None:
    """Merges what the first bucket of ``delta`` already held into it."""
    low, high, last, flags = opened
    delta[0][:, 0] = np.fmin(low, delta[0][:, 0])
    delta[1][:, 0] = np.fmax(high, delta[1][:, 0])
    absent = (delta[3][:, 0] & FLAG_PRESENT) == 0
    delta[2][:, 0] = np.where(absent, last, delta[2][:, 0])
    delta[3][:, 0] |= flags
