"""Puts in order what has arrived: rows of the tail become chunks of exact values, and chunks the levels of the pyramid.

Everything is derived from what is stored, in one transaction with the removal of the rows it came from: killed at any
moment, nothing is lost or doubled. What the next block of each level is made of is kept in memory, bounded, and read back
from the store where it isn't.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection

from . import block_queries as queries
from . import writes
from .block_codec import Stub, decode_buckets, encode_buckets, encode_chunk, encode_stub
from .block_queries import HIGHEST, LOWEST, SeriesKey
from .database import Database
from .derived import Origin, origin_of
from .pyramid import Buckets, coarsen, dense, fold
from .series import BLOCK_BUCKETS, CHUNK_STEPS, SegmentReader, level_span
from .tail import Piece, unpack
from .writes import NewBlock

__all__ = ["Compactor", "Lane"]

PASS_BYTES: Final = 8 << 20
"""How much of the tail one pass takes, unless a single chunk needs more."""

MEMORY_BYTES: Final = 128 << 20
"""Most that is kept in memory of blocks that aren't whole yet."""

PACKED_LEVELS: Final = frozenset({LOWEST})
"""Levels that are compressed: the lowest is most of the pyramid, the others are read most."""


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """What is compacted together: a segment as one rank saw it."""

    run_no: int
    segment: int
    rank: int


@dataclass(slots=True, eq=False)
class _SeriesState:
    """How far a series is. ``stored``: newest step in chunks. ``ends``: by level, where its next block begins at the
    earliest. ``open``: by level, its buckets that are in no block yet, in order."""

    stored: int = -1
    ends: dict[int, int] = field(default_factory=dict)
    open: dict[int, list[Buckets]] = field(default_factory=dict)

    def nbytes(self) -> int:
        """About what ``open`` takes."""
        return sum(3 * part.last.nbytes for parts in self.open.values() for part in parts)


class Compactor:
    """Works on one lane at a time; not for two threads at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[Lane, dict[int, _SeriesState]] = OrderedDict()
        self._origins: dict[tuple[int, int], Origin | None] = {}
        self._flat: dict[tuple[int, int], bool] = {}

    def compact(self, lane: Lane, *, everything: bool = False) -> tuple[bool, int]:
        """One pass. Without ``everything`` only whole chunks are made. Whether there may be more to do, and how many bytes of
        the tail were put in order.

        Raises:
            StoreError: the database failed. Nothing is changed then.
        """
        found = self._database.read(lambda conn: self._load(conn, lane, everything))
        if found is None:
            return False, 0
        bodies, states, more = found
        self._known.pop(lane, None)  # until the result is durable
        work = _Pass(lane, states, self._database, self._origins, self._flat)
        done = work.run(bodies, everything)
        if done or work.blocks or work.merged:
            kept = self._database.write(
                lambda conn: writes.put_blocks(conn, lane.run_no, work.blocks, work.merged, done)
            ).result()
            if not kept:
                return False, 0
        self._remember(lane, states)
        gone = set(done)
        return more and bool(done), sum(len(body) for id, _, body in bodies if id in gone)

    def reopen(self, lane: Lane) -> None:
        """What is known of a lane is read again before its next pass: somebody changes what is stored."""
        self._known.pop(lane, None)

    def forget(self, run_no: int) -> None:
        """Drops what is known of a run."""
        for lane in [lane for lane in self._known if lane.run_no == run_no]:
            del self._known[lane]
        for known in (self._origins, self._flat):
            for key in [key for key in known if key[0] == run_no]:
                del known[key]

    def _load(
        self, conn: Connection, lane: Lane, everything: bool
    ) -> tuple[list[tuple[int, int, bytes]], dict[int, _SeriesState], bool] | None:
        rows = queries.tail_sizes(conn, lane.run_no, lane.segment, lane.rank)
        if not rows:
            return None
        size, taken = 0, []
        whole = everything
        for id, last, nbytes in rows:
            if size > PASS_BYTES and whole:
                break
            taken.append(id)
            size += nbytes
            whole = whole or last // CHUNK_STEPS > rows[0][1] // CHUNK_STEPS
        states = self._known.get(lane)
        if states is None:
            states = {
                series: _state(levels)
                for series, levels in queries.lane_ends(conn, lane.run_no, lane.segment).items()
            }
        bodies = queries.tail_by_id(conn, taken[0], taken[-1], lane.run_no, lane.segment, lane.rank)
        return bodies, states, len(taken) < len(rows)

    def _remember(self, lane: Lane, states: dict[int, _SeriesState]) -> None:
        self._known[lane] = states
        size = sum(state.nbytes() for known in self._known.values() for state in known.values())
        while size > MEMORY_BYTES and len(self._known) > 1:
            _, dropped = self._known.popitem(last=False)
            size -= sum(state.nbytes() for state in dropped.values())


def _state(levels: dict[int, tuple[int, int]]) -> _SeriesState:
    """From first and last step of the newest block of each level."""
    state = _SeriesState(stored=levels.get(0, (0, -1))[1])
    state.ends = {level: first + level_span(level) for level, (first, _) in levels.items() if level}
    return state


class _Pass:
    """One pass over some rows of the tail of a lane."""

    def __init__(
        self,
        lane: Lane,
        states: dict[int, _SeriesState],
        database: Database,
        origins: dict[tuple[int, int], Origin | None],
        flat: dict[tuple[int, int], bool],
    ) -> None:
        self._lane = lane
        self._states = states
        self._database = database
        self._origins = origins
        self._flat = flat
        self._whole: dict[tuple[int, int], Piece] = {}
        self.blocks: list[NewBlock] = []
        self.merged: list[NewBlock] = []

    def run(self, bodies: list[tuple[int, int, bytes]], everything: bool) -> list[int]:
        """Fills ``blocks`` and ``merged``; gives the ids of the rows that are wholly in them."""
        pieces: dict[int, list[Piece]] = {}
        for _, _, body in bodies:
            for piece in unpack(body):
                pieces.setdefault(piece.series, []).append(piece)
        newest = max(last for _, last, _ in bodies)
        bound = newest + 1 if everything else newest // CHUNK_STEPS * CHUNK_STEPS
        for series, parts in pieces.items():
            self._series(series, parts, bound)
        return [id for id, last, _ in bodies if last < bound]

    def _series(self, series: int, parts: list[Piece], bound: int) -> None:
        state = self._states.setdefault(series, _SeriesState())
        fresh = [part.between(state.stored + 1, bound) for part in parts]
        values = _concatenate([part for part in fresh if part is not None])
        if values is None:
            return
        flat = self._is_flat(series)
        if LOWEST not in state.open and not flat:
            self._reopen(series, state)
        before = state.stored
        for chunk in _chunks(values):
            first = int(chunk.steps[0]) // CHUNK_STEPS * CHUNK_STEPS
            if first <= before:
                self._merge(series, first, chunk)
            else:
                self.blocks.append(self._chunk(series, first, chunk))
            if not flat:
                state.open[LOWEST].append(_folded(chunk))
        state.stored = int(values.steps[-1])
        if not flat:
            self._raise(series, state, int(parts[-1].steps[-1]))

    def _is_flat(self, series: int) -> bool:
        """Whether a series has no pyramid: nobody draws a histogram over steps, and its buckets would be 48 times a norm's."""
        key = (self._lane.run_no, series)
        if key not in self._flat:
            self._flat[key] = self._database.read(lambda conn: queries.scope_of(conn, *key)) == "histogram"
        return self._flat[key]

    def _block(self, series: int, level: int, first: int, last: int, body: bytes) -> NewBlock:
        return NewBlock(self._lane.run_no, series, self._lane.segment, level, first, last, body)

    def _merge(self, series: int, first: int, chunk: Piece) -> None:
        """A chunk that was stored before it was full, with what has come since."""
        whole = _concatenate([*self._stored(series, first, first + 1), chunk])
        if whole is not None:
            self.merged.append(self._chunk(series, first, whole))

    def _chunk(self, series: int, first: int, chunk: Piece) -> NewBlock:
        """Without its values, if they follow from those of another series in this pass."""
        self._whole[(series, first)] = chunk
        body = (
            encode_chunk(chunk)
            if not self._follows(series, first, chunk)
            else encode_stub(Stub(chunk.steps, chunk.values.shape[1], derived=True))
        )
        return self._block(series, 0, first, int(chunk.steps[-1]), body)

    def _follows(self, series: int, first: int, chunk: Piece) -> bool:
        key = (self._lane.run_no, series)
        if key not in self._origins:
            self._origins[key] = self._database.read(lambda conn: origin_of(conn, *key))
        origin = self._origins[key]
        source = None if origin is None else self._whole.get((origin.series, first))
        if origin is None or source is None:
            return False
        rows, tensors = chunk.values.shape[1], source.values.shape[1]
        if len(origin.groups) < rows or len(origin.modules) < tensors:  # the run has grown
            self._origins[key] = origin = self._database.read(lambda conn: origin_of(conn, *key)) or origin
        return origin.gives(source, chunk)

    def _raise(self, series: int, state: _SeriesState, newest: int) -> None:
        """Blocks of every level whose stretch of steps is over: ``newest`` is beyond it."""
        for level in range(LOWEST, HIGHEST):
            span = level_span(level)
            parts = state.open.get(level, [])
            bound = newest // span * span
            while parts and parts[0].first * 4**level < bound:
                first = parts[0].first * 4**level // span * span
                whole, parts = _split(parts, (first + span) // 4**level)
                block = dense(coarsen(whole, 4**level), first // 4**level, BLOCK_BUCKETS)
                body = encode_buckets(block, packed=level in PACKED_LEVELS)
                self.blocks.append(self._block(series, level, first, int(block.ends.max()), body))
                state.ends[level] = first + span
                state.open.setdefault(level + 1, []).append(coarsen([block], 4 ** (level + 1)))
            state.open[level] = parts
            if level >= max(state.open):
                return

    def _reopen(self, series: int, state: _SeriesState) -> None:
        """Reads back what the next block of each level is made of."""
        if state.stored < 0:
            state.open[LOWEST] = []
            return
        end = state.ends.get(LOWEST, 0)
        state.open[LOWEST] = [_folded(piece) for piece in self._stored(series, end, 1 << 53)]
        for level in range(LOWEST + 1, HIGHEST):
            below = self._read(series, level - 1, state.ends.get(level, 0), 1 << 53)
            width = 4 ** (level - 1)
            parts = [decode_buckets(body, width, first // width) for first, body in below]
            state.open[level] = [coarsen([part], 4**level) for part in parts]
            if level - 1 not in state.ends:
                return

    def _stored(self, series: int, low: int, high: int) -> list[Piece]:
        """The chunks that begin at ``low <= step < high``."""
        key = SeriesKey(self._lane.run_no, series, 0)
        return self._database.read(
            lambda conn: list(SegmentReader(conn, key, self._lane.segment).chunks(low, high))
        )

    def _read(self, series: int, level: int, low: int, high: int) -> list[tuple[int, bytes]]:
        key = SeriesKey(self._lane.run_no, series, 0)
        return self._database.read(
            lambda conn: queries.block_bodies(conn, key, self._lane.segment, level, low, high)
        )


def _folded(chunk: Piece) -> Buckets:
    """A chunk as buckets of the lowest level: few, however far apart chunks are."""
    return fold(4**LOWEST, chunk.steps, chunk.times, chunk.values, chunk.present, plain=chunk.plain)


def _concatenate(parts: list[Piece]) -> Piece | None:
    """Pieces one after the other as one; rows that an earlier one lacks are absent in it."""
    if len(parts) < 2:
        return parts[0] if parts else None
    width = max(part.values.shape[1] for part in parts)
    mixed = any(part.present is not None or part.values.shape[1] < width for part in parts)
    return Piece(
        parts[0].series,
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([_pad(part.values, width, np.nan) for part in parts]),
        np.concatenate([_pad(part.presence(), width, False) for part in parts]) if mixed else None,
    )


def _pad(values: Any, width: int, empty: Any) -> Any:
    missing = width - values.shape[1]
    if missing == 0:
        return values
    return np.concatenate([values, np.full((len(values), missing), empty, values.dtype)], axis=1)


def _chunks(piece: Piece) -> Iterable[Piece]:
    """``piece`` cut where the aligned stretches of chunks begin."""
    number = piece.steps // CHUNK_STEPS
    for start in np.unique(number):
        part = piece.between(start * CHUNK_STEPS, (start + 1) * CHUNK_STEPS)
        if part is not None:
            yield part


def _split(parts: list[Buckets], end: int) -> tuple[list[Buckets], list[Buckets]]:
    """The buckets before number ``end``, and the rest."""
    before, after = [], []
    for part in parts:
        if part.first + len(part.steps) <= end:
            before.append(part)
        elif part.first >= end:
            after.append(part)
        else:
            before.append(part.cut(part.first, end))
            after.append(part.cut(end, part.first + len(part.steps)))
    return before, after
