"""Records of a stream as changes to the store: checked and mapped in the caller's thread, written later. No SQL here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gradwatch.errors import ProtocolError
from gradwatch.protocol import Batch, Block, Bye, Lost, Mark, Record, Schema, Statistic
from gradwatch.protocol.limits import MAX_STORED_STEP
from gradwatch.protocol.messages import FLIGHT_MARK

from ..models import GroupInfo, Run, RunMark, RunState, StoredBlock, TensorInfo
from .live import (
    MAIN_RANK,
    RANKS_LANE,
    Column,
    Layout,
    LiveRun,
    SeriesRef,
    StreamHandle,
    declare,
    place_tensors,
)
from .merging import merged
from .module_tree import scatter
from .plain import text, whole
from .tail import Piece

__all__ = ["Changes", "NewSchema", "take"]

PACE_S: Final = 10.0
"""Time constant of ``steps_per_s``, in seconds of the frames' own clock."""

PACE_MIN_S: Final = 0.5
MAX_SUMMARY: Final = 64
"""Most statistics in a run's summary."""


@dataclass(frozen=True, slots=True, eq=False)
class NewSchema:
    """A row of the table ``schemas``."""

    id: int
    statistics: tuple[Statistic, ...]
    rows: npt.NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Changes:
    """What one append adds to the store, and what it tells the rest of the server."""

    stream: StreamHandle
    pieces: list[Piece] = field(default_factory=list)
    blocks: list[StoredBlock] = field(default_factory=list)
    tensors: list[TensorInfo] = field(default_factory=list)
    groups: list[GroupInfo] = field(default_factory=list)
    series: list[SeriesRef] = field(default_factory=list)
    widened: list[SeriesRef] = field(default_factory=list)
    schemas: list[NewSchema] = field(default_factory=list)
    marks: list[RunMark] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    state: RunState | None = None
    """The run's new state, None if it stays."""
    next_seq: int = 0
    ended: bool = False
    """Where the stream stands when these are stored."""

    @property
    def nbytes(self) -> int:
        """About what the pieces take."""
        return sum(piece.values.nbytes for piece in self.pieces)

    @property
    def last_step(self) -> int:
        """Newest step among the pieces, -1 without any."""
        return max((int(piece.steps[-1]) for piece in self.pieces), default=-1)


def take(stream: StreamHandle, records: Sequence[Record], changes: Changes, *, now: float) -> None:
    """Adds ``records`` to ``changes`` and moves ``stream`` on. One that was taken before is left out.

    When a record is refused, those before it are in ``changes`` and the stream stands behind them.

    Raises:
        ProtocolError: a record that makes no sense; the sentence is for the person who trains.
    """
    try:
        fresh = [record for record in records if record.seq >= stream.next_seq]
        for record, count in merged(fresh):
            if record.seq > stream.next_seq:
                raise ProtocolError(
                    f"record {record.seq} arrived where {stream.next_seq} was expected: some were skipped"
                )
            if record.seq < stream.next_seq:
                continue
            _take_one(stream, record, changes)
            stream.next_seq += count
    finally:
        changes.next_seq, changes.ended = stream.next_seq, stream.ended
        _sign_of_life(stream, changes, now)


def _take_one(stream: StreamHandle, record: Record, changes: Changes) -> None:
    if isinstance(record, Batch):
        _take_batch(stream, record, changes)
    elif isinstance(record, Schema):
        _take_schema(stream, record, changes)
    elif isinstance(record, Mark):
        # Of other ranks only what each alone knows: which samples it saw.
        if stream.rank == MAIN_RANK or record.kind == FLIGHT_MARK:
            changes.marks.append(_mark(stream.run.id, record))
    elif isinstance(record, Lost):
        lost = replace(
            record,
            from_step=whole(record.from_step),
            to_step=whole(record.to_step),
            frames=max(0, whole(record.frames, MAX_STORED_STEP)),
            reason=text(record.reason),
        )
        changes.lost.append(lost)
        live = stream.live
        live.run = replace(live.run, lost_frames=live.run.lost_frames + lost.frames)
    else:
        _take_bye(stream, record, changes)


def _mark(run_id: str, mark: Mark) -> RunMark:
    return RunMark(
        run_id=run_id,
        revision=0,
        step=whole(mark.step),
        time=mark.time,
        kind=text(mark.kind, 64),
        data=mark.data,
    )


def _take_schema(stream: StreamHandle, schema: Schema, changes: Changes) -> None:
    live = stream.live
    if schema.id in stream.layouts:
        raise ProtocolError(f"schema {schema.id} is declared twice")
    if not 0 <= schema.id < MAX_STORED_STEP:
        raise ProtocolError(f"a schema with the id {schema.id}")
    statistics = tuple(replace(one, name=text(one.name)) for one in schema.statistics)
    if schema.tensors is not None:
        rows, added = place_tensors(live, [replace(one, name=text(one.name)) for one in schema.tensors])
        changes.tensors += added.tensors
        changes.groups += added.groups
        live.run = replace(live.run, tensor_count=len(live.tensors))
    elif stream.layouts:
        rows = next(reversed(stream.layouts.values())).rows
    else:
        rows = np.empty(0, np.int32)
    layout, added = declare(live, stream.rank, statistics, rows)
    changes.series += added.series
    changes.widened += added.widened
    changes.schemas.append(NewSchema(schema.id, statistics, rows))
    stream.layouts[schema.id] = layout


def _take_batch(stream: StreamHandle, batch: Batch, changes: Changes) -> None:
    layout = stream.layouts.get(batch.schema)
    if layout is None:
        raise ProtocolError(f"a batch of schema {batch.schema}, which was never declared")
    columns = _check_blocks(stream, layout, batch.blocks)
    for block, column in zip(batch.blocks, columns, strict=True):
        stream.newest[column.series.idx] = float(block.steps[-1])
        values = block.values
        if block.present is not None:
            values = np.where(block.present, values, values.dtype.type(np.nan))
        _store(stream, layout, column, block, values, changes)
    if stream.speaks:
        _advance(stream, batch.blocks)
        _summarise(stream.live, batch.blocks, columns)


def _check_blocks(stream: StreamHandle, layout: Layout, blocks: Sequence[Block]) -> list[Column]:
    """The column of each block. Everything is looked at before anything is taken."""
    columns = []
    newest: dict[int, float] = {}
    for block in blocks:
        if block.statistic >= len(layout.columns):
            raise ProtocolError(f"statistic {block.statistic} is not declared in the schema of its batch")
        column = layout.columns[block.statistic]
        name = column.series.name[:80]
        if block.values.shape != (len(block.steps), column.width):
            raise ProtocolError(
                f"a block of {name!r} has {block.values.shape[-1]:,} columns where {column.width:,} were declared"
            )
        last = newest.get(column.series.idx, stream.newest.get(column.series.idx, -1.0))
        if block.steps[0] <= last:
            raise ProtocolError(
                f"step {block.steps[0]:.0f} of {name!r} came after step {last:.0f}: steps must rise. Training that goes "
                "back to an earlier step must start a new segment (a new gradwatch.watch with start_step)"
            )
        if block.steps[-1] >= MAX_STORED_STEP:
            raise ProtocolError(
                f"step {block.steps[-1]:.0f} of {name!r}: steps below {MAX_STORED_STEP:,} are taken"
            )
        newest[column.series.idx] = float(block.steps[-1])
        columns.append(column)
    return columns


def _store(
    stream: StreamHandle,
    layout: Layout,
    column: Column,
    block: Block,
    values: npt.NDArray[Any],
    changes: Changes,
) -> None:
    series, present = column.series, block.present
    stored, stored_present = values, present
    place = layout.place(series.scope)
    if place is not None:
        stored, stored_present = scatter(place, series.width, values, present)
    changes.pieces.append(Piece(series.idx, block.steps, block.times, stored, stored_present))
    stream.live.numbers[series.idx] += values.size if present is None else int(np.count_nonzero(present))
    if stream.rank not in (MAIN_RANK, RANKS_LANE) or series.scope == "histogram":
        return  # a histogram is asked for when somebody looks at a step, and nobody judges it
    rows = layout.rows if series.scope == "tensor" else np.arange(column.width, dtype=np.int32)
    changes.blocks.append(_stored(series, block, values, rows, present))
    if column.groups is not None and layout.norms is not None:
        norms, there = layout.norms(values, present)
        changes.blocks.append(_stored(column.groups, block, norms, layout.group_rows, there))
        stream.newest[column.groups.idx] = float(block.steps[-1])
        wide, wide_there = scatter(layout.group_rows, column.groups.width, norms, there)
        changes.pieces.append(Piece(column.groups.idx, block.steps, block.times, wide, wide_there))


def _stored(
    series: SeriesRef,
    block: Block,
    values: npt.NDArray[Any],
    rows: npt.NDArray[np.int32],
    present: npt.NDArray[np.bool_] | None,
) -> StoredBlock:
    return StoredBlock(
        statistic=series.name,
        scope=series.scope,
        steps=block.steps,
        times=block.times,
        values=values,
        rows=rows,
        present=present,
    )


def _take_bye(stream: StreamHandle, bye: Bye, changes: Changes) -> None:
    stream.ended = True
    if not stream.speaks:
        return
    live = stream.live
    live.run = replace(
        live.run,
        state=bye.state,
        finished_at=bye.time if math.isfinite(bye.time) else live.run.last_seen,
        reason=text(bye.reason),
        error=bye.error,
        steps_per_s=0.0,
    )
    changes.state = bye.state


def _sign_of_life(stream: StreamHandle, changes: Changes, now: float) -> None:
    live = stream.live
    state = live.run.state
    if state == "lost" and stream.speaks and not stream.ended:
        changes.state = state = "running"
    live.run = replace(live.run, last_seen=max(now, live.run.last_seen), state=state)


def _advance(stream: StreamHandle, blocks: Sequence[Block]) -> None:
    """Steps, times and pace of the run after ``blocks``."""
    axes = {id(block.steps): block for block in blocks if block.steps[-1] > stream.newest_step}
    if not axes:
        return
    fresh = [block.steps[block.steps > stream.newest_step] for block in axes.values()]
    count = len(fresh[0]) if len(fresh) == 1 else len(np.unique(np.concatenate(fresh)))
    top = max(axes.values(), key=lambda block: block.steps[-1])
    live, run = stream.live, stream.live.run
    stream.newest_step = float(top.steps[-1])
    first = int(min(steps[0] for steps in fresh))
    time = float(top.times[-1])
    live.run = replace(
        run,
        first_step=first if run.first_step < 0 else min(run.first_step, first),
        last_step=int(stream.newest_step),
        last_time=time,
        steps=run.steps + count,
        steps_per_s=_pace(live, run, count, float(top.times[0]), time),
    )


def _pace(live: LiveRun, run: Run, steps: int, since: float, time: float) -> float:
    """Steps per second after ``steps`` more, taken between the times ``since`` and ``time``."""
    if live.pace_time == 0.0:
        live.pace_steps, live.pace_time = -1, since
    live.pace_steps += steps
    passed = time - live.pace_time
    if passed < 0:  # a clock was set back
        live.pace_steps, live.pace_time = 0, time
        return run.steps_per_s
    if passed < PACE_MIN_S:
        return run.steps_per_s
    now = live.pace_steps / passed
    live.pace_steps, live.pace_time = 0, time
    if run.steps_per_s <= 0:
        return now
    return run.steps_per_s + (now - run.steps_per_s) * (1 - math.exp(-passed / PACE_S))


def _summarise(live: LiveRun, blocks: Sequence[Block], columns: Sequence[Column]) -> None:
    """The newest value of each statistic of the run; of several columns (``lr``) the first."""
    found = {
        column.series.name: float(block.values[-1, 0])
        for block, column in zip(blocks, columns, strict=True)
        if column.series.scope == "run" and (block.present is None or block.present[-1, 0])
    }
    if found and (len(live.run.summary) < MAX_SUMMARY or found.keys() <= live.run.summary.keys()):
        summary = {**live.run.summary, **found}
        live.run = replace(live.run, summary=dict(list(summary.items())[:MAX_SUMMARY]))
