"""Every statement that reads numbers: blocks and tail. Built once, since building one takes longer than its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, select, union_all

from . import tables as t
from .live import MAIN_RANK, RANKS_LANE

__all__ = [
    "HIGHEST",
    "LOWEST",
    "SeriesKey",
    "block_bodies",
    "chunk_heads",
    "chunk_rows",
    "chunk_starts",
    "database_bytes",
    "find_series",
    "lane_ends",
    "levels_end",
    "newest_blocks",
    "scope_of",
    "tail_bodies",
    "tail_by_id",
    "tail_ids",
    "tail_lanes",
    "tail_sizes",
]

LOWEST: Final = 2
"""The lowest stored level: buckets of 4**2 steps. Those of 1 and 4 steps are made from exact values."""

HIGHEST: Final = 16
"""Levels from here on are not stored."""


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Where the numbers of a series are, and how many rows it has."""

    run_no: int
    series: int
    width: int
    rank: int = MAIN_RANK


_b: Final = t.blocks.c
_t: Final = t.tail.c
_THIS_SEGMENT: Final = (
    (_b.run_no == bindparam("run_no"))
    & (_b.series == bindparam("series"))
    & (_b.segment == bindparam("segment"))
)
_THIS_LEVEL: Final = _THIS_SEGMENT & (_b.level == bindparam("level"))
_THIS_LANE: Final = (
    (_t.run_no == bindparam("run_no")) & (_t.segment == bindparam("segment")) & (_t.rank == bindparam("rank"))
)

_FIND_SERIES: Final = (
    select(t.series.c.run_no, t.series.c.idx, t.series.c.width)
    .join(t.runs, t.runs.c.no == t.series.c.run_no)
    .where(
        (t.runs.c.id == bindparam("run_id"))
        & (t.series.c.rank == bindparam("rank"))
        & (t.series.c.scope == bindparam("scope"))
        & (t.series.c.name == bindparam("name"))
    )
)
_BODIES: Final = (
    select(_b.first_step, _b.body)
    .where(_THIS_LEVEL & (_b.first_step >= bindparam("low")) & (_b.first_step < bindparam("high")))
    .order_by(_b.first_step)
    .limit(bindparam("most"))
)
_CHUNK_ROWS: Final = (
    select(_b.first_step)
    .where(_THIS_LEVEL & (_b.first_step >= bindparam("low")) & (_b.first_step < bindparam("high")))
    .order_by(_b.first_step)
    .limit(bindparam("most"))
)
_HEADS: Final = select(func.substr(_b.body, 1, 4)).where(
    _THIS_LEVEL & (_b.first_step >= bindparam("low")) & (_b.first_step < bindparam("high"))
)
_NEWEST: Final = (
    select(_b.last_step, _b.body)
    .where(_THIS_LEVEL & (_b.first_step < bindparam("high")))
    .order_by(_b.first_step.desc())
    .limit(2)
)
_STARTS: Final = (
    select(_b.first_step)
    .where((_b.run_no == bindparam("run_no")) & (_b.segment == bindparam("segment")) & (_b.level == 0))
    .distinct()
    .order_by(_b.first_step)
)
_LANE_ENDS: Final = (
    select(_b.series, _b.level, func.max(_b.first_step), func.max(_b.last_step))
    .where((_b.run_no == bindparam("run_no")) & (_b.segment == bindparam("segment")))
    .group_by(_b.series, _b.level)
)
_TAIL: Final = (
    select(_t.id, _t.last_step, _t.body)
    .where(_THIS_LANE & (_t.last_step > bindparam("after")) & (_t.id >= bindparam("from_id")))
    .order_by(_t.id)
)
_TAIL_IDS: Final = select(_t.id).where(_THIS_LANE & (_t.last_step > bindparam("after"))).order_by(_t.id)
_TAIL_SIZES: Final = select(_t.id, _t.last_step, _t.size).where(_THIS_LANE).order_by(_t.id)
_TAIL_BY_ID: Final = (
    select(_t.id, _t.last_step, _t.body)
    .where(_THIS_LANE & (_t.id >= bindparam("low")) & (_t.id <= bindparam("high")))
    .order_by(_t.id)
)


def _newest_of(level: int) -> Select[Any]:
    newest = (
        select(_b.level, _b.first_step, _b.last_step)
        .where(_THIS_SEGMENT & (_b.level == level))
        .order_by(_b.first_step.desc())
        .limit(1)
    )
    return select(newest.subquery())


_LEVELS_END: Final = union_all(*(_newest_of(level) for level in (0, *range(LOWEST, HIGHEST))))


def find_series(
    conn: Connection, run_id: str, scope: str, name: str, rank: int = MAIN_RANK
) -> SeriesKey | None:
    """The key of a series, None if the run is unknown or has none of that name."""
    for lane in (rank, RANKS_LANE):
        given = {"run_id": run_id, "rank": lane, "scope": scope, "name": name}
        row = conn.execute(_FIND_SERIES, given).one_or_none()
        if row is not None:
            return SeriesKey(*row, lane)
    return None


def scope_of(conn: Connection, run_no: int, series: int) -> str | None:
    """What the columns of a series are, None if it is gone."""
    c = t.series.c
    found = conn.execute(select(c.scope).where((c.run_no == run_no) & (c.idx == series))).scalar_one_or_none()
    return None if found is None else str(found)


def tail_bodies(
    conn: Connection, run_no: int, segment: int, rank: int = MAIN_RANK, after: int = -1, from_id: int = 0
) -> list[tuple[int, int, bytes]]:
    """Rows of the tail of a lane from ``from_id`` on that reach beyond step ``after``: id, last step, body; in the order of
    their arrival."""
    given = {"run_no": run_no, "segment": segment, "rank": rank, "after": after, "from_id": from_id}
    return [(int(id), int(last), bytes(body)) for id, last, body in conn.execute(_TAIL, given)]


def tail_ids(conn: Connection, run_no: int, segment: int, rank: int, after: int) -> list[int]:
    """Ids of the rows of the tail of a lane that reach beyond step ``after``, in the order of their arrival."""
    given = {"run_no": run_no, "segment": segment, "rank": rank, "after": after}
    return [int(id) for id in conn.execute(_TAIL_IDS, given).scalars()]


def block_bodies(
    conn: Connection, key: SeriesKey, segment: int, level: int, low: int, high: int, most: int = 2**31
) -> list[tuple[int, bytes]]:
    """The first ``most`` blocks of a level that begin in ``low <= first_step < high``, in order: first step and body."""
    given = {**_given(key, segment), "level": level, "low": low, "high": high, "most": most}
    return [(int(first), bytes(body)) for first, body in conn.execute(_BODIES, given)]


def chunk_rows(conn: Connection, key: SeriesKey, segment: int, low: int, high: int, most: int) -> list[int]:
    """Where the first ``most`` chunks begin that do so in ``low <= step < high``, in order."""
    given = {**_given(key, segment), "level": 0, "low": low, "high": high, "most": most}
    return [int(first) for first in conn.execute(_CHUNK_ROWS, given).scalars()]


def chunk_heads(conn: Connection, key: SeriesKey, segment: int, low: int, high: int) -> list[bytes]:
    """The first bytes of the chunks that begin in ``low <= step < high``."""
    given = {**_given(key, segment), "level": 0, "low": low, "high": high}
    return [bytes(head) for head in conn.execute(_HEADS, given).scalars()]


def newest_blocks(conn: Connection, key: SeriesKey, segment: int, high: int) -> list[tuple[int, bytes]]:
    """The two newest chunks that begin below ``high``, the newest first: last step and body."""
    given = {**_given(key, segment), "level": 0, "high": high}
    return [(int(last), bytes(body)) for last, body in conn.execute(_NEWEST, given)]


def levels_end(conn: Connection, key: SeriesKey, segment: int) -> dict[int, tuple[int, int]]:
    """Of each level that has blocks: first and last step of the newest."""
    rows = conn.execute(_LEVELS_END, _given(key, segment))
    return {int(level): (int(first), int(last)) for level, first, last in rows}


def _given(key: SeriesKey, segment: int) -> dict[str, int]:
    return {"run_no": key.run_no, "series": key.series, "segment": segment}


def lane_ends(conn: Connection, run_no: int, segment: int) -> dict[int, dict[int, tuple[int, int]]]:
    """Of every series and level of a segment: first and last step of the newest block."""
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for series, level, first, last in conn.execute(_LANE_ENDS, {"run_no": run_no, "segment": segment}):
        found.setdefault(int(series), {})[int(level)] = (int(first), int(last))
    return found


def chunk_starts(conn: Connection, run_no: int, segment: int) -> list[int]:
    """Where chunks begin, of any series of a segment, in order."""
    return [int(first) for first in conn.execute(_STARTS, {"run_no": run_no, "segment": segment}).scalars()]


def tail_sizes(conn: Connection, run_no: int, segment: int, rank: int) -> list[tuple[int, int, int]]:
    """Rows of the tail of a lane in order: id, last step, size in bytes."""
    rows = conn.execute(_TAIL_SIZES, {"run_no": run_no, "segment": segment, "rank": rank})
    return [(int(id), int(last), int(size)) for id, last, size in rows]


def tail_by_id(
    conn: Connection, low: int, high: int, run_no: int, segment: int, rank: int
) -> list[tuple[int, int, bytes]]:
    """Rows of the tail of a lane with ``low <= id <= high``: id, last step, body."""
    given = {"run_no": run_no, "segment": segment, "rank": rank, "low": low, "high": high}
    return [(int(id), int(last), bytes(body)) for id, last, body in conn.execute(_TAIL_BY_ID, given)]


def tail_lanes(conn: Connection) -> list[tuple[int, int, int]]:
    """What has a tail: run, segment, rank."""
    rows = conn.execute(select(_t.run_no, _t.segment, _t.rank).distinct())
    return [(int(run_no), int(segment), int(rank)) for run_no, segment, rank in rows]


def database_bytes(conn: Connection) -> int:
    """What the whole database takes on its disk, without the log of what is being written."""
    if conn.dialect.name == "sqlite":
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages) * int(conn.exec_driver_sql("PRAGMA page_size").scalar_one())
    return int(conn.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
