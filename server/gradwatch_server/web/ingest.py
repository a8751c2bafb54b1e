"""The ingest socket: what trainers send, taken in groups, acknowledged when durable.

Three tasks per socket. The *reader* moves messages into an inbox and stops reading when too much is not yet committed,
which makes TCP slow the trainer's sender thread (never its training). The *worker* takes all that has arrived as one
append. The *acker* sends the newest acknowledgement; those in between are left out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from fnmatch import fnmatchcase
from typing import Final

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from gradwatch import __version__
from gradwatch.errors import ConnectionRefused, GradwatchError, ProtocolError
from gradwatch.protocol import Ack, Hello, Record, ServerSession, Welcome, encode
from gradwatch.protocol.session import Beat, HelloReceived, RecordReceived, ServerEvent, State

from ..errors import StreamFenced, fault_of
from ..services import Services
from ..store import StreamHandle
from .access import same_origin, services_of

__all__ = ["router"]

HELLO_SECONDS: Final = 10.0
UNCOMMITTED_BYTES: Final = 32 * 1024 * 1024
"""Reading stops above this, until commits have caught up."""

MOST_AT_ONCE: Final = 1_024
"""Most messages in one append."""

MOST_UNSTORED: Final = 2
"""Appends of one socket that wait for a commit: one that is being written, one behind it. What arrives meanwhile gathers
and is taken together, so that under load there are fewer and larger appends instead of a longer queue."""

MOST_NEWS: Final = 256
"""Incidents that wait to be sent to one trainer; the oldest go."""

ENOUGH_BYTES: Final = 256 * 1024
"""Gathered bytes that are worth an append of their own, however many wait for a commit."""

log = logging.getLogger("gradwatch.server")
router = APIRouter()


@router.websocket("/ws/ingest")
async def ingest(socket: WebSocket) -> None:
    """One trainer's socket."""
    services = services_of(socket)
    if not same_origin(socket):
        await socket.close(1008)
        return
    await socket.accept()
    connection = _Trainer(socket, services)
    try:
        addresses, now = services.addresses, services.clock()
        with addresses.holding(socket, now), services.metrics.holding("trainers", services.limits.trainers):
            await connection.run()
    except GradwatchError as error:
        await connection.refuse(error)


class _Trainer:
    """One connection."""

    def __init__(self, socket: WebSocket, services: Services) -> None:
        self._socket = socket
        self._services = services
        self._session = ServerSession(nonce=secrets.token_hex(16), key_for=services.keyring.key_for)
        self.key_id = ""
        self._stream: StreamHandle | None = None
        self._inbox: deque[bytes | str] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._gone = False
        self._held = 0
        self._gathered = 0
        """Bytes not yet committed, and those of them that are still in the inbox."""
        self._flying = 0
        """Bytes that the store has, and that are not yet durable."""
        self._acked = 0
        self._ack_now = asyncio.Event()
        self._news: deque[str] = deque(maxlen=MOST_NEWS)
        self._unstored: set[asyncio.Future[int]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serves the socket until it closes.

        Raises:
            GradwatchError: for the trainer to be told.
        """
        reader = asyncio.ensure_future(self._read())
        worker = asyncio.ensure_future(self._work())
        acker = asyncio.ensure_future(self._ack())
        self._greeting = asyncio.get_running_loop().call_later(HELLO_SECONDS, self._too_slow)
        tasks: list[asyncio.Future[None]] = [worker, acker, self._broken]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            self._greeting.cancel()
            for task in (reader, *tasks):
                task.cancel()
            await asyncio.gather(reader, *tasks, return_exceptions=True)
            self._let_go(self._held - self._flying)  # what nobody takes any more
            if self._stream is not None:
                self._services.trainers.leave(self._stream, self)

    async def refuse(self, error: GradwatchError) -> None:
        """Tells the trainer why, and closes."""
        fault = fault_of(error)
        self._services.metrics.add("ingest_errors")
        log.warning("a trainer was refused (%s): %s", fault.code, fault.message)
        await self._send(self._session.fail(error, fatal=fault.fatal))
        if not self._gone:
            await self._socket.close(fault.close, fault.code)

    def fence(self, why: GradwatchError | None = None) -> None:
        """Another socket has taken over this stream, or a newer stream this rank."""
        self._break(why or StreamFenced("another process now sends this run; this one was cut off"))

    def tell(self, text: str) -> None:
        """Something that the trainer should hear, sent before the next acknowledgement."""
        self._news.append(text)
        self._ack_now.set()

    def _too_slow(self) -> None:
        if self._session.state is not State.OPEN:
            self._break(ProtocolError("the trainer must introduce itself within 10 seconds"))

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    # --- reader -------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        socket, metrics, load = self._socket, self._services.metrics, self._services.load
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                break
            data = message.get("bytes")
            if data is None:
                data = message["text"]
            self._held += len(data)
            load.hold(len(data))
            self._gathered += len(data)
            metrics.counters["ingest_messages"] += 1
            metrics.counters["ingest_bytes"] += len(data)
            self._inbox.append(data)
            self._arrived.set()
            while self._held > (0 if load.full else UNCOMMITTED_BYTES):
                self._room.clear()
                await self._room.wait()
        self._gone = self._ended = True
        self._arrived.set()

    # --- worker -------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not (self._ended and not self._inbox):
            await self._arrived.wait()
            self._arrived.clear()
            while self._inbox:
                while len(self._unstored) >= MOST_UNSTORED and self._gathered < ENOUGH_BYTES:
                    self._arrived.clear()
                    await self._arrived.wait()
                await self._take()
                await asyncio.sleep(0)

    async def _take(self) -> None:
        """Everything in the inbox, as one append. What is good before a bad message is still taken."""
        records: list[Record] = []
        size = 0
        beat: Beat | None = None
        failure: GradwatchError | None = None
        while self._inbox and len(records) < MOST_AT_ONCE and failure is None:
            data = self._inbox.popleft()
            size += len(data)
            self._gathered -= len(data)
            try:
                out, events = self._session.receive(data)
            except GradwatchError as error:
                failure = error
                break
            for text in out:
                await self._send(text)
            for event in events:
                if isinstance(event, RecordReceived):
                    records.append(event.record)
                else:
                    beat = await self._other(event) or beat
        try:
            self._accept(records, size)
        except GradwatchError as error:
            failure = error
        if beat is not None and self._stream is not None:
            await self._services.pipeline.beat(self._stream, beat.heartbeat)
        if failure is not None:
            await self._settle()
            raise failure

    async def _other(self, event: ServerEvent) -> Beat | None:
        if isinstance(event, HelloReceived):
            self._greeting.cancel()  # from here on it waits for the database, not for the trainer
            self._check_scope(event)
            await self._open(event.hello)
        return event if isinstance(event, Beat) else None

    def _check_scope(self, event: HelloReceived) -> None:
        """Refuses a project that the token isn't for."""
        grant = self._services.keyring.grant(event.key_id)
        self.key_id = event.key_id
        if grant is None or not fnmatchcase(event.hello.project, grant.project):
            scope = "no project any more" if grant is None else f"projects like {grant.project!r}"
            raise ConnectionRefused(
                "auth", f"this token is for {scope}, not for {event.hello.project!r}: ask for another one"
            )

    async def _open(self, hello: Hello) -> None:
        services = self._services
        opened = await services.pipeline.open(hello)
        self._stream = opened.stream
        services.trainers.enter(opened.stream, self)
        welcome = Welcome(
            next_seq=opened.next_seq,
            instance=services.instance,
            run_url=f"{services.link}/runs/{opened.run.id}",
            server=__version__,
        )
        self._acked = opened.next_seq
        await self._send(self._session.welcome(welcome))

    def _accept(self, records: list[Record], size: int) -> None:
        if self._stream is None or not records:
            self._let_go(size)
            return
        started, before = asyncio.get_running_loop().time(), self._stream.run.steps
        try:
            stored = self._services.pipeline.accept(self._stream, records)
        except GradwatchError:
            self._let_go(size)
            raise
        self._services.metrics.counters["ingest_frames"] += self._stream.run.steps - before
        self._unstored.add(stored)
        self._flying += size

        def durable(done: asyncio.Future[int]) -> None:
            self._unstored.discard(done)
            self._flying -= size
            self._let_go(size)
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                self._break(error)
                return
            self._services.metrics.ack.add(asyncio.get_running_loop().time() - started)
            self._acked = max(self._acked, done.result())
            self._ack_now.set()

        stored.add_done_callback(durable)

    def _let_go(self, size: int) -> None:
        self._held -= size
        self._services.load.hold(-size)
        self._room.set()
        self._arrived.set()

    async def _settle(self) -> None:
        """Waits until all that was taken is durable and acknowledged, before an error ends the socket."""
        if self._unstored:
            await asyncio.wait(set(self._unstored))
        if self._stream is not None:
            await self._send(str(encode(Ack(next_seq=self._acked))))

    # --- acker --------------------------------------------------------------------------------------------------------

    async def _ack(self) -> None:
        while True:
            await self._ack_now.wait()
            self._ack_now.clear()
            while self._news:
                await self._send(self._news.popleft())
            await self._send(str(encode(Ack(next_seq=self._acked))))

    async def _send(self, text: str) -> None:
        if self._gone:
            return
        try:
            await self._socket.send_text(text)
        except WebSocketDisconnect:
            self._gone = True
