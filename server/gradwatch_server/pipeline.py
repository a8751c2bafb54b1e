"""The only fan-out: what a trainer sends goes to the alert engine, the store and, once it is durable, to the hub.

Everything here runs on the event loop; the store writes in its own thread and calls back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

from gradwatch.errors import GradwatchError
from gradwatch.protocol import Heartbeat, Hello, Record
from gradwatch.protocol.messages import FLIGHT_MARK

from .hub import Event, Hub, Update
from .models import GroupInfo, Run, RunMark, StoredBlock, TensorInfo
from .plain import PRIVATE, run_plain, status_plain
from .privacy import sift_mark
from .ranks import Ranks
from .store import Appended, OpenedStream, Store, StreamHandle
from .store.live import RANKS_LANE
from .store.price import price_of

__all__ = ["LOST_AFTER", "Announcer", "Follower", "Observer", "Pipeline"]

STATUS_SECONDS: Final = 0.5
"""How often a run's numbers in lists change, at most."""

PRICE_STEPS: Final = 100
"""Steps after which the pace of a run says what it will take on the disk."""

LOST_SECONDS: Final = 5.0
LOST_AFTER: Final = 60.0
"""Seconds without a sign of life after which a run counts as lost."""

log = logging.getLogger("gradwatch.server")


class Announcer:
    """Tells everybody of changes, each with a revision from the database."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(
        self, kind: str, run: str | None, data: dict[str, Any], private: dict[str, Any] | None = None
    ) -> None:
        """Tells those who may know, soon. ``private`` is for owners only."""
        task = asyncio.get_running_loop().create_task(self._tell(kind, run, data, private or {}))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def run(self, run: Run) -> None:
        """Tells that a run is new or has changed."""
        full = run_plain(run, full=True)
        self("run", run.id, run_plain(run, full=False), {name: full[name] for name in PRIVATE})

    async def drain(self) -> None:
        """Waits for what is on its way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self, kind: str, run: str | None, data: dict[str, Any], private: dict[str, Any]) -> None:
        database = self._store.database
        try:
            revision = await asyncio.wrap_future(database.write(database.next_revision))
        except GradwatchError as error:
            log.error("a change of kind %s could not be announced: %s", kind, error)
            return
        self._hub.announce(Event(kind=kind, run=run, data=data, private=private, revision=revision))


class Observer(Protocol):
    """Judges numbers as they come, before they are stored: the alert engine."""

    async def prepare(self, run_id: str) -> None:
        """Takes up a run that a client opens again."""

    def observe(
        self,
        run: Run,
        tensors: Sequence[TensorInfo],
        blocks: Sequence[StoredBlock],
        groups: Sequence[GroupInfo] = (),
    ) -> None:
        """``blocks`` follow those of the call before; tensors and groups by run-wide index."""

    def run_changed(self, run: Run) -> None:
        """The run's state is another one."""


class Follower(Protocol):
    """Hears of what has been stored: the health engine. Never waits."""

    def feed(
        self,
        run: Run,
        segment: int,
        tensors: Sequence[TensorInfo],
        blocks: Sequence[StoredBlock],
        marks: Sequence[RunMark] = (),
    ) -> None:
        """Numbers that are durable now, of the segment with this index."""

    def run_ended(self, run: Run) -> None:
        """No more of this run will come, or not soon."""


class Pipeline:
    """Takes what trainers send.

    Args:
        store: where it is kept.
        hub: who hears of numbers.
        announce: tells of everything else.
        observer: who judges it before it is stored.
        follower: who judges it afterwards.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        announce: Announcer,
        observer: Observer,
        follower: Follower,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.hub = hub
        self._announce = announce
        self._observer = observer
        self._follower = follower
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        """The event loop that everything runs on."""
        self._changed: dict[str, StreamHandle] = {}
        self._priced: set[str] = set()
        self._ranks = Ranks(store, self._accept, clock)

    async def open(self, hello: Hello) -> OpenedStream:
        """A stream of records begins.

        Raises:
            RunKeyRefused, StreamFenced, StoreError: it must not.
        """
        own = await self._ranks.enter(hello)
        opened = await asyncio.wrap_future(self.store.open_stream(own, now=self._clock()))
        self._ranks.entered(hello, opened.stream)
        await self._observer.prepare(opened.run.id)
        self._observer.run_changed(opened.run)
        self._announce.run(opened.run)
        return opened

    def accept(self, stream: StreamHandle, records: Sequence[Record]) -> asyncio.Future[int]:
        """Takes records; the future gives the stream's next sequence number once they are durable.

        Raises:
            ProtocolError: a record makes no sense. Those before it are stored all the same.
            StreamFenced: another process has taken over.
        """
        fresh = self._ranks.before(stream, records)
        try:
            return self._accept(stream, records)
        finally:
            self._ranks.take(stream, fresh)

    def _accept(self, stream: StreamHandle, records: Sequence[Record]) -> asyncio.Future[int]:
        appended = self.store.append(stream, records)
        if appended.blocks:
            self._observer.observe(
                stream.run, stream.tensors, appended.blocks, list(stream.live.groups.values())
            )
        stored = self.loop.create_future()

        def durable(done: Future[int]) -> None:
            self._call(self._stored, stream, appended, done, stored)

        appended.done.add_done_callback(durable)
        return stored

    async def beat(self, stream: StreamHandle, heartbeat: Heartbeat) -> None:
        """A sign of life. A lost run is running again, and that is told."""
        before = stream.run
        cost = heartbeat.cost if self._ranks.leads(stream) else before.cost
        await asyncio.wrap_future(
            self.store.beat(before.id, now=self._clock(), step=heartbeat.step, cost=cost)
        )
        if stream.run.state != before.state:
            self._observer.run_changed(stream.run)
            self._announce.run(stream.run)
        self._changed[before.id] = stream

    async def tick(self) -> None:
        """Runs until cancelled: tells of progress, and finds runs that are lost."""
        since_lost = 0.0
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            self._ranks.tick()
            self.flush_status()
            since_lost += STATUS_SECONDS
            if since_lost >= LOST_SECONDS:
                since_lost = 0.0
                await self._find_lost()

    def flush_status(self) -> None:
        """Tells of the progress of runs that made some since the last call."""
        changed, self._changed = self._changed, {}
        for run_id, stream in changed.items():
            self._tell_price(stream)
            self.hub.announce(Event(kind="status", run=run_id, data=status_plain(stream.run)))

    def _tell_price(self, stream: StreamHandle) -> None:
        """Says once, as soon as the pace is known, what a day of a run will take."""
        run = stream.run
        if run.id not in self._priced and run.steps >= PRICE_STEPS and run.steps_per_s > 0:
            self._priced.add(run.id)
            live = stream.live
            price = price_of(live.series.values(), run.tensor_count, run.steps_per_s, live.numbers_a_step())
            log.info("run %s: %s", run.id, price.sentence())

    async def drain(self) -> None:
        """Waits for what is still being put into the store."""
        await self._ranks.drain()

    async def _find_lost(self) -> None:
        try:
            lost = await asyncio.wrap_future(self.store.mark_lost(now=self._clock(), after=LOST_AFTER))
            runs = await asyncio.to_thread(self.store.runs, ids=lost) if lost else []
        except GradwatchError as error:
            log.error("runs that stopped could not be marked as lost: %s", error)
            return
        for run in runs:
            self._observer.run_changed(run)
            self._follow_state(run)
            self._announce.run(run)

    def _follow_state(self, run: Run) -> None:
        if run.state != "running":
            self._follower.run_ended(run)

    def _stored(
        self,
        stream: StreamHandle,
        appended: Appended,
        done: Future[int],
        stored: asyncio.Future[int],
    ) -> None:
        error = done.exception()
        if error is not None:
            if not stored.done():
                stored.set_exception(error)
            return
        run = stream.run
        if appended.blocks:
            self.hub.publish(Update(run_id=run.id, segment=stream.segment, blocks=tuple(appended.blocks)))
        if (stream.speaks and (appended.blocks or appended.marks)) or stream.rank == RANKS_LANE:
            self._follower.feed(run, stream.segment, stream.tensors, appended.blocks, appended.marks)
        if appended.declared:
            self._announce("schema", run.id, {"tensor_count": run.tensor_count})
        for mark in appended.marks:
            self._announce_mark(run, mark)
        if appended.state is not None:
            self._observer.run_changed(run)
            self._follow_state(run)
            self._announce.run(run)
        self._changed[run.id] = stream
        if not stored.done():
            stored.set_result(done.result())

    def _announce_mark(self, run: Run, mark: RunMark) -> None:
        if mark.kind == FLIGHT_MARK:
            return
        shown = sift_mark(mark.data, run.context)
        data = {"step": mark.step, "time": mark.time, "kind": mark.kind, "data": shown}
        private = {"data": mark.data}
        self.hub.announce(
            Event(kind="mark", run=mark.run_id, data=data, private=private, revision=mark.revision)
        )

    def _call(self, fn: Callable[..., None], *args: Any) -> None:
        """From any thread: calls ``fn`` on the loop, unless the server has already ended."""
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            log.info("stored after the server stopped listening: %s", fn.__name__)
