"""The store as the rest of the server knows it: streams come in, runs and series go out."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection

from gradwatch.errors import ProtocolError
from gradwatch.protocol import Hello, Record

from ..errors import NotFound, StreamFenced
from ..models import (
    GroupInfo,
    Run,
    RunMark,
    RunState,
    Segment,
    Series,
    SeriesQuery,
    StatisticInfo,
    StoredBlock,
    TensorInfo,
    Values,
)
from . import queries, writes
from .background import Background
from .block_queries import SeriesKey, find_series
from .compactor import Lane
from .database import Database
from .ingest import Changes, take
from .live import LiveRun, StreamHandle
from .opening import OpenedStream, load_live, open_stream
from .schema import open_database
from .series import read_series, read_values

__all__ = ["Appended", "Store"]

T = TypeVar("T")

_SAMPLE = 16_384
"""Newest values that percentiles are taken from."""


@dataclass(slots=True, eq=False)
class Appended:
    """What an append took. Nothing of it is durable before ``done`` resolves, with the stream's next sequence number.

    ``marks`` have revision 0 until then. ``state`` is the run's new state if it changed, ``run`` the run after it.
    ``declared`` says that tensors, groups or statistics came new.
    """

    blocks: list[StoredBlock]
    marks: list[RunMark]
    state: RunState | None
    run: Run
    declared: bool
    done: Future[int]


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a list of ``total``, as of ``revision``."""

    runs: list[Run]
    total: int
    revision: int


class Store:
    """Opened by :meth:`open`. ``append`` is for one thread (the event loop); everything else for any."""

    def __init__(self, database: Database, *, clock: Callable[[], float], background: bool) -> None:
        self.database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._lives: dict[str, LiveRun] = {}
        self._streams: dict[int, StreamHandle] = {}
        self._pending: list[tuple[Changes, Appended]] = []
        self._background = Background(database)
        if background:
            self._background.start()

    @staticmethod
    def open(url: str, *, clock: Callable[[], float] = time.time, background: bool = True) -> Store:
        """The database at a path or address, created or brought up to date. Without ``background`` it is put in order only
        by :meth:`compact`.

        Raises:
            StoreError: it can't be used; the sentence says why and what to do.
        """
        return Store(open_database(url), clock=clock, background=background)

    def close(self) -> None:
        """Commits what waits, and closes."""
        self._background.stop()
        self.database.close()

    def compact(self) -> None:
        """Puts everything in order that has arrived and makes whole chunks, and frees what deleted runs took."""
        self._background.catch_up()

    # --- streams come in ---

    def open_stream(self, hello: Hello, *, now: float) -> Future[OpenedStream]:
        """Finds or makes run, segment and stream; handles that the new one replaces are closed.

        The future raises RunKeyRefused or StreamFenced.
        """
        with self._lock:
            for other in self._streams.values():
                if other.stream == hello.stream and other.live.run.id == hello.run_id:
                    other.closed = "this stream was opened again by another connection"

        def work(conn: Connection) -> OpenedStream:
            with self._lock:
                live = self._lives.get(hello.run_id)
            opened = open_stream(conn, hello, live, now=now)
            with self._lock:
                self._lives[hello.run_id] = opened.stream.live
                self._replace_handles(opened.stream)
            return opened

        return self.database.write(work)

    def _replace_handles(self, stream: StreamHandle) -> None:
        for other in list(self._streams.values()):
            if other.live is stream.live and other.rank == stream.rank and other.segment <= stream.segment:
                other.closed = (
                    other.closed or "a newer process has taken over this run; this one sends no more"
                )
                del self._streams[other.no]
        self._streams[stream.no] = stream

    def append(self, stream: StreamHandle, records: Sequence[Record]) -> Appended:
        """Checks and maps ``records`` now, stores them soon.

        Raises:
            ProtocolError: a record that makes no sense. Those before it are stored all the same; the stream is closed.
            StreamFenced: the stream is closed.
        """
        if stream.closed:
            raise StreamFenced(stream.closed)
        changes = Changes(stream)
        try:
            with self._lock:
                take(stream, records, changes, now=self._clock())
        except ProtocolError as error:
            stream.closed = str(error)
            raise
        finally:
            appended = self._queue(changes)
        return appended

    def _queue(self, changes: Changes) -> Appended:
        appended = Appended(
            changes.blocks, changes.marks, changes.state, changes.stream.run, bool(changes.schemas), Future()
        )
        with self._lock:
            self._pending.append((changes, appended))
            first = len(self._pending) == 1
        if first:
            taken: list[tuple[Changes, Appended]] = []
            future = self.database.write(lambda conn: self._write_pending(conn, taken))
            future.add_done_callback(lambda done: self._settle(taken, done.exception()))
        return appended

    def _write_pending(self, conn: Connection, taken: list[tuple[Changes, Appended]]) -> None:
        with self._lock:
            taken += self._pending
            self._pending = []
            runs = {changes.stream.live.no: changes.stream.run for changes, _ in taken}
        writes.apply_changes(conn, [changes for changes, _ in taken])
        writes.save_run(conn, runs.items())

    def _settle(self, taken: list[tuple[Changes, Appended]], error: BaseException | None) -> None:
        """Tells those who wait. After a failure what is known by heart may be ahead of the database, so it is forgotten:
        streams must be opened again, which loads them as they are stored."""
        if error is not None:
            with self._lock:
                taken, self._pending = taken + self._pending, []
                for changes, _ in taken:
                    changes.stream.closed = changes.stream.closed or str(error)
                    self._lives.pop(changes.stream.run.id, None)
                    self._streams.pop(changes.stream.no, None)
        for changes, appended in taken:
            if error is not None:
                appended.done.set_exception(error)
            else:
                stream = changes.stream
                lane = Lane(stream.live.no, stream.segment, stream.rank)
                self._background.stored(lane, changes.last_step, ended=changes.ended)
                appended.marks = changes.marks
                appended.done.set_result(changes.next_seq)

    def beat(self, run_id: str, *, now: float, step: int, cost: dict[str, float]) -> Future[None]:
        """A sign of life. A lost run is running again."""

        def work(conn: Connection) -> None:
            live = self._live(conn, run_id)
            with self._lock:
                state: RunState = "running" if live.run.state == "lost" else live.run.state
                live.run = replace(live.run, last_seen=max(now, live.run.last_seen), cost=cost, state=state)
            writes.save_run(conn, [(live.no, live.run)])

        return self.database.write(work)

    def mark_lost(self, *, now: float, after: float = 60.0) -> Future[list[str]]:
        """Running runs without a sign of life for ``after`` seconds are lost; gives their ids."""

        def work(conn: Connection) -> list[str]:
            found = writes.end_lost(conn, now - after)
            with self._lock:
                for live in map(self._lives.get, found):
                    if live is not None:
                        live.run = replace(live.run, state="lost", steps_per_s=0.0)
            return found

        return self.database.write(work)

    def _live(self, conn: Connection, run_id: str) -> LiveRun:
        with self._lock:
            live = self._lives.get(run_id)
        if live is not None:
            return live
        row = queries.find_run(conn, run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id!r}")
        return load_live(conn, row.no, queries.run_of(row))

    # --- runs and series go out; these block, so call them off the event loop ---

    def runs(
        self,
        *,
        project: str | None = None,
        state: str | None = None,
        text: str = "",
        limit: int = 200,
        offset: int = 0,
        ids: Collection[str] | None = None,
    ) -> list[Run]:
        """Runs, the newest first. Each word of ``text`` must be in name, id, project or tags."""
        return self.page(project=project, state=state, text=text, limit=limit, offset=offset, ids=ids).runs

    def page(
        self,
        *,
        project: str | None = None,
        state: str | None = None,
        text: str = "",
        limit: int = 200,
        offset: int = 0,
        ids: Collection[str] | None = None,
    ) -> RunPage:
        """As :meth:`runs`, with the number of all that match and the revision at which that holds."""

        def work(conn: Connection) -> RunPage:
            runs, total = queries.find_runs(
                conn, project=project, state=state, text=text, ids=ids, limit=limit, offset=offset
            )
            return RunPage(runs, total, queries.revision(conn))

        return self.database.read(work)

    def run(self, run_id: str) -> Run | None:
        """The run, None if there is none."""

        def work(conn: Connection) -> Run | None:
            row = queries.find_run(conn, run_id)
            return None if row is None else queries.run_of(row)

        return self.database.read(work)

    def revision(self) -> int:
        """The newest revision of the database."""
        return self.database.read(queries.revision)

    def segments(self, run_id: str) -> list[Segment]:
        """Segments in the order in which they began."""
        return self._of_run(run_id, lambda conn, no: queries.segments_of_run(conn, no, run_id))

    def tensors(self, run_id: str) -> list[TensorInfo]:
        """Tensors by index."""
        return self._of_run(run_id, queries.tensors_of_run)

    def groups(self, run_id: str) -> list[GroupInfo]:
        """Groups by index."""
        return self._of_run(run_id, queries.groups_of_run)

    def statistics(self, run_id: str) -> list[StatisticInfo]:
        """What can be asked for as a series."""
        return self._of_run(run_id, queries.statistics_of_run)

    def marks(self, run_id: str, since: int = 0) -> list[RunMark]:
        """Marks with a revision above ``since``."""
        return self._of_run(run_id, lambda conn, no: queries.marks_of_run(conn, no, run_id, since))

    def _of_run(self, run_id: str, fn: Callable[[Connection, int], list[T]]) -> list[T]:
        """``fn`` on the run's number, an empty list when there is no such run."""

        def work(conn: Connection) -> list[T]:
            row = queries.find_run(conn, run_id)
            return [] if row is None else fn(conn, int(row.no))

        return self.database.read(work)

    def series(self, run_id: str, query: SeriesQuery) -> Series:
        """Buckets of a statistic.

        Raises:
            NotFound: the run has no such statistic.
        """
        return self.database.read(
            lambda conn: read_series(conn, *_located(conn, run_id, query.scope, query.statistic), query)
        )

    def values(
        self,
        run_id: str,
        statistic: str,
        scope: str = "tensor",
        rows: Sequence[int] | None = None,
        from_step: int = 0,
        to_step: int | None = None,
        limit: int = 10_000,
        segment: int | None = None,
    ) -> Values:
        """The first ``limit`` exact values from ``from_step`` on, ``to_step`` exclusive.

        Raises:
            NotFound: the run has no such statistic.
        """
        return self.database.read(
            lambda conn: read_values(
                conn, *_located(conn, run_id, scope, statistic), rows, from_step, to_step, limit, segment
            )
        )

    def percentiles(
        self, run_id: str, statistic: str, scope: str, row: int, qs: Sequence[float]
    ) -> list[float]:
        """Percentiles (0 to 100) of the finite ones among the newest 16,384 steps' values; NaN where there are none.

        Raises:
            NotFound: the run has no such statistic.
        """

        def work(conn: Connection) -> list[float]:
            key, segments = _located(conn, run_id, scope, statistic)
            newest = read_series(conn, key, segments, SeriesQuery(statistic=statistic, rows=(), points=1))
            start = max(0, newest.last_step + 1 - _SAMPLE)
            found = read_values(conn, key, segments, (row,), start, None, _SAMPLE)
            finite = found.values[np.isfinite(found.values)]
            return [float(q) for q in np.percentile(finite, qs)] if len(finite) else [math.nan] * len(qs)

        return self.database.read(work)

    # --- edits ---

    def update_run(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> Future[Run]:
        """Changes what people say of a run; None leaves it as it is. The future raises NotFound."""
        given = {"name": name, "tags": None if tags is None else tuple(tags), "notes": notes}
        changed: dict[str, Any] = {field: value for field, value in given.items() if value is not None}

        def work(conn: Connection) -> Run:
            live = self._live(conn, run_id)
            writes.edit_run(conn, live.no, changed)
            with self._lock:
                live.run = replace(live.run, **changed)
            return live.run

        return self.database.write(work)

    def delete_run(self, run_id: str) -> Future[None]:
        """Forgets the run; its space is freed soon after. Streams of it are closed. The future raises NotFound."""

        def work(conn: Connection) -> int:
            live = self._live(conn, run_id)
            with self._lock:
                self._lives.pop(run_id, None)
                for stream in [one for one in self._streams.values() if one.live.run.id == run_id]:
                    stream.closed = "this run was deleted"
                    del self._streams[stream.no]
            writes.delete_run(conn, live.no, run_id)
            return live.no

        gone: Future[None] = Future()

        def after(done: Future[int]) -> None:
            error = done.exception()
            if error is not None:
                gone.set_exception(error)
                return
            self._background.deleted(done.result())
            gone.set_result(None)

        self.database.write(work).add_done_callback(after)
        return gone


def _located(conn: Connection, run_id: str, scope: str, name: str) -> tuple[SeriesKey, list[Segment]]:
    key = find_series(conn, run_id, scope, name)
    if key is None:
        raise NotFound(f"run {run_id!r} has no statistic {name!r} of scope {scope!r}")
    return key, queries.segments_of_run(conn, key.run_no, run_id)
