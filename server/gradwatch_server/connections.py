"""HTTP connections that wait for nobody for ever, and only so many of one address: a deadline and a size for a request's
head, a deadline for its body.

Uvicorn has neither, so that whoever sends a header a minute would keep a connection (slow-loris), and whoever never ends
the head would fill the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Patience", "patient"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long, and how much."""

    head_s: float = 10.0
    """From connecting, or from the first byte of a further request, to the end of its head."""

    head_bytes: int = 65_536
    """Largest head: request line and headers."""

    body_s: float = 60.0
    """From the end of the head to the end of the body."""


REFUSED_S: Final = 1.0
"""How long a connection too many may take to begin its request, which is answered with the reason."""

_SENTENCE: Final = b"Too many connections from your address at once. Close some, or try again later.\n"
_FULL: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SENTENCE), _SENTENCE)
)


def patient(
    patience: Patience, admit: Callable[[str], bool], release: Callable[[str], None]
) -> type[HttpToolsProtocol]:
    """The protocol class for uvicorn. ``admit`` says whether one more connection of an address is let in, ``release`` hears
    of the end of one that was, or that it has become a socket."""

    class Bounded(_Bounded):
        allowed = patience

        def admit(self, peer: str) -> bool:
            return admit(peer)

        def release(self, peer: str) -> None:
            release(peer)

    return Bounded


class _Bounded(HttpToolsProtocol):
    allowed: Patience
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _peer: str | None = None
    """Who is connected; None until it is let in."""
    _left = False
    _head_size = 0

    def admit(self, peer: str) -> bool:
        raise NotImplementedError

    def release(self, peer: str) -> None:
        raise NotImplementedError

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        if self.admit(peer):
            self._peer = peer
        self._expect(self.allowed.head_s if self._peer is not None else REFUSED_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._peer is None:
            # Only now: what is sent before the request was read is lost when the connection closes.
            self._relax()
            self.transport.write(_FULL)
            self.transport.close()
            return
        super().data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self.allowed.head_bytes:
                self.send_400_response("The head of this request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_size = True, 0
        if self._deadline is None:
            self._expect(self.allowed.head_s)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect(self.allowed.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._relax()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._relax()
        self._leave()
        super().handle_websocket_upgrade()

    def _leave(self) -> None:
        if not self._left and self._peer is not None:
            self._left = True
            self.release(self._peer)

    def _expect(self, seconds: float) -> None:
        self._relax()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abort()
