"""HTTP connections that wait for nobody for ever: a deadline and a size for a request's head, a deadline for its body.

Uvicorn has neither, so that whoever sends a header a minute would keep a connection (slow-loris), and whoever never ends
the head would fill the memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

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


def patient(patience: Patience) -> type[HttpToolsProtocol]:
    """The protocol class for uvicorn."""

    class Bounded(_Bounded):
        allowed = patience

    return Bounded


class _Bounded(HttpToolsProtocol):
    allowed: Patience
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head_size = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect(self.allowed.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
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
        super().handle_websocket_upgrade()

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
