"""What stands around every request: path prefix, size of the body, how often an address asks, the headers of every answer, a
line in the log."""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ServerError, TooLarge, TooMany, fault_of
from .access import services_of
from .replies import reply_exact

__all__ = ["MOST_BODY", "Edge"]

MOST_BODY: Final = 1024 * 1024
"""Largest request body in bytes. Numbers come over the ingest socket, which has its own limit."""

log = logging.getLogger("gradwatch.access")

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_API_HEADERS: Final = (*_HEADERS, (b"cache-control", b"no-store"))


class Edge:
    """ASGI middleware.

    Args:
        root_path: prefix in front of every path; a request without it is taken as if the proxy had stripped it.
        access_log: whether each request is logged.
    """

    def __init__(self, app: ASGIApp, root_path: str = "", *, access_log: bool = False) -> None:
        self._app = app
        self._root = root_path
        self._log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] in ("http", "websocket") and self._root:
            path = scope["path"]
            inside = path == self._root or path.startswith(self._root + "/")
            scope = {**scope, "root_path": self._root, "path": path if inside else self._root + path}
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _with_headers(send, is_api=scope["path"].removeprefix(self._root).startswith("/api/"))
        if self._log:
            answer = _logged(answer, scope)
        try:
            _check(scope)
        except ServerError as error:
            fault = fault_of(error)
            response = reply_exact(fault.plain(), fault.status)
            if isinstance(error, TooMany):
                response.headers["Retry-After"] = "5"
            await response(scope, receive, answer)
            return
        await self._app(scope, _limited(receive), answer)


def _check(scope: Scope) -> None:
    """Refuses what is too much before anything is done for it.

    Raises:
        TooLarge, TooMany: so it is.
    """
    if _declared(scope) > MOST_BODY:
        raise _too_large()
    connection = HTTPConnection(scope)
    services = services_of(connection)
    services.addresses.check_request(connection, services.clock())


def _declared(scope: Scope) -> int:
    """The body's size as the client says, 0 where it doesn't."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    """``receive`` that refuses to go on above the limit, for bodies that come in chunks without a declared size."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BODY:
            raise _too_large()
        return message

    return counted


def _with_headers(send: Send, *, is_api: bool) -> Send:
    wanted = _API_HEADERS if is_api else _HEADERS

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(one for one in wanted if one[0] not in given)]
        await send(message)

    return answer


def _logged(send: Send, scope: Scope) -> Send:
    """``send`` that logs the answer's status and how long it took to begin. Queries are left out, and secrets by the log."""
    began = time.perf_counter()

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            took = 1000 * (time.perf_counter() - began)
            log.info("%s %s %d %.0f ms", scope["method"], scope["path"], message["status"], took)
        await send(message)

    return answer


def _too_large() -> TooLarge:
    return TooLarge(f"A request may have {MOST_BODY:,} bytes at most.")
