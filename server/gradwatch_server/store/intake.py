"""What trainers and people change: streams come in, runs are renamed and deleted. The state that is known by heart."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from gradwatch.errors import GradwatchError, ProtocolError
from gradwatch.protocol import Hello, Record

from ..errors import NotFound, StoreError, StreamFenced, StreamReopened
from ..models import Run, RunMark, RunState, StoredBlock
from . import queries, writes
from .background import Background
from .compactor import Lane
from .database import Database, savepoint
from .ingest import Changes, take
from .live import LiveRun, StreamHandle
from .opening import OpenedStream, begin, checked, hash_of, load_live, open_stream

__all__ = ["Appended", "Intake"]


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


@dataclass(slots=True, eq=False)
class _Waiting:
    changes: Changes
    appended: Appended
    error: BaseException | None = None


class Intake:
    """The changing half of :class:`.store.Store`."""

    def __init__(self, database: Database, background: Background, clock: Callable[[], float]) -> None:
        self._database = database
        self._background = background
        self._clock = clock
        self._lock = threading.Lock()
        self._lives: dict[str, LiveRun] = {}
        self._streams: dict[int, StreamHandle] = {}
        self._pending: list[_Waiting] = []

    def open_stream(self, hello: Hello, *, now: float) -> Future[OpenedStream]:
        """Finds or makes run, segment and stream; handles that the new one replaces are closed.

        The future raises RunKeyRefused or StreamFenced.

        Raises:
            ProtocolError: an id or number that can't be stored.
        """
        hello = checked(hello, now)
        key_hash = hash_of(hello.run_key)
        with self._lock:
            for other in self._streams.values():
                same = other.stream == hello.stream and other.live.run.id == hello.run_id
                if same and hmac.compare_digest(other.live.key_hash, key_hash):
                    other.closed = StreamReopened(
                        "this stream was opened again by another connection, which goes on where this one was"
                    )

        def work(conn: Connection) -> OpenedStream:
            with self._lock:
                live = self._lives.get(hello.run_id)
            opened = open_stream(conn, hello, live, now=now)
            with self._lock:
                opened = begin(opened, now=now)
                self._lives[hello.run_id] = opened.stream.live
                self._replace_handles(opened.stream)
            writes.save_run(conn, [(opened.stream.live.no, opened.run)])
            return opened

        return self._database.write(work)

    def _replace_handles(self, stream: StreamHandle) -> None:
        for other in list(self._streams.values()):
            older = other.segment_at <= stream.segment_at
            if other.live is stream.live and other.rank == stream.rank and older:
                other.closed = other.closed or StreamFenced(
                    "a newer process has taken over this run; this one sends no more"
                )
                del self._streams[other.no]
        self._streams[stream.no] = stream

    def append(self, stream: StreamHandle, records: Sequence[Record]) -> Appended:
        """Checks and maps ``records`` now, stores them soon.

        Raises:
            ProtocolError: a record that makes no sense. Those before it are stored all the same; the stream is closed.
            GradwatchError: the stream is closed, and why: a newer one has taken over, or what came before it was refused or
                could not be stored.
        """
        if stream.closed is not None:
            raise stream.closed.with_traceback(None)
        changes = Changes(stream)
        try:
            with self._lock:
                take(stream, records, changes, now=self._clock())
        except ProtocolError as error:
            stream.closed = error
            raise
        finally:
            appended = self._queue(changes)
        return appended

    def _queue(self, changes: Changes) -> Appended:
        appended = Appended(
            changes.blocks, changes.marks, changes.state, changes.stream.run, bool(changes.schemas), Future()
        )
        with self._lock:
            self._pending.append(_Waiting(changes, appended))
            first = len(self._pending) == 1
        if first:
            taken: list[_Waiting] = []
            future = self._database.write(lambda conn: self._write_pending(conn, taken))
            future.add_done_callback(lambda done: self._settle(taken, done.exception()))
        return appended

    def _write_pending(self, conn: Connection, taken: list[_Waiting]) -> None:
        with self._lock:
            taken += self._pending
            self._pending = []
            runs = {one.changes.stream.live.no: one.changes.stream.run for one in taken}
        try:
            with savepoint(conn):
                writes.apply_changes(conn, [one.changes for one in taken])
                writes.save_run(conn, runs.items())
        except (SQLAlchemyError, ValueError, OverflowError) as error:
            if isinstance(error, OperationalError) or len(taken) == 1:
                raise
            self._write_singly(conn, taken)

    def _write_singly(self, conn: Connection, taken: list[_Waiting]) -> None:
        """One of a group can't be stored, whatever it is: that one and what follows it in its run fails alone."""
        failed: set[int] = set()
        for one in taken:
            live = one.changes.stream.live
            if live.no in failed:
                one.error = StoreError("what came before it could not be stored")
                continue
            try:
                with savepoint(conn):
                    writes.apply_changes(conn, [one.changes])
                    writes.save_run(conn, [(live.no, live.run)])
            except (SQLAlchemyError, ValueError, OverflowError) as error:
                one.error = StoreError(f"this could not be stored: {str(error).splitlines()[0][:300]}")
                failed.add(live.no)

    def _settle(self, taken: list[_Waiting], error: BaseException | None) -> None:
        """Tells those who wait. After a failure what is known by heart may be ahead of the database, so it is forgotten:
        streams must be opened again, which loads them as they are stored."""
        with self._lock:
            if error is not None:
                taken, self._pending = taken + self._pending, []
            for one in taken:
                one.error = one.error or error
                if one.error is not None:
                    self._forget(one.changes.stream.live, StoreError(str(one.error)))
        for one in taken:
            changes = one.changes
            if one.error is not None:
                one.appended.done.set_exception(one.error)
                continue
            stream = changes.stream
            lane = Lane(stream.live.no, stream.segment, stream.rank)
            self._background.stored(lane, changes.last_step, changes.nbytes, ended=changes.ended)
            one.appended.marks = changes.marks
            self._background.when_keeping_up(partial(one.appended.done.set_result, changes.next_seq))

    def numbers_a_step(self, run_id: str) -> dict[int, float]:
        """See :meth:`.live.LiveRun.numbers_a_step`; nothing of a run that nobody sends."""
        with self._lock:
            live = self._lives.get(run_id)
            return {} if live is None else live.numbers_a_step()

    def _forget(self, live: LiveRun, reason: GradwatchError) -> None:
        if self._lives.get(live.run.id) is live:
            del self._lives[live.run.id]
        for stream in [one for one in self._streams.values() if one.live is live]:
            stream.closed = stream.closed or reason
            del self._streams[stream.no]

    def beat(self, run_id: str, *, now: float, cost: dict[str, float]) -> Future[None]:
        """A sign of life. A lost run is running again."""

        def work(conn: Connection) -> None:
            live = self._live(conn, run_id)
            with self._lock:
                state: RunState = "running" if live.run.state == "lost" else live.run.state
                live.run = replace(live.run, last_seen=max(now, live.run.last_seen), cost=cost, state=state)
            writes.save_run(conn, [(live.no, live.run)])

        return self._database.write(work)

    def mark_lost(self, *, now: float, after: float) -> Future[list[str]]:
        """Running runs without a sign of life for ``after`` seconds are lost; gives their ids."""

        def work(conn: Connection) -> list[str]:
            found = writes.end_lost(conn, now - after)
            with self._lock:
                for live in map(self._lives.get, found):
                    if live is not None:
                        live.run = replace(live.run, state="lost", steps_per_s=0.0)
            return found

        return self._database.write(work)

    def restore_run(self, run: Run, key_hash: str) -> Future[None]:
        """Makes the stored run say what ``run`` does; its streams are closed. For imports. The future raises NotFound."""

        def work(conn: Connection) -> None:
            live = self._live(conn, run.id)
            with self._lock:
                self._forget(live, StreamFenced("this run was imported; nothing more is added to it here"))
            writes.restore_run(conn, live.no, run, key_hash)

        return self._database.write(work)

    def _live(self, conn: Connection, run_id: str) -> LiveRun:
        with self._lock:
            live = self._lives.get(run_id)
        if live is not None:
            return live
        row = queries.find_run(conn, run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id!r}")
        return load_live(conn, row.no, queries.run_of(row))

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

        return self._database.write(work)

    def delete_run(self, run_id: str) -> Future[None]:
        """Forgets the run; its space is freed soon after. Streams of it are closed. The future raises NotFound."""

        def work(conn: Connection) -> int:
            live = self._live(conn, run_id)
            with self._lock:
                self._forget(live, StreamFenced("this run was deleted"))
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

        self._database.write(work).add_done_callback(after)
        return gone
