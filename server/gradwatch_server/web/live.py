"""The live socket of a page: snapshots, deltas and events, at the pace of its reader.

One task reads what the page asks; one writes: it wakes when the mailbox has news, waits until the last write is
:data:`PACE` ago, and sends what has gathered. A slow reader makes that task wait in ``send`` while its mailbox conflates,
so it never slows anybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np
import orjson
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from gradwatch.errors import GradwatchError, ProtocolError
from gradwatch.protocol.codec import to_plain

from ..errors import Forbidden, LinkEnded, NotFound, NotSignedIn, TooMany, fault_of
from ..hub import Event, Mailbox
from ..models import Series, SeriesQuery
from ..services import Services
from .access import Identity, check_rate, identify, same_origin, services_of
from .folding import Fold, Unfoldable
from .queries import series_query
from .view_codec import DELTA, SNAPSHOT, encode_view

__all__ = ["MESSAGES", "router"]

PACE: Final = 0.085
"""Seconds between two writes to one page."""

HELLO_SECONDS: Final = 10.0
RECHECK_SECONDS: Final = 15.0
"""How often a quiet socket is asked whether its viewer may still look."""

MOST_SUBSCRIPTIONS: Final = 64
MOST_TEXT: Final = 262_144
"""Longest message of a page: a list of 20,000 rows fits."""

_NOTHING: Final = np.zeros((0, 0), np.float32)
_NOTHING_YET: Final = Series(
    width=1, first_bucket=0, low=_NOTHING, high=_NOTHING, last=_NOTHING, flags=_NOTHING.astype(np.uint8)
)
"""What a page gets of a statistic that the run doesn't have yet. The first numbers bring a fresh snapshot."""

router = APIRouter()


@router.websocket("/ws/live")
async def live(socket: WebSocket) -> None:
    """One page's socket."""
    services = services_of(socket)
    if not same_origin(socket):
        await socket.close(1008)
        return
    await socket.accept()
    try:
        if services.load.busy:
            raise TooMany("The server is busy storing what trainers send. The page comes back by itself.")
        addresses, now = services.addresses, services.clock()
        with addresses.holding(socket, now), services.metrics.holding("viewers", services.limits.viewers):
            await _serve(socket, services)
    except WebSocketDisconnect:
        pass
    except GradwatchError as error:
        fault = fault_of(error)
        await _send(socket, {"type": "error", "id": None, "code": fault.code, "message": fault.message})
        await socket.close(fault.close)


async def _serve(socket: WebSocket, services: Services) -> None:
    try:
        hello = await asyncio.wait_for(_receive(socket), HELLO_SECONDS)
    except asyncio.TimeoutError:
        raise ProtocolError("the first message must be a hello, within 10 seconds") from None
    identity = await _identity(socket, services, hello)
    page = _Page(socket, services, identity, hello)
    try:
        await page.run(hello)
    finally:
        page.mailbox.close()


async def _identity(socket: WebSocket, services: Services, hello: dict[str, Any]) -> Identity:
    """Who the page's hello says it is. A share token wins over the cookie that the browser sends along."""
    if hello.get("type") != "hello":
        raise ProtocolError("the first message must be a hello")
    share = hello.get("share")
    if isinstance(share, str) and share:
        return await identify(socket, share=share)
    identity = await identify(socket)
    page = hello.get("page")
    if identity.session and not (
        isinstance(page, str) and services.sessions.is_page_token(identity.session, page)
    ):
        raise Forbidden("This page is out of date. Reload it.")
    return identity


async def _receive(socket: WebSocket) -> dict[str, Any]:
    """The next message of the page.

    Raises:
        ProtocolError: it is not one.
        WebSocketDisconnect: the page is gone.
    """
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received["code"])
    text = received.get("text") or ""
    if len(text) > MOST_TEXT:
        raise ProtocolError(f"a message of {len(text):,} characters; at most {MOST_TEXT:,} are taken")
    try:
        message = orjson.loads(
            text
        )  # refuses what no database and no reply can hold: halves of surrogate pairs
    except ValueError:
        raise ProtocolError("a message that is not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message must be a JSON object")
    return message


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    await socket.send_text(orjson.dumps(to_plain(message)).decode())


class _Subscription:
    """One view of the page: what was asked, and the open end of what was sent."""

    def __init__(self, number: int, run_id: str, query: SeriesQuery) -> None:
        self.number = number
        self.run_id = run_id
        self.query = query
        self.segment = -1
        self.known: frozenset[int] = frozenset()
        self.fold: Fold | None = None
        """None until the first snapshot is sent."""

    def delta(self, mailbox: Mailbox) -> Series | None:
        """What to send of the news that wait.

        Raises:
            Unfoldable: a fresh snapshot is needed.
        """
        pending = mailbox.pending(self.number)
        if self.fold is None or pending is None:
            return None
        news, overflowed = pending.take()
        if overflowed:
            raise Unfoldable
        blocks = []
        for segment, block in news:
            if self.query.segment is None and segment not in self.known:
                raise Unfoldable
            if segment == self.segment:
                blocks.append(block)
        return self.fold.add(blocks)


class _Page:
    """The state of one socket."""

    def __init__(
        self, socket: WebSocket, services: Services, identity: Identity, hello: dict[str, Any]
    ) -> None:
        self.mailbox = services.hub.mailbox(identity.viewer)
        self._socket = socket
        self._services = services
        self._identity = identity
        self._share = hello.get("share") if identity.viewer.share_id else None
        self._subscriptions: dict[int, _Subscription] = {}
        self._replayed: set[int] = set()
        """Revisions that were sent on arrival, and may wait in the mailbox as well."""

    async def run(self, hello: dict[str, Any]) -> None:
        """Serves the page until it or its right to look ends."""
        await self._welcome(hello.get("since"))
        reading = asyncio.ensure_future(self._read())
        writing = asyncio.ensure_future(self._write())
        try:
            done, _ = await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _welcome(self, since: Any) -> None:
        hub = self._services.hub
        await self._tell({"type": "welcome", "revision": hub.revision, "now": self._services.clock()})
        if not isinstance(since, int) or since == hub.revision:
            return
        missed = hub.since(since)
        if missed is None:
            await self._tell({"type": "stale", "revision": self._services.hub.revision})
            return
        for event in missed:
            self._replayed.add(event.revision)
            if self.mailbox.accepts(event):
                await self._tell(event.plain(self._identity.viewer))

    async def _tell(self, message: dict[str, Any]) -> None:
        await _send(self._socket, message)

    # --- what the page asks -------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message: dict[str, Any] = {}
            try:
                message = await _receive(self._socket)
                await self._obey(message)
            except GradwatchError as error:
                fault = fault_of(error)
                told = {
                    "type": "error",
                    "id": number if isinstance(number := message.get("id"), int) else None,
                    "code": fault.code,
                    "message": fault.message,
                }
                await self._tell(told)

    async def _obey(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        answer = MESSAGES.get(kind) if isinstance(kind, str) else None
        if answer is None:
            raise ProtocolError(f"an unknown message; {', '.join(MESSAGES)} are known")
        await answer(self, message)

    async def _unsubscribe(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if isinstance(number, int):
            self._subscriptions.pop(number, None)
            self.mailbox.unwant(number)

    async def _follow(self, message: dict[str, Any]) -> None:
        run = message.get("run")
        self.mailbox.run = run if isinstance(run, str) else None

    async def _ping(self, message: dict[str, Any]) -> None:
        await self._tell({"type": "pong", "now": self._services.clock()})

    async def _subscribe(self, message: dict[str, Any]) -> None:
        number, run_id = message.get("id"), message.get("run")
        if not isinstance(number, int) or not 0 < number < 2**32 or not isinstance(run_id, str):
            raise ProtocolError("subscribe needs an id from 1 and a run")
        if not self._identity.viewer.may_see(run_id):
            raise NotFound("There is no such run. It may have been deleted.")
        check_rate(self._socket, self._identity.viewer)
        if len(self._subscriptions) >= MOST_SUBSCRIPTIONS and number not in self._subscriptions:
            raise TooMany(f"One page may have {MOST_SUBSCRIPTIONS} views.")
        query = series_query(
            message.get("statistic"),
            scope=message.get("scope", "tensor"),
            rows=message.get("rows"),
            from_step=message.get("from", 0),
            to_step=message.get("to"),
            points=message.get("points", 1000),
            segment=message.get("segment"),
        )
        if await run_in_threadpool(self._services.store.run, run_id) is None:
            raise NotFound("There is no such run. It may have been deleted.")
        subscription = self._subscriptions[number] = _Subscription(number, run_id, query)
        self.mailbox.want(number, run_id, query.scope, query.statistic)
        await self._snapshot(subscription)

    async def _snapshot(self, subscription: _Subscription) -> None:
        """Reads the view afresh and sends it. News keep gathering meanwhile; what is in the snapshot is left out of them."""
        query, store = subscription.query, self._services.store

        def read() -> tuple[list[int], Series]:
            segments = store.segments(subscription.run_id) if query.segment is None else []
            known = [segment.index for segment in segments]
            try:
                return known, store.series(subscription.run_id, query)
            except NotFound:
                return known, _NOTHING_YET

        known, series = await run_in_threadpool(read)
        subscription.known = frozenset(known)
        newest = known[-1] if known else -1
        subscription.segment = newest if query.segment is None else query.segment
        await self._socket.send_bytes(
            encode_view(series, kind=SNAPSHOT, subscription=subscription.number, segment=query.segment)
        )
        subscription.fold = Fold(series, query.rows, query.to_step)

    # --- what the page gets -------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + RECHECK_SECONDS
        while True:
            try:
                await asyncio.wait_for(self.mailbox.wake.wait(), RECHECK_SECONDS)
            except asyncio.TimeoutError:
                pass
            self.mailbox.wake.clear()
            allowed = not self.mailbox.revoked
            if allowed and (self.mailbox.recheck or loop.time() >= check_at):
                self.mailbox.recheck = False
                allowed = await self._may_still_look()
                check_at = loop.time() + RECHECK_SECONDS
            if not allowed:
                await self._tell({"type": "revoked"})
                raise LinkEnded
            await self._flush()
            await asyncio.sleep(PACE)

    async def _may_still_look(self) -> bool:
        try:
            self._socket.state.identity = None
            await identify(self._socket, share=self._share)
        except (NotSignedIn, Forbidden, LinkEnded):
            return False
        return True

    async def _flush(self) -> None:
        if self.mailbox.stale:
            self.mailbox.stale = False
            await self._tell({"type": "stale", "revision": self._services.hub.revision})
        for event in self.mailbox.take_events():
            if event.revision in self._replayed:
                continue
            await self._tell(event.plain(self._identity.viewer))
            self._forget_deleted(event)
        if self._services.load.busy:  # trainers first: numbers gather here, or are read afresh
            self._services.metrics.add("views_held")
            self.mailbox.wake.set()
            return
        for subscription in list(self._subscriptions.values()):
            try:
                series = subscription.delta(self.mailbox)
            except Unfoldable:
                await self._snapshot(subscription)
                continue
            if series is not None:
                await self._socket.send_bytes(
                    encode_view(
                        series,
                        kind=DELTA,
                        subscription=subscription.number,
                        segment=subscription.query.segment,
                    )
                )

    def _forget_deleted(self, event: Event) -> None:
        if event.kind == "run_deleted":
            for number, subscription in list(self._subscriptions.items()):
                if subscription.run_id == event.run:
                    del self._subscriptions[number]
                    self.mailbox.unwant(number)


MESSAGES: Final[dict[str, Callable[[_Page, dict[str, Any]], Awaitable[None]]]] = {
    "subscribe": _Page._subscribe,
    "unsubscribe": _Page._unsubscribe,
    "follow": _Page._follow,
    "ping": _Page._ping,
}
"""What a page may say after its hello."""
