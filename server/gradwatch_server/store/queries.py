"""Every statement that reads runs and their numbers, as functions on a connection."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from ..models import GroupInfo, Run, RunMark, Segment, StatisticInfo, TensorInfo
from . import tables as t
from .live import MAIN_RANK, RANKS_LANE, SeriesRef
from .plain import from_json, int32s, numbers

__all__ = [
    "find_run",
    "find_runs",
    "groups_of_run",
    "marks_of_run",
    "revision",
    "run_of",
    "schema_rows",
    "segments_of_run",
    "series_of_run",
    "statistics_of_run",
    "tensors_of_run",
]

_RUN_COLUMNS: Final = [column for column in t.runs.c if column.name not in ("key_hash", "optimizers")]
_WHO: Final = "who:"
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
        who=fields["who"] or "",
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
    by_who: bool = True,
    limit: int,
    offset: int,
) -> tuple[list[Run], int]:
    """Runs, the newest first, and how many there are without ``limit``. Each word of ``text`` must be in a name, id, tag,
    project or, with ``by_who``, the name of who started it, in any case; ``who:ann`` looks at the latter only."""
    c = t.runs.c
    wanted: list[ColumnElement[bool]] = []
    if project is not None:
        wanted.append(c.project == project)
    if state is not None:
        wanted.append(c.state == state)
    if ids is not None:
        wanted.append(c.id.in_(list(ids)))
    for word in text.split():
        who = word[len(_WHO) :] if by_who and word.casefold().startswith(_WHO) else None
        columns = (
            [c.who] if who is not None else [c.name, c.id, c.project, c.tags, *([c.who] if by_who else [])]
        )
        part = word if who is None else who
        wanted.append(or_(*(column.icontains(part, autoescape=True) for column in columns)))
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
    rows = conn.execute(select(t.segments).where(c.run_no == run_no).order_by(c.started_at, c.idx))
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
        if series.rank in (MAIN_RANK, RANKS_LANE)
    ]


def schema_rows(conn: Connection, run_no: int) -> dict[tuple[str, int], npt.NDArray[np.int32]]:
    """The run-wide tensor of each column, by stream id and schema id."""
    c = t.schemas.c
    rows = conn.execute(
        select(t.streams.c.stream, c.id, c.rows)
        .join(t.streams, t.streams.c.no == c.stream_no)
        .where(c.run_no == run_no)
    )
    return {(str(row.stream), int(row.id)): int32s(row.rows) for row in rows}


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
