"""The newest stretch of a series, kept from one question to the next: rows of the tail are read and joined once.

A row of the tail is written once, never changed, and its id is never given to another. So what was read of a row holds as
long as the row is there; which rows are there, each question asks the database, in its own snapshot.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from sqlalchemy import Connection

from .block_queries import SeriesKey, tail_bodies, tail_ids
from .tail import Piece, unpack

__all__ = ["OPTION", "TailCache", "read_tail"]

OPTION: Final = "tail_cache"
"""Execution option of an engine under which its cache is found."""

MEMORY_BYTES: Final = 64 << 20
_END: Final = 2**53

_Place: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """What rows ``ids`` hold of a series from step ``low`` on, in order."""

    ids: tuple[int, ...]
    low: int
    pieces: tuple[Piece, ...]

    def nbytes(self) -> int:
        arrays = (array for one in self.pieces for array in (one.steps, one.times, one.values, one.present))
        return 512 + sum(array.nbytes for array in arrays if array is not None)

    def fits(self, ids: Sequence[int], after: int) -> int:
        """How many of the rows ``ids``, the first ones, it holds for who asks for steps beyond ``after``; 0 if it is of no
        use: of another snapshot, or cut off above."""
        if not ids or self.ids[-1] > ids[-1] or self.low > after + 1:
            return 0
        there = set(ids)
        kept = [id for id in self.ids if id in there]
        return len(kept) if kept == list(ids[: len(kept)]) else 0


class TailCache:
    """Bounded; what was not asked for longest goes. Any thread may call."""

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self._most = most_bytes
        self._size = 0
        self._known: OrderedDict[_Place, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def pieces(self, conn: Connection, key: SeriesKey, segment: int, after: int) -> list[Piece]:
        """See :func:`read_tail`."""
        ids = tail_ids(conn, key.run_no, segment, key.rank, after)
        if not ids:
            return []
        place = (key.run_no, segment, key.rank, key.series)
        with self._lock:
            known = self._known.get(place)
        count = known.fits(ids, after) if known is not None else 0
        before = known.pieces if known is not None and count else ()
        if known is None or count < len(ids) or len(known.ids) > len(ids):
            added = _read(conn, key, segment, after, from_id=ids[count] if count < len(ids) else None)
            known = _Entry(tuple(ids), after + 1, tuple(_joined(_beyond((*before, *added), after))))
            self._keep(place, known)
        return _beyond(known.pieces, after)

    def _keep(self, place: _Place, entry: _Entry) -> None:
        with self._lock:
            older = self._known.get(place)
            if older is not None and older.ids[-1] > entry.ids[-1]:
                return  # read in an older snapshot
            if older is not None:
                self._size -= older.nbytes()
            self._known[place] = entry
            self._known.move_to_end(place)
            self._size += entry.nbytes()
            while self._size > self._most:
                _, gone = self._known.popitem(last=False)
                self._size -= gone.nbytes()


def read_tail(conn: Connection, key: SeriesKey, segment: int, after: int) -> list[Piece]:
    """What is not in chunks yet of a series: its steps beyond ``after``, in order; few pieces where there is a cache."""
    cache = conn.get_execution_options().get(OPTION)
    if isinstance(cache, TailCache):
        return cache.pieces(conn, key, segment, after)
    return _beyond(_read(conn, key, segment, after, from_id=0), after)


def _read(conn: Connection, key: SeriesKey, segment: int, after: int, from_id: int | None) -> list[Piece]:
    if from_id is None:
        return []
    bodies = tail_bodies(conn, key.run_no, segment, key.rank, after=after, from_id=from_id)
    wanted = {key.series}
    return [piece for _, _, body in bodies for piece in unpack(body, wanted)]


def _beyond(pieces: Iterable[Piece], after: int) -> list[Piece]:
    return [part for piece in pieces if (part := piece.between(after + 1, _END)) is not None]


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same values in as few pieces as there are changes of width. They don't lean on the bodies they came from."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and last.values.shape[1:] == piece.values.shape[1:]
            and last.values.dtype == piece.values.dtype
            and last.steps[-1] < piece.steps[0]
        ):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [_one(group) for group in groups]


def _one(group: Sequence[Piece]) -> Piece:
    steps, times, values = (
        np.concatenate([getattr(piece, name) for piece in group]) for name in ("steps", "times", "values")
    )
    whole = all(piece.present is None for piece in group)
    present = None if whole else np.concatenate([piece.presence() for piece in group])
    for array in (steps, times, values, present):
        if array is not None:
            array.flags.writeable = False
    return replace(group[0], steps=steps, times=times, values=values, present=present, plain=False)
