"""Every statement that changes runs and their numbers, as functions on the writer's connection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from ..models import GroupInfo, Run, RunMark, TensorInfo
from . import tables as t
from .database import next_revision
from .ingest import Changes
from .live import SeriesRef
from .plain import to_int32s, to_json
from .retention_sql import add_sizes
from .tail import pack

__all__ = [
    "NewBlock",
    "apply_changes",
    "delete_run",
    "edit_run",
    "empty_trash",
    "end_lost",
    "fence",
    "insert_run",
    "insert_segment",
    "insert_stream",
    "put_blocks",
    "restore_run",
    "save_run",
    "shrink_file",
]

_RUN_FIELDS: Final = [
    "state",
    "last_time",
    "last_seen",
    "first_step",
    "last_step",
    "steps",
    "steps_per_s",
    "finished_at",
    "reason",
    "lost_frames",
    "tensor_count",
]
"""Columns of ``runs`` that streaming changes and that are stored as they are."""

KEPT_PAGES: Final = 256
"""Free pages that a file keeps (4 MB): the tail needs them again and again."""

_RUN_MOVES: Final = (
    update(t.runs)
    .where(t.runs.c.no == bindparam("b_no"))
    .values({name: bindparam(name) for name in (*_RUN_FIELDS, "error", "cost", "summary")})
)
_STREAM_MOVES: Final = (
    update(t.streams)
    .where(t.streams.c.no == bindparam("b_no"))
    .values(next_seq=bindparam("b_next"), ended=bindparam("b_ended"))
)

_TAIL_GONE: Final = delete(t.tail).where(t.tail.c.id == bindparam("b_id"))


def insert_run(conn: Connection, run: Run, key_hash: str, optimizers: Sequence[dict[str, Any]]) -> int:
    """A new run; gives its number."""
    values = {
        "id": run.id,
        "project": run.project,
        "name": run.name,
        "key_hash": key_hash,
        "created_at": run.created_at,
        "context": to_json(run.context),
        "optimizers": to_json(optimizers),
        "tags": to_json(run.tags),
        "notes": run.notes,
        "who": run.who,
        **_streamed(run),
    }
    if conn.dialect.name == "sqlite":
        # Left alone, SQLite gives the number of the newest run again when that was deleted, and its numbers are still there.
        taken = select(t.runs.c.no).union_all(select(t.trash.c.run_no)).subquery()
        values["no"] = int(conn.execute(select(func.max(taken.c.no))).scalar() or 0) + 1
    return int(conn.execute(insert(t.runs).values(values).returning(t.runs.c.no)).scalar_one())


def save_run(conn: Connection, runs: Iterable[tuple[int, Run]]) -> None:
    """What streaming changed of runs, given with their numbers."""
    rows = [{"b_no": no, **_streamed(run)} for no, run in runs]
    if rows:
        conn.execute(_RUN_MOVES, rows)


def _streamed(run: Run) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in _RUN_FIELDS},
        "error": None if run.error is None else to_json(run.error),
        "cost": to_json(run.cost),
        "summary": to_json(run.summary),
    }


def insert_segment(conn: Connection, run_no: int, id: str, start_step: int, started_at: float) -> int:
    """A new segment after those that there are; gives its index."""
    last = conn.execute(select(func.max(t.segments.c.idx)).where(t.segments.c.run_no == run_no)).scalar()
    idx = 0 if last is None else int(last) + 1
    conn.execute(
        insert(t.segments).values(run_no=run_no, idx=idx, id=id, start_step=start_step, started_at=started_at)
    )
    return idx


def insert_stream(conn: Connection, run_no: int, stream: str, rank: int, segment: int, now: float) -> int:
    """A new stream; gives its number."""
    row = {
        "run_no": run_no,
        "stream": stream,
        "rank": rank,
        "segment": segment,
        "next_seq": 0,
        "fenced": False,
        "ended": False,
        "opened_at": now,
    }
    return int(conn.execute(insert(t.streams).values(row).returning(t.streams.c.no)).scalar_one())


def fence(conn: Connection, run_no: int, rank: int, segment: int, but: int) -> None:
    """Nothing more is taken from the streams of this rank and segment, but from stream number ``but``.

    Streams of older segments stay open to a later `gradwatch sync` of what they had left: they write to their own segment.
    """
    c = t.streams.c
    older = (c.run_no == run_no) & (c.rank == rank) & (c.segment == segment) & (c.no != but)
    conn.execute(update(t.streams).where(older & ~c.fenced).values(fenced=True))


def end_lost(conn: Connection, before: float) -> list[str]:
    """Marks as lost the running runs whose last sign of life is older than ``before``; gives their ids."""
    c = t.runs.c
    silent = (c.state == "running") & (c.last_seen < before)
    found = [str(id) for id in conn.execute(select(c.id).where(silent)).scalars()]
    if found:
        conn.execute(update(t.runs).where(silent).values(state="lost", steps_per_s=0.0))
    return found


def apply_changes(conn: Connection, group: Sequence[Changes]) -> None:
    """Everything that a group of appends adds, in order. Revisions of marks are filled in."""
    for changes in group:
        _add_declared(conn, changes)
    rows = [_tail_row(changes) for changes in group if changes.pieces]
    if rows:
        conn.execute(insert(t.tail), rows)
    newest = {changes.stream.no: changes for changes in group}
    conn.execute(
        _STREAM_MOVES,
        [
            {"b_no": no, "b_next": changes.next_seq, "b_ended": changes.ended}
            for no, changes in newest.items()
        ],
    )
    for changes in group:
        if changes.marks:
            changes.marks = [_add_mark(conn, changes.stream.live.no, mark) for mark in changes.marks]
        if changes.lost:
            _add_lost(conn, changes)


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A row of the table ``blocks``."""

    run_no: int
    series: int
    segment: int
    level: int
    first_step: int
    last_step: int
    body: bytes


def put_blocks(
    conn: Connection,
    run_no: int,
    blocks: Sequence[NewBlock],
    merged: Sequence[NewBlock],
    done: Sequence[int],
) -> bool:
    """Stores ``blocks``, replaces those that ``merged`` extend, and removes the rows of the tail that are in them. False,
    and nothing changed, if the run is gone."""
    if conn.execute(select(t.runs.c.no).where(t.runs.c.no == run_no)).one_or_none() is None:
        return False
    if blocks:
        conn.execute(insert(t.blocks), [asdict(block) for block in blocks])
    c = t.blocks.c
    exact = sum(len(block.body) for block in blocks if block.level == 0)
    buckets = sum(len(block.body) for block in blocks if block.level)
    for block in merged:
        this = (c.run_no == run_no) & (c.series == block.series) & (c.segment == block.segment)
        this &= (c.level == block.level) & (c.first_step == block.first_step)
        exact += len(block.body) - int(conn.execute(select(func.length(c.body)).where(this)).scalar() or 0)
        conn.execute(update(t.blocks).where(this).values(last_step=block.last_step, body=block.body))
    if blocks or merged:
        add_sizes(conn, run_no, exact, buckets)
    if done:
        conn.execute(_TAIL_GONE, [{"b_id": id} for id in done])
    return True


def _tail_row(changes: Changes) -> dict[str, Any]:
    stream = changes.stream
    body = pack(changes.pieces)
    return {
        "run_no": stream.live.no,
        "segment": stream.segment,
        "rank": stream.rank,
        "last_step": changes.last_step,
        "size": len(body),
        "body": body,
    }


def _add_declared(conn: Connection, changes: Changes) -> None:
    run_no = changes.stream.live.no
    if changes.tensors:
        conn.execute(insert(t.tensors), [_tensor_row(run_no, tensor) for tensor in changes.tensors])
    if changes.groups:
        _put_groups(conn, run_no, changes.groups)
    if changes.series:
        conn.execute(insert(t.series), [_series_row(run_no, series) for series in changes.series])
    for series in changes.widened:
        c = t.series.c
        this = (c.run_no == run_no) & (c.idx == series.idx)
        conn.execute(update(t.series).where(this).values(width=series.width))
    for schema in changes.schemas:
        conn.execute(
            insert(t.schemas).values(
                stream_no=changes.stream.no,
                id=schema.id,
                run_no=run_no,
                statistics=to_json(schema.statistics),
                rows=to_int32s(schema.rows),
            )
        )


def _put_groups(conn: Connection, run_no: int, groups: Sequence[GroupInfo]) -> None:
    newest = {group.index: group for group in groups}
    c = t.tensor_groups.c
    conn.execute(delete(t.tensor_groups).where((c.run_no == run_no) & c.idx.in_(list(newest))))
    rows = [
        {
            "run_no": run_no,
            "idx": group.index,
            "path": group.path,
            "parent": group.parent,
            "members": to_int32s(group.tensors),
        }
        for group in newest.values()
    ]
    conn.execute(insert(t.tensor_groups), rows)


def _tensor_row(run_no: int, tensor: TensorInfo) -> dict[str, Any]:
    return {
        "run_no": run_no,
        "idx": tensor.index,
        "name": tensor.name,
        "shape": to_json(tensor.shape),
        "numel": tensor.numel,
        "dtype": tensor.dtype,
        "depth": tensor.depth,
        "module": tensor.module,
        "kind": tensor.kind,
        "trainable": tensor.trainable,
        "optimizer": tensor.optimizer,
        "param_group": tensor.param_group,
        "fan_in": tensor.fan_in,
        "init_std": tensor.init_std if tensor.init_std is None or math.isfinite(tensor.init_std) else None,
        "sparse": tensor.sparse,
    }


def _series_row(run_no: int, series: SeriesRef) -> dict[str, Any]:
    return {
        "run_no": run_no,
        "idx": series.idx,
        "rank": series.rank,
        "scope": series.scope,
        "name": series.name,
        "width": series.width,
        "dtype": series.dtype,
        "cadence": series.cadence,
        "logged": series.logged,
    }


def _add_mark(conn: Connection, run_no: int, mark: RunMark) -> RunMark:
    mark = replace(mark, revision=next_revision(conn))
    conn.execute(
        insert(t.marks).values(
            revision=mark.revision,
            run_no=run_no,
            step=mark.step,
            time=mark.time,
            kind=mark.kind,
            data=to_json(mark.data),
        )
    )
    return mark


def _add_lost(conn: Connection, changes: Changes) -> None:
    stream = changes.stream
    where = {"run_no": stream.live.no, "segment": stream.segment, "rank": stream.rank}
    rows = [
        {
            **where,
            "from_step": lost.from_step,
            "to_step": lost.to_step,
            "frames": lost.frames,
            "reason": lost.reason,
        }
        for lost in changes.lost
    ]
    conn.execute(insert(t.lost), rows)


def edit_run(conn: Connection, run_no: int, changed: Mapping[str, Any]) -> None:
    """What people say of a run: name, tags, notes."""
    values = {name: to_json(value) if name == "tags" else value for name, value in changed.items()}
    if values:
        conn.execute(update(t.runs).where(t.runs.c.no == run_no).values(values))


def save_context(conn: Connection, run_no: int, context: dict[str, Any]) -> None:
    """What was captured when the run started."""
    conn.execute(update(t.runs).where(t.runs.c.no == run_no).values(context=to_json(context)))


def restore_run(conn: Connection, run_no: int, run: Run, key_hash: str) -> None:
    """Everything that an imported run says of itself and that following its records again doesn't give."""
    values = {
        "key_hash": key_hash,
        "created_at": run.created_at,
        "tags": to_json(run.tags),
        "notes": run.notes,
        **_streamed(run),
    }
    conn.execute(update(t.runs).where(t.runs.c.no == run_no).values(values))


def delete_run(conn: Connection, run_no: int, run_id: str) -> None:
    """Deletes a run and all that hangs on it; what is big goes to the trash, see :func:`empty_trash`."""
    for table in reversed(t.metadata.sorted_tables):
        if table in (t.tail, t.blocks, t.trash):
            continue
        if "run_no" in table.c:
            conn.execute(delete(table).where(table.c.run_no == run_no))
        elif "run_id" in table.c:
            conn.execute(delete(table).where(table.c.run_id == run_id))
    conn.execute(delete(t.runs).where(t.runs.c.no == run_no))
    conn.execute(insert(t.trash).values(run_no=run_no))


def empty_trash(conn: Connection, limit: int) -> bool:
    """Removes at most ``limit`` big rows of deleted runs. False when nothing is left to do."""
    run_no = conn.execute(select(func.min(t.trash.c.run_no))).scalar()
    if run_no is None:
        return False
    for table in (t.tail, t.blocks):
        some = select(table.c.id).where(table.c.run_no == run_no).limit(limit)
        if conn.execute(delete(table).where(table.c.id.in_(some))).rowcount:
            return True
    conn.execute(delete(t.trash).where(t.trash.c.run_no == run_no))
    return True


def shrink_file(conn: Connection, pages: int) -> bool:
    """Gives at most ``pages`` free pages of a SQLite file back to the system, all but those that new rows will take at once.
    False when nothing is left to do. PostgreSQL does that by itself."""
    if conn.dialect.name != "sqlite":
        return False
    spare = int(conn.exec_driver_sql("PRAGMA freelist_count").scalar_one()) - KEPT_PAGES
    if spare <= 0:
        return False
    driver = conn.connection.cursor()
    driver.execute(f"PRAGMA incremental_vacuum({min(pages, spare)})")
    driver.fetchall()  # each page is a step of the statement
    driver.close()
    return True
