"""Distributed runs: each rank's stream is stored as it comes, and their merger as one more stream, the run's.

A rank that holds *parts* (shards) is stored in a lane of its own, one beside its rank; the merged stream has the main
lane, so that pages, health and alerts see one run. Of *replicated* ranks the first is the run; the others send their own
norms now and then, which become one row per sample in the lane of ranks. What is merged is derived from parts that are
durable before it: after a crash it goes on with the stored parts of steps beyond the newest merged one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from gradwatch.errors import GradwatchError
from gradwatch.frames import Frame
from gradwatch.outbox import MarkPoint
from gradwatch.packer import Packer
from gradwatch.protocol import Batch, Bye, Hello, Mark, Record, Schema, Statistic, Tensor
from gradwatch.protocol.histogram import wide
from gradwatch.protocol.messages import FLIGHT_MARK

from .errors import StreamFenced
from .health_past import declared
from .rank_columns import cuts_of, holding_of, piece_of, put, samples_of
from .rank_merge import GAP, LOCAL_NORM, RANK_ROWS, Part, RankMerge, merge
from .store import Store, StreamHandle
from .store.live import MAIN_RANK, RANKS_LANE, SeriesRef
from .store.rank_parts import merged_until
from .store.tail import Piece

__all__ = ["HOLDING_MARK", "Ranks"]

HOLDING_MARK: Final = "holds"
"""Kind of the mark that keeps which shards a rank holds, for a restart of the server."""

RANKS_MARK: Final = "ranks"
"""Kind of the mark where another number of ranks is in than before."""

CORRECTED_MARK: Final = "corrected"
"""Kind of the mark that counts the steps into which late parts were put."""

END_S: Final = 10.0
"""How long the run's end waits for ranks that have not said goodbye."""

log = logging.getLogger("gradwatch.server")


class Accept(Protocol):
    """Takes records into a stream: the pipeline's own way in."""

    def __call__(self, stream: StreamHandle, records: Sequence[Record]) -> asyncio.Future[int]: ...


@dataclass(slots=True, eq=False)
class _Group:
    """The ranks of one segment of a run. ``whole``: they send parts; otherwise only their own norms are merged."""

    handle: StreamHandle
    merge: RankMerge
    packer: Packer
    whole: bool
    tensors: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Statistic] = field(default_factory=dict)
    declarations: list[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]] = field(default_factory=list)
    bye: Bye | None = None
    bye_at: float = 0.0
    stale: bool = True
    correcting: bool = False
    present: float = 0.0
    """How many ranks were in the newest frame; all of them before the first."""


class Ranks:
    """Merges what comes of the ranks of every run.

    Args:
        store: where streams are.
        accept: takes merged records.
        clock: seconds since 1970.
    """

    def __init__(self, store: Store, accept: Accept, clock: Callable[[], float]) -> None:
        self._store = store
        self._accept = accept
        self._clock = clock
        self._groups: dict[tuple[str, str], _Group] = {}
        self._streams: dict[int, tuple[_Group, int]] = {}
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def enter(self, hello: Hello) -> Hello:
        """``hello`` as the rank's own stream is stored. What it is merged into is opened before it.

        Raises:
            RunKeyRefused, StreamFenced, StoreError: that must not be opened.
        """
        if hello.world_size < 2:
            return hello
        key = (hello.run_id, hello.segment)
        async with self._opening:
            group = self._groups.get(key)
            if group is None or group.handle.closed:
                self._groups[key] = await self._open(hello)
        return replace(hello, rank=hello.rank + 1) if hello.parts else hello

    def entered(self, hello: Hello, stream: StreamHandle) -> None:
        """``stream`` carries what the rank of ``hello`` sends."""
        group = self._groups.get((hello.run_id, hello.segment)) if hello.world_size > 1 else None
        if group is not None:
            self._streams[stream.no] = (group, hello.rank)

    def leads(self, stream: StreamHandle) -> bool:
        """Whether the stream's own cost is the run's: it is not another rank's."""
        return self._streams.get(stream.no, (None, MAIN_RANK))[1] == MAIN_RANK

    def before(self, stream: StreamHandle, records: Sequence[Record]) -> list[Record]:
        """To be called before ``records`` are stored: those of them that are new. Marks of the run, and what a rank
        holds, become durable before the rank's own stream is past them."""
        found = self._streams.get(stream.no)
        if found is None:
            return []
        fresh = [record for record in records if record.seq >= stream.next_seq]
        group, rank = found
        if group.whole:
            marks = [
                mark for record in fresh if (mark := _mark_of(rank, stream.stream, record, self._clock()))
            ]
            self._guarded(group, lambda: self._send(group, [group.packer.mark(mark) for mark in marks]))
        return fresh

    def take(self, stream: StreamHandle, fresh: Sequence[Record]) -> None:
        """Merges those of the ``fresh`` records that ``stream`` has taken."""
        found = self._streams.get(stream.no)
        if found is None or not fresh:
            return
        group, rank = found

        def work() -> None:
            for record in fresh:
                if record.seq < stream.next_seq:
                    self._take(group, rank, stream, record)
            self._emit(group)

        self._guarded(group, work)

    def tick(self) -> None:
        """Gives up waiting where it has been long enough."""
        for group in list(self._groups.values()):
            if group.handle.closed:
                self._drop(group, None)
            else:
                self._guarded(group, partial(self._emit, group))
                if group.whole and group.merge.late and not group.correcting:
                    group.correcting = True
                    self._start(self._correct_late(group))

    async def drain(self) -> None:
        """Waits for corrections that are being made."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _open(self, hello: Hello) -> _Group:
        own = replace(
            hello,
            stream=f"{'merged' if hello.parts else 'ranks'} of {hello.segment}"[:200],
            rank=MAIN_RANK if hello.parts else RANKS_LANE,
            world_size=1,
            parts=False,
        )
        opened = await asyncio.wrap_future(self._store.open_stream(own, now=self._clock()))
        handle = opened.stream
        packer = Packer(first_seq=opened.next_seq)
        packer.schema_id = max(handle.layouts, default=-1)
        packer.last_step = merged_until(handle)
        group = _Group(handle, RankMerge(hello.world_size, packer.last_step), packer, hello.parts)
        if group.whole and opened.next_seq > 0:
            await asyncio.to_thread(self._recover, group)
        return group

    def _recover(self, group: _Group) -> None:
        """Takes up the parts that are stored and not yet merged."""
        handle, now = group.handle, self._clock()
        for tensor in declared(handle.tensors):
            group.tensors[tensor.name] = tensor
        marks = [mark.data for mark in self._store.marks(handle.run.id) if mark.kind == HOLDING_MARK]
        rows, stored = self._store.rank_parts(handle)
        for data in marks:
            found = rows.get((data["stream"], data["schema"]))
            if found is not None:
                group.merge.holdings[data["rank"]] = holding_of(found, data["cuts"])
        for lane, series, piece in stored:
            _declare(group, series, wide(series.scope, len(group.tensors), series.width))
            _add(group, lane - 1, series, piece, now)

    def _take(self, group: _Group, rank: int, stream: StreamHandle, record: Record) -> None:
        if isinstance(record, Schema):
            layout = stream.layouts[record.id]
            if record.tensors is not None:
                group.merge.holdings[rank] = holding_of(layout.rows, cuts_of(record.tensors))
                for tensor in record.tensors:
                    group.tensors.setdefault(tensor.name, replace(tensor, shard=0, shards=1, replica=0))
            for column in layout.columns:
                _declare(group, column.series, column.width)
        elif isinstance(record, Batch):
            columns = stream.layouts[record.schema].columns
            rows = stream.layouts[record.schema].rows
            blocks = [(columns[block.statistic].series, block) for block in record.blocks]
            for series, block in blocks if group.whole else samples_of(blocks):
                _add(group, rank, series, piece_of(series, block, rows, len(group.tensors)), self._clock())
        elif isinstance(record, Bye):
            group.merge.ended(rank)
            if rank == MAIN_RANK:
                group.bye, group.bye_at = record, self._clock()

    def _emit(self, group: _Group) -> None:
        """Sends what is complete or has waited long enough, and the run's end once all ranks are through."""
        now, bye = self._clock(), group.bye
        ending = bye is not None and (group.merge.over or now - group.bye_at >= END_S)
        frames = [
            merge(step, parts, group.merge.holdings, group.merge.world, len(group.tensors))
            for step, parts in group.merge.ready(now, everything=ending)
        ]
        if not group.whole:
            frames = [
                _only_ranks(frame) for frame in frames if RANK_ROWS in frame.values or GAP in frame.values
            ]
        if frames and group.stale:
            group.declarations.append(_declaration(group))
            group.stale = False
        frames = [replace(frame, schema=len(group.declarations)) for frame in frames]
        self._send(group, [group.packer.mark(mark) for mark in _changes(group, frames)])
        records = group.packer.pack(frames, group.declarations if frames else (), now, final=ending)
        if ending and bye is not None:
            records.append(group.packer.bye(bye.state, bye.time, bye.reason, bye.error))
            group.bye = None
        self._send(group, records)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _correct_late(self, group: _Group) -> None:
        """Parts that came after their step was merged go into what is stored, and the run says of how many steps. Nothing is
        judged again."""
        late, group.merge.late = group.merge.late, {}
        try:
            await asyncio.to_thread(self._correct, group, sorted(late))
            data = {"steps": len(late), "to": max(late)}
            mark = MarkPoint(min(late), self._clock(), CORRECTED_MARK, data)
            self._guarded(group, lambda: self._send(group, [group.packer.mark(mark)]))
        except GradwatchError as error:
            log.error("late parts of run %s could not be put in: %s", group.handle.run.id, error)
        finally:
            group.correcting = False

    def _correct(self, group: _Group, steps: Sequence[int]) -> None:
        parts: dict[int, dict[int, Part]] = {step: {} for step in steps}
        wanted = np.array(steps, np.float64)
        for lane, series, piece in self._store.parts_between(group.handle, steps[0], steps[-1] + 1):
            for n in np.flatnonzero(np.isin(piece.steps, wanted)):
                time = float(piece.times[n])
                part = parts[int(piece.steps[n])].setdefault(lane - 1, Part(time))
                put(part, series, piece, int(n), piece.values[n].astype(np.float64))
        holdings, world, width = group.merge.holdings, group.merge.world, len(group.tensors)
        frames = [
            merge(step, dict(sorted(found.items())), holdings, world, width)
            for step, found in parts.items()
            if found
        ]
        self._store.correct(group.handle, _corrections(group, frames))

    def _guarded(self, group: _Group, work: Callable[[], None]) -> None:
        """A run whose merged stream is refused is merged no more; its ranks' own streams are not harmed."""
        try:
            work()
        except GradwatchError as error:
            self._drop(group, error)

    def _send(self, group: _Group, records: Sequence[Record]) -> None:
        if records:
            stored = self._accept(group.handle, records)
            stored.add_done_callback(lambda done: self._sent(group, done))

    def _sent(self, group: _Group, done: asyncio.Future[int]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._drop(group, error)

    def _drop(self, group: _Group, error: BaseException | None) -> None:
        """Merges no more into this stream. Parts go on being stored; a rank that connects again takes merging up."""
        if error is not None:
            log.error("merging the ranks of run %s stopped: %s", group.handle.run.id, error)
        group.handle.closed = group.handle.closed or StreamFenced("merging has stopped")
        self._streams = {no: pair for no, pair in self._streams.items() if pair[0] is not group}
        self._groups = {key: one for key, one in self._groups.items() if one is not group}


def _changes(group: _Group, frames: Sequence[Frame]) -> Iterator[MarkPoint]:
    """Marks where ranks went missing or came back."""
    for frame in frames if group.whole else ():
        present = float(frame.values["ranks_present"][0])
        if present != (group.present or group.merge.world):
            data = {"present": int(present), "of": group.merge.world}
            yield MarkPoint(frame.step, frame.time, RANKS_MARK, data)
        group.present = present


def _mark_of(rank: int, stream: str, record: Record, now: float) -> MarkPoint | None:
    """The mark that a rank's record puts into the run: the first rank's marks (its flight recorder's, like those of the others,
    are stored with its own stream), and what each rank holds."""
    if isinstance(record, Mark) and rank == MAIN_RANK and record.kind != FLIGHT_MARK:
        return MarkPoint(record.step, record.time, record.kind, record.data)
    if not isinstance(record, Schema) or record.tensors is None:
        return None
    data = {"rank": rank, "stream": stream, "schema": record.id, "cuts": cuts_of(record.tensors)}
    return MarkPoint(0, now, HOLDING_MARK, data)


def _declare(group: _Group, series: SeriesRef, width: int) -> None:
    """A statistic that a rank declares becomes one of the run; logged ones declare themselves."""
    known = group.statistics.get(series.name)
    if not series.logged and (known is None or known.width < width):
        dtype: Any = series.dtype
        scope: Any = series.scope
        group.statistics[series.name] = Statistic(
            name=series.name, scope=scope, width=width, dtype=dtype, cadence=series.cadence
        )
        group.stale = True


def _declaration(group: _Group) -> tuple[tuple[Tensor, ...], tuple[Statistic, ...]]:
    own = [
        Statistic(name="ranks_present", scope="run"),
        Statistic(name="ranks", scope="run"),
        Statistic(name=RANK_ROWS, scope="run", width=group.merge.world, dtype="f8", cadence=0),
        Statistic(name=GAP, scope="run", width=2, dtype="f8", cadence=0),
    ]
    if not group.whole:
        return (), tuple(own[2:])
    tensors = tuple(group.tensors.values())
    theirs = [
        replace(one, width=wide(one.scope, len(tensors), one.width))
        for one in group.statistics.values()
        if one.name != LOCAL_NORM
    ]
    return tensors, (*theirs, *own)


def _only_ranks(frame: Frame) -> Frame:
    kept = {name: row for name, row in frame.values.items() if name in (RANK_ROWS, GAP)}
    return replace(frame, values=kept, present={k: v for k, v in frame.present.items() if k in kept})


def _add(group: _Group, rank: int, series: SeriesRef, piece: Piece, now: float) -> None:
    steps, times = piece.steps.astype(np.int64).tolist(), piece.times.tolist()
    if series.logged:
        if rank == MAIN_RANK:
            for step, time, value in zip(steps, times, piece.values[:, 0].tolist(), strict=True):
                group.packer.add_scalar(series.name, step, time, value)
        return
    values = piece.values.astype(np.float64)
    for n, (step, time) in enumerate(zip(steps, times, strict=True)):
        part = group.merge.part(rank, step, time, now)
        if part is not None:
            put(part, series, piece, n, values[n])


def _corrections(group: _Group, frames: Sequence[Frame]) -> list[Piece]:
    """The frames as series of the merged stream; what it has never declared is left out."""
    known = {
        name: series
        for (rank, _, name), series in group.handle.live.series.items()
        if rank == MAIN_RANK and series.scope != "group"
    }
    found = []
    for name, series in known.items():
        at = [frame for frame in frames if name in frame.values]
        if at:
            values = np.stack([np.asarray(frame.values[name], series.dtype) for frame in at])
            whole = np.ones(values.shape[1], np.bool_)
            present = np.stack([frame.present.get(name, whole) for frame in at])
            steps = np.array([frame.step for frame in at], np.float64)
            times = np.array([frame.time for frame in at])
            found.append(Piece(series.idx, steps, times, values, None if present.all() else present))
    return found
