"""Every statement that reads runs and their numbers, as functions on a connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, union_all

from ..models import GroupInfo, Run, RunMark, Segment, StatisticInfo, TensorInfo
from . import tables as t
from .live import MAIN_RANK, SeriesRef
from .plain import from_json, int32s, numbers

__all__ = [
    "block_bodies",
    "find_run",
    "find_runs",
    "find_series",
    "groups_of_run",
    "lane_ends",
    "levels_end",
    "marks_of_run",
    "newest_blocks",
    "revision",
    "run_of",
    "segments_of_run",
    "series_of_run",
    "statistics_of_run",
    "tail_bodies",
    "tail_by_id",
    "tail_lanes",
    "tail_sizes",
    "tensors_of_run",
]

_RUN_COLUMNS: Final = [column for column in t.runs.c if column.name not in ("key_hash", "optimizers")]
_PLAIN: Final = [
    "id",
    "project",
    "name",
    "state",
    "created_at",
    "last_time",
    "last_seen",
    "first_step",
    "last_step",
    "steps",
    "steps_per_s",
    "finished_at",
    "reason",
    "lost_frames",
    "notes",
    "tensor_count",
]


def run_of(row: Row[Any]) -> Run:
    """A row of ``runs`` as a Run."""
    fields = row._mapping
    return Run(
        **{name: fields[name] for name in _PLAIN},
        error=None if fields["error"] is None else from_json(fields["error"]),
        context=from_json(fields["context"]),
        cost=numbers(fields["cost"]),
        tags=tuple(from_json(fields["tags"])),
        summary=numbers(fields["summary"]),
    )


def find_run(conn: Connection, run_id: str) -> Row[Any] | None:
    """The whole row of a run."""
    return conn.execute(select(t.runs).where(t.runs.c.id == run_id)).one_or_none()


def find_runs(
    conn: Connection,
    *,
    project: str | None,
    state: str | None,
    text: str,
    ids: Collection[str] | None,
    limit: int,
    offset: int,
) -> tuple[list[Run], int]:
    """Runs, the newest first, and how many there are without ``limit``. Each word of ``text`` must be in a name, id, tag or
    project, in any case."""
    c = t.runs.c
    wanted: list[ColumnElement[bool]] = []
    if project is not None:
        wanted.append(c.project == project)
    if state is not None:
        wanted.append(c.state == state)
    if ids is not None:
        wanted.append(c.id.in_(list(ids)))
    for word in text.split():
        wanted.append(
            or_(*(column.icontains(word, autoescape=True) for column in (c.name, c.id, c.project, c.tags)))
        )
    where = and_(True, *wanted)
    total = conn.execute(select(func.count()).select_from(t.runs).where(where)).scalar_one()
    rows = conn.execute(
        select(*_RUN_COLUMNS)
        .where(where)
        .order_by(c.created_at.desc(), c.no.desc())
        .limit(limit)
        .offset(offset)
    )
    return [run_of(row) for row in rows], int(total)


def segments_of_run(conn: Connection, run_no: int, run_id: str) -> list[Segment]:
    """Segments in the order in which they began."""
    c = t.segments.c
    rows = conn.execute(select(t.segments).where(c.run_no == run_no).order_by(c.idx))
    return [
        Segment(run_id=run_id, id=row.id, index=row.idx, start_step=row.start_step, started_at=row.started_at)
        for row in rows
    ]


def tensors_of_run(conn: Connection, run_no: int) -> list[TensorInfo]:
    """Tensors by index."""
    c = t.tensors.c
    return [
        TensorInfo(
            index=row.idx,
            name=row.name,
            shape=tuple(from_json(row.shape)),
            numel=row.numel,
            dtype=row.dtype,
            depth=row.depth,
            module=row.module,
            kind=row.kind,
            trainable=row.trainable,
            optimizer=row.optimizer,
            param_group=row.param_group,
            fan_in=row.fan_in,
            init_std=row.init_std,
            sparse=row.sparse,
        )
        for row in conn.execute(select(t.tensors).where(c.run_no == run_no).order_by(c.idx))
    ]


def groups_of_run(conn: Connection, run_no: int) -> list[GroupInfo]:
    """Groups by index."""
    c = t.tensor_groups.c
    rows = conn.execute(select(t.tensor_groups).where(c.run_no == run_no).order_by(c.idx))
    return [
        GroupInfo(
            index=row.idx, path=row.path, parent=row.parent, tensors=tuple(int32s(row.members).tolist())
        )
        for row in rows
    ]


def series_of_run(conn: Connection, run_no: int) -> list[SeriesRef]:
    """All series, of every rank, by index."""
    c = t.series.c
    rows = conn.execute(select(t.series).where(c.run_no == run_no).order_by(c.idx))
    return [
        SeriesRef(row.idx, row.rank, row.scope, row.name, row.width, row.dtype, row.cadence, row.logged)
        for row in rows
    ]


def statistics_of_run(conn: Connection, run_no: int) -> list[StatisticInfo]:
    """What can be asked for, in the order in which it was first declared."""
    return [
        StatisticInfo(
            name=series.name,
            scope=series.scope,
            width=series.width,
            dtype=series.dtype,
            cadence=series.cadence,
            logged=series.logged,
        )
        for series in series_of_run(conn, run_no)
        if series.rank == MAIN_RANK
    ]


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Where the numbers of a series are."""

    run_no: int
    series: int
    width: int


def find_series(
    conn: Connection, run_id: str, scope: str, name: str, rank: int = MAIN_RANK
) -> SeriesKey | None:
    """The key of a series, None if the run is unknown or has none of that name."""
    c = t.series.c
    row = conn.execute(
        select(c.run_no, c.idx, c.width)
        .join(t.runs, t.runs.c.no == c.run_no)
        .where((t.runs.c.id == run_id) & (c.rank == rank) & (c.scope == scope) & (c.name == name))
    ).one_or_none()
    return None if row is None else SeriesKey(*row)


def tail_bodies(
    conn: Connection, run_no: int, segment: int, rank: int = MAIN_RANK, after: int = -1
) -> list[tuple[int, int, bytes]]:
    """Rows of the tail that reach beyond step ``after``: id, last step, body; in the order of their arrival."""
    c = t.tail.c
    this = (c.run_no == run_no) & (c.segment == segment) & (c.rank == rank) & (c.last_step > after)
    rows = conn.execute(select(c.id, c.last_step, c.body).where(this).order_by(c.id))
    return [(int(id), int(last), bytes(body)) for id, last, body in rows]


def block_bodies(
    conn: Connection, key: SeriesKey, segment: int, level: int, low: int, high: int
) -> list[tuple[int, bytes]]:
    """Blocks of a level that begin in ``low <= first_step < high``, in order: first step and body."""
    c = t.blocks.c
    this = (c.run_no == key.run_no) & (c.series == key.series) & (c.segment == segment) & (c.level == level)
    rows = conn.execute(
        select(c.first_step, c.body)
        .where(this & (c.first_step >= low) & (c.first_step < high))
        .order_by(c.first_step)
    )
    return [(int(first), bytes(body)) for first, body in rows]


def newest_blocks(conn: Connection, key: SeriesKey, segment: int, high: int) -> list[tuple[int, bytes]]:
    """The two newest chunks that begin below ``high``, the newest first: last step and body."""
    c = t.blocks.c
    this = (c.run_no == key.run_no) & (c.series == key.series) & (c.segment == segment) & (c.level == 0)
    rows = conn.execute(
        select(c.last_step, c.body).where(this & (c.first_step < high)).order_by(c.first_step.desc()).limit(2)
    )
    return [(int(last), bytes(body)) for last, body in rows]


def levels_end(
    conn: Connection, key: SeriesKey, segment: int, levels: Sequence[int]
) -> dict[int, tuple[int, int]]:
    """Of each level that has blocks: first and last step of the newest."""
    c = t.blocks.c
    parts = []
    for level in levels:
        this = (
            (c.run_no == key.run_no) & (c.series == key.series) & (c.segment == segment) & (c.level == level)
        )
        newest = select(c.level, c.first_step, c.last_step).where(this).order_by(c.first_step.desc()).limit(1)
        parts.append(select(newest.subquery()))
    return {int(level): (int(first), int(last)) for level, first, last in conn.execute(union_all(*parts))}


def lane_ends(conn: Connection, run_no: int, segment: int) -> dict[int, dict[int, tuple[int, int]]]:
    """Of every series and level of a segment: first and last step of the newest block."""
    c = t.blocks.c
    this = (c.run_no == run_no) & (c.segment == segment)
    rows = conn.execute(
        select(c.series, c.level, func.max(c.first_step), func.max(c.last_step))
        .where(this)
        .group_by(c.series, c.level)
    )
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for series, level, first, last in rows:
        found.setdefault(int(series), {})[int(level)] = (int(first), int(last))
    return found


def tail_sizes(conn: Connection, run_no: int, segment: int, rank: int) -> list[tuple[int, int, int]]:
    """Rows of the tail of a lane in order: id, last step, size in bytes."""
    c = t.tail.c
    this = (c.run_no == run_no) & (c.segment == segment) & (c.rank == rank)
    rows = conn.execute(select(c.id, c.last_step, c.size).where(this).order_by(c.id))
    return [(int(id), int(last), int(size)) for id, last, size in rows]


def tail_by_id(
    conn: Connection, low: int, high: int, run_no: int, segment: int, rank: int
) -> list[tuple[int, int, bytes]]:
    """Rows of the tail of a lane with ``low <= id <= high``: id, last step, body."""
    c = t.tail.c
    this = (c.run_no == run_no) & (c.segment == segment) & (c.rank == rank)
    rows = conn.execute(
        select(c.id, c.last_step, c.body).where(this & (c.id >= low) & (c.id <= high)).order_by(c.id)
    )
    return [(int(id), int(last), bytes(body)) for id, last, body in rows]


def tail_lanes(conn: Connection) -> list[tuple[int, int, int]]:
    """What has a tail: run, segment, rank."""
    c = t.tail.c
    rows = conn.execute(select(c.run_no, c.segment, c.rank).distinct())
    return [(int(run_no), int(segment), int(rank)) for run_no, segment, rank in rows]


def marks_of_run(conn: Connection, run_no: int, run_id: str, since: int) -> list[RunMark]:
    """Marks whose revision is above ``since``, in order."""
    c = t.marks.c
    rows = conn.execute(
        select(t.marks).where((c.run_no == run_no) & (c.revision > since)).order_by(c.revision)
    )
    return [
        RunMark(
            run_id=run_id,
            revision=row.revision,
            step=row.step,
            time=row.time,
            kind=row.kind,
            data=from_json(row.data),
        )
        for row in rows
    ]


def revision(conn: Connection) -> int:
    """The newest revision of the database."""
    return int(conn.execute(select(t.counters.c.value).where(t.counters.c.name == "revision")).scalar_one())
