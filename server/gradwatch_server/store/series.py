"""Series at any zoom, and exact values, from blocks and tail: the cost follows the pixels, not the length of the run.

Buckets of the asked width come from stored blocks of their level; what those don't cover (the newest stretch, and the part
of a bucket before a later segment begins) comes from the next level down, and so on to exact values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from ..models import Segment, Series, SeriesQuery, Values
from .block_codec import chunk_steps, decode_buckets, decode_chunk, kind_of, stub_of
from .block_queries import (
    HIGHEST,
    LOWEST,
    SeriesKey,
    block_bodies,
    chunk_heads,
    levels_end,
    newest_blocks,
)
from .derived import Origin, origin_of
from .pyramid import Buckets, coarsen, fold
from .retention_sql import thinned_before
from .tail import Piece
from .tail_cache import read_tail

__all__ = [
    "BLOCK_BUCKETS",
    "CHUNK_STEPS",
    "LOWEST",
    "SegmentReader",
    "level_span",
    "newest_step",
    "read_series",
    "read_values",
]

CHUNK_STEPS: Final = 256
"""Steps of a stored chunk of exact values."""

BLOCK_BUCKETS: Final = 64
"""Buckets of a stored block of the pyramid."""

_END: Final = 2**53
_FETCH: Final = 20
"""Chunks read in one go: as many as a view of exact values needs."""


def level_span(level: int) -> int:
    """Steps in one stored block of a level."""
    return CHUNK_STEPS if level == 0 else int(4**level * BLOCK_BUCKETS)


class SegmentReader:
    """The numbers of one series in one segment."""

    def __init__(self, conn: Connection, key: SeriesKey, segment: int) -> None:
        self._conn, self._key, self._segment = conn, key, segment

    @cached_property
    def _ends(self) -> dict[int, tuple[int, int]]:
        return levels_end(self._conn, self._key, self._segment)

    @property
    def stored(self) -> int:
        """The newest step that is in chunks, -1 if none: what the tail says of steps up to it is old."""
        return self._ends.get(0, (0, -1))[1]

    @cached_property
    def tail(self) -> list[Piece]:
        """What is not in chunks yet, in order."""
        return read_tail(self._conn, self._key, self._segment, self.stored)

    def newest(self, high: int) -> int:
        """The newest step below ``high``, -1 if there is none."""
        for piece in reversed(self.tail):
            before = piece.between(0, high)
            if before is not None:
                return int(before.steps[-1])
        if self.stored < high:
            return self.stored
        for last, body in newest_blocks(self._conn, self._key, self._segment, high):
            if last < high:
                return last
            steps = chunk_steps(body)
            if steps[0] < high:
                return int(steps[steps < high][-1])
        return -1

    @cached_property
    def _origin(self) -> Origin | None:
        return origin_of(self._conn, self._key.run_no, self._key.series)

    def chunk(self, first: int, body: bytes) -> Piece | None:
        """The values of a stored chunk, None if they are not kept any more."""
        stub = stub_of(body)
        if stub is None:
            return decode_chunk(body, self._key.series)
        if not stub.derived or self._origin is None:
            return None
        source = SeriesKey(self._key.run_no, self._origin.series, 0)
        for _, below in block_bodies(self._conn, source, self._segment, 0, first, first + 1):
            if stub_of(below) is None:
                tensors = decode_chunk(below, source.series)
                return self._origin.derive(tensors, stub.rows, self._key.series)
        return None

    def is_thinned(self, low: int, high: int) -> bool:
        """Whether exact values of ``low <= step < high`` are not kept any more."""
        high = min(high, thinned_before(self._conn, self._key.run_no, self._segment))
        if low >= high:
            return False
        low = low // CHUNK_STEPS * CHUNK_STEPS
        heads = chunk_heads(self._conn, self._key, self._segment, low, high)
        kinds = {kind_of(head) for head in heads}
        if "derived" in kinds and self._origin is not None:
            source = SeriesKey(self._key.run_no, self._origin.series, 0)
            kinds |= {kind_of(head) for head in chunk_heads(self._conn, source, self._segment, low, high)}
        return "thinned" in kinds

    def chunks(self, low: int, high: int) -> Iterator[Piece]:
        """What is kept of the stored chunks that begin at ``low <= step < high``, in order."""
        start, most, found = low, 1, 1
        while found == most:  # one for who wants one step, and never the whole of a long run at once
            most = min(4 * most, _FETCH)
            bodies = block_bodies(self._conn, self._key, self._segment, 0, start, high, most=most)
            for first, body in bodies:
                start = first + CHUNK_STEPS
                piece = self.chunk(first, body)
                if piece is not None:
                    yield piece
            found = len(bodies)

    def exact(self, low: int, high: int) -> Iterator[Piece]:
        """Exact values of steps ``low <= step < high``, in order."""
        if low <= self.stored:
            for chunk in self.chunks(low // CHUNK_STEPS * CHUNK_STEPS, high):
                piece = chunk.between(low, high)
                if piece is not None:
                    yield piece
        if high > self.stored + 1:
            for tail in self.tail:
                piece = tail.between(low, high)
                if piece is not None:
                    yield piece

    def buckets(self, low: int, high: int, level: int, width: int) -> Iterator[Buckets]:
        """Steps ``low <= step < high`` in order, as buckets of ``width`` steps or of a lower level's width. The edges of
        the range may be within a bucket."""
        if low >= high:
            return
        if level < LOWEST:
            for piece in self.exact(low, high):
                yield fold(width, piece.steps, piece.times, piece.values, piece.present, plain=piece.plain)
            return
        size = 4**level
        span = level_span(level)
        covered = self._ends[level][0] + span if level in self._ends else 0
        start, end = -(-low // size) * size, min(high // size * size, covered)
        if start >= end:
            yield from self.buckets(low, high, level - 1, width)
            return
        yield from self.buckets(low, start, level - 1, width)
        for first, body in block_bodies(
            self._conn, self._key, self._segment, level, start // span * span, end
        ):
            block = decode_buckets(body, size, first // size)
            yield block.cut(max(start, first) // size, min(end, first + span) // size)
        yield from self.buckets(end, high, level - 1, width)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What one segment contributes: steps ``low <= step < high``."""

    reader: SegmentReader
    low: int
    high: int


def _stretches(
    conn: Connection, key: SeriesKey, segments: Sequence[Segment], segment: int | None
) -> list[_Stretch]:
    """Joined: a segment from its start to where the next one that isn't superseded itself begins. ``segments`` in order."""
    if segment is not None:
        return [_Stretch(SegmentReader(conn, key, segment), 0, _END)]
    found: list[_Stretch] = []
    high = _END
    for one in reversed(segments):
        low = one.start_step if one is not segments[0] else 0
        if low < high:
            found.append(_Stretch(SegmentReader(conn, key, one.index), low, high))
            high = low
    return found[::-1]


def _newest(stretches: Sequence[_Stretch]) -> int:
    for stretch in reversed(stretches):
        found = stretch.reader.newest(stretch.high)
        if found >= stretch.low:
            return found
    return -1


def newest_step(
    conn: Connection, key: SeriesKey, segments: Sequence[Segment], segment: int | None = None
) -> int:
    """The newest step at which a series has values, -1 if there is none. The segments are joined, or one is chosen."""
    return _newest(_stretches(conn, key, segments, segment))


class _Canvas:
    """Collects buckets ``first .. first + n`` of ``width`` steps for some rows."""

    def __init__(
        self, width: int, first: int, n: int, rows: npt.NDArray[np.int64] | None, total: int
    ) -> None:
        self.width, self.first, self.n = width, first, n
        self._rows = rows
        shape = (total if rows is None else len(rows), n)
        self.low, self.high, self.last = (np.full(shape, np.float32(np.nan)) for _ in range(3))
        self.flags = np.zeros(shape, np.uint8)
        self._touched = np.zeros(n, np.bool_)
        self.last_step, self.last_time = -1, 0.0

    def add(self, part: Buckets) -> None:
        """Lays ``part`` over what is there. Parts come in the order of steps and share at most a bucket at the edges."""
        if part.width != self.width:
            part = coarsen([part], self.width)
        start, end = max(part.first, self.first), min(part.first + len(part.steps), self.first + self.n)
        if start >= end:
            return
        part = part.cut(start, end)
        rows = len(part.last)
        at = slice(start - self.first, end - self.first)
        if self._rows is None:
            into, of = slice(0, rows), slice(0, rows)
            self._lay(part, into, of, at)
        else:
            known = np.flatnonzero(self._rows < rows)
            self._lay(part, known, self._rows[known], at)
        self._touched[at] |= part.steps > 0
        newest = int(part.ends.argmax())
        if part.ends[newest] > self.last_step:
            self.last_step, self.last_time = int(part.ends[newest]), float(part.times[newest])

    def _lay(
        self,
        part: Buckets,
        into: slice | npt.NDArray[np.int64],
        of: slice | npt.NDArray[np.int64],
        at: slice,
    ) -> None:
        flags = part.flags()[of]
        low, high, last = part.low[of], part.high[of], part.last[of]
        if self._touched[at].any():
            low = np.fmin(self.low[into, at], low)
            high = np.fmax(self.high[into, at], high)
            last = np.where(flags > 0, last, self.last[into, at])
            flags = self.flags[into, at] | flags
        self.low[into, at], self.high[into, at] = low, high
        self.last[into, at], self.flags[into, at] = last, flags

    def series(self) -> Series:
        """What has been laid down."""
        return Series(
            width=self.width,
            first_bucket=self.first,
            low=self.low,
            high=self.high,
            last=self.last,
            flags=self.flags,
            last_step=self.last_step,
            last_time=self.last_time,
        )


def _level_for(low: int, high: int, points: int) -> int:
    """The lowest level at which ``low <= step < high`` touches at most ``points`` buckets."""
    level = 0
    while level < HIGHEST - 1 and (high - 1) // 4**level - low // 4**level + 1 > max(points, 1):
        level += 1
    return level


def read_series(conn: Connection, key: SeriesKey, segments: Sequence[Segment], query: SeriesQuery) -> Series:
    """The answer to ``query``. It begins with the bucket of ``from_step`` (or of the run's first step, if that is later)
    and ends with the newest step or ``to_step``; both end buckets are whole."""
    stretches = _stretches(conn, key, segments, query.segment)
    rows = None if query.rows is None else np.array(query.rows, np.int64)
    newest = _newest(stretches)
    begin = min((s.start_step for s in segments), default=0) if query.segment is None else 0
    low = max(query.from_step, begin)
    high = newest + 1 if query.to_step is None else min(query.to_step, newest + 1)
    if low >= high:
        return _Canvas(1, low, 0, rows, key.width).series()
    level = _level_for(low, high, query.points)
    if level < LOWEST and any(s.reader.is_thinned(max(low, s.low), min(high, s.high)) for s in stretches):
        level = LOWEST
    width = 4**level
    first, end = low // width, -(-high // width)
    canvas = _Canvas(width, first, end - first, rows, key.width)
    for stretch in stretches:
        for part in stretch.reader.buckets(
            max(first * width, stretch.low), min(end * width, stretch.high, newest + 1), level, width
        ):
            canvas.add(part)
    return canvas.series()


def iterate_values(
    conn: Connection, key: SeriesKey, segments: Sequence[Segment]
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """All exact values of the joined segments in pieces: steps ``[n]``, times ``[n]``, values ``[n, width]`` and presence."""
    for stretch in _stretches(conn, key, segments, None):
        for piece in stretch.reader.exact(stretch.low, stretch.high):
            values = np.full((len(piece.steps), key.width), np.nan)
            present = np.zeros(values.shape, np.bool_)
            known = piece.values.shape[1]
            values[:, :known] = piece.values
            present[:, :known] = True if piece.present is None else piece.present
            yield piece.steps, piece.times, values, present


def read_values(
    conn: Connection,
    key: SeriesKey,
    segments: Sequence[Segment],
    rows: Sequence[int] | None,
    from_step: int,
    to_step: int | None,
    limit: int,
    segment: int | None = None,
) -> Values:
    """The first ``limit`` exact values from ``from_step`` on."""
    chosen = np.arange(key.width) if rows is None else np.array(rows, np.int64)
    high = _END if to_step is None else to_step
    pieces: list[Piece] = []
    count = 0
    for stretch in _stretches(conn, key, segments, segment):
        if count >= limit:
            break
        for piece in stretch.reader.exact(max(from_step, stretch.low), min(high, stretch.high)):
            pieces.append(piece)
            count += len(piece.steps)
            if count >= limit:
                break
    n = min(count, limit)
    values = np.full((count, len(chosen)), np.nan)
    present = np.zeros((count, len(chosen)), np.bool_)
    at = 0
    for piece in pieces:
        known = np.flatnonzero(chosen < piece.values.shape[1])
        into = (slice(at, at + len(piece.steps)), known)
        values[into] = piece.values[:, chosen[known]]
        present[into] = True if piece.present is None else piece.present[:, chosen[known]]
        at += len(piece.steps)
    steps = np.concatenate([piece.steps for piece in pieces]) if pieces else np.empty(0)
    times = np.concatenate([piece.times for piece in pieces]) if pieces else np.empty(0)
    return Values(steps=steps[:n], times=times[:n], values=values[:n], present=present[:n])
