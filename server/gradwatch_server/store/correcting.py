"""Stored values replaced by better ones: a rank's part that came after its step was merged.

Only what is in chunks is corrected, so the lane is compacted first. A chunk is written anew, then every block of the
pyramid above it from the level below; all in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select, update

from . import tables as t
from .block_codec import decode_buckets, encode_buckets, encode_chunk, stub_of
from .block_queries import HIGHEST, LOWEST, SeriesKey, block_bodies
from .compactor import PACKED_LEVELS
from .derived import origin_of
from .pyramid import Buckets, coarsen, dense, fold
from .series import BLOCK_BUCKETS, CHUNK_STEPS, SegmentReader, level_span
from .tail import Piece

__all__ = ["correct"]


def correct(conn: Connection, run_no: int, segment: int, pieces: Sequence[Piece]) -> None:
    """Puts ``pieces`` (of series of the main lane, steps rising) in the place of what is stored at their steps.

    What follows from them, the norms of groups, follows. Chunks whose exact values are not kept any more stay as they are.
    """
    for piece in pieces:
        series = _Stored(conn, run_no, segment, piece.series)
        touched = series.replace(piece)
        series.raise_blocks(touched)
        for group in _groups_over(conn, run_no, piece.series):
            above = _Stored(conn, run_no, segment, group)
            above.follow(piece.series, touched)
            above.raise_blocks(touched)


class _Stored:
    """One series in one segment."""

    def __init__(self, conn: Connection, run_no: int, segment: int, series: int) -> None:
        self._conn, self._segment = conn, segment
        self._key = SeriesKey(run_no, series, 0)
        self._reader = SegmentReader(conn, self._key, segment)

    def replace(self, piece: Piece) -> list[int]:
        """The chunks that have changed, by first step."""
        touched = []
        for start in np.unique(piece.steps // CHUNK_STEPS):
            first = int(start) * CHUNK_STEPS
            fresh = piece.between(first, first + CHUNK_STEPS)
            for _, body in self._bodies(0, first, first + 1):
                old = self._reader.chunk(first, body)
                if old is not None and fresh is not None:
                    self._put(0, first, encode_chunk(_laid_over(old, fresh)))
                    touched.append(first)
        return touched

    def follow(self, tensors: int, touched: Iterable[int]) -> None:
        """Chunks that hold what follows from another series' values are made anew. Those that hold nothing follow by
        themselves."""
        origin = origin_of(self._conn, self._key.run_no, self._key.series)
        source = SegmentReader(self._conn, SeriesKey(self._key.run_no, tensors, 0), self._segment)
        for first in touched if origin is not None else ():
            for _, body in self._bodies(0, first, first + 1):
                for piece in source.chunks(first, first + 1) if stub_of(body) is None else ():
                    rows = len(origin.groups) if origin is not None else 0
                    made = None if origin is None else origin.derive(piece, rows, self._key.series)
                    if made is not None:
                        self._put(0, first, encode_chunk(made))

    def raise_blocks(self, touched: Sequence[int]) -> None:
        """Every stored block of the pyramid over these chunks, from the level below."""
        for level in range(LOWEST, HIGHEST):
            span = level_span(level)
            found = 0
            for first in sorted({step // span * span for step in touched}):
                for _ in self._bodies(level, first, first + 1):
                    parts = self._below(level, first, first + span)
                    block = dense(coarsen(parts, 4**level), first // 4**level, BLOCK_BUCKETS)
                    self._put(level, first, encode_buckets(block, packed=level in PACKED_LEVELS))
                    found += 1
            if not found:
                return

    def _below(self, level: int, low: int, high: int) -> list[Buckets]:
        if level == LOWEST:
            chunks = self._reader.chunks(low, high)
            return [fold(4**level, one.steps, one.times, one.values, one.present) for one in chunks]
        width = 4 ** (level - 1)
        bodies = self._bodies(level - 1, low, high)
        return [coarsen([decode_buckets(body, width, first // width)], 4**level) for first, body in bodies]

    def _bodies(self, level: int, low: int, high: int) -> list[tuple[int, bytes]]:
        return block_bodies(self._conn, self._key, self._segment, level, low, high)

    def _put(self, level: int, first: int, body: bytes) -> None:
        c = t.blocks.c
        this = (c.run_no == self._key.run_no) & (c.series == self._key.series) & (c.segment == self._segment)
        self._conn.execute(
            update(t.blocks).where(this & (c.level == level) & (c.first_step == first)).values(body=body)
        )


def _groups_over(conn: Connection, run_no: int, series: int) -> list[int]:
    """The series of groups that follows from this one, if any."""
    c = t.series.c
    this = conn.execute(select(t.series).where((c.run_no == run_no) & (c.idx == series))).one()
    if this.scope != "tensor":
        return []
    same = (c.run_no == run_no) & (c.rank == this.rank) & (c.name == this.name) & (c.scope == "group")
    return [int(idx) for idx in conn.execute(select(c.idx).where(same)).scalars()]


def _laid_over(old: Piece, fresh: Piece) -> Piece:
    """``old`` with the rows of ``fresh`` at its steps; steps that ``old`` lacks come in."""
    steps = np.union1d(old.steps, fresh.steps)
    width = max(old.values.shape[1], fresh.values.shape[1])
    values: npt.NDArray[Any] = np.full((len(steps), width), np.nan, old.values.dtype)
    present, times = np.zeros(values.shape, np.bool_), np.zeros(len(steps))
    for piece in (old, fresh):
        at = np.searchsorted(steps, piece.steps)
        values[at] = np.nan
        present[at] = False
        values[at, : piece.values.shape[1]] = piece.values
        present[at, : piece.values.shape[1]] = piece.presence()
        times[at] = piece.times
    return Piece(old.series, steps, times, values, None if present.all() else present)
