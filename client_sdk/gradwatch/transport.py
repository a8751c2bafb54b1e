"""The only module that knows the network: a :class:`Transport` connects, a :class:`Link` carries messages without blocking.

The WebSocket side is the sans-I/O half of the ``websockets`` package over a socket of ours, so that one thread can wait
for the network and the next flush at once, and so that a peer that stops reading never blocks the thread that spools.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from .protocol.limits import MAX_MESSAGE_BYTES

__all__ = ["CONNECT_TIMEOUT_S", "NO_SERVER", "Link", "Target", "Transport", "WebSocketTransport"]

CONNECT_TIMEOUT_S: Final = 5.0
NO_SERVER: Final = "no server is running"
"""The error while nobody has named a server and no local one runs."""

_CHUNK: Final = 256 * 1024
_MESSAGES: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Link(Protocol):
    """An open connection. Used by one thread."""

    @property
    def key(self) -> str:
        """The secret shared with whoever is at the other end, "" for none (:func:`.protocol.auth.key_of`)."""

    @property
    def backlog(self) -> int:
        """Bytes given to :meth:`send` that the network has not taken yet."""

    @property
    def heard(self) -> int:
        """Bytes received so far: unchanged for long, and the other side is gone."""

    def send(self, data: bytes | str) -> None:
        """Takes a message; never blocks."""

    def ping(self) -> None:
        """Asks for a sign of life, which counts in :attr:`heard`."""

    def receive(self) -> list[bytes | str]:
        """Moves bytes both ways as far as that goes without waiting; the messages that arrived.

        Raises:
            OSError: the connection is gone.
        """

    def fileno(self) -> int:
        """The socket to wait on, -1 for none."""

    def close(self) -> None:
        """Ends it, without waiting for the other side."""


class Transport(Protocol):
    """How to reach the server."""

    def connect(self) -> Link:
        """A new connection. May wait, up to about :data:`CONNECT_TIMEOUT_S`.

        Raises:
            OSError: there is none to be had now.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens (a ``ws://`` or ``wss://`` address) and the secret it shares with us."""

    url: str
    key: str = ""


class WebSocketTransport:
    """Connects to what ``locate`` gives at that moment: a local server may come back on another port.

    Args:
        locate: gives the target, or None while there is none. Called in the connecting thread, before each attempt.
    """

    def __init__(self, locate: Callable[[], Target | None]) -> None:
        self._locate = locate

    def connect(self) -> Link:
        target = self._locate()
        if target is None:
            raise ConnectionRefusedError(NO_SERVER)
        parts = urlsplit(target.url)
        secure = parts.scheme == "wss"
        address = (parts.hostname or "", parts.port or (443 if secure else 80))
        sock = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
            protocol = _handshake(sock, target.url)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return WebSocketLink(sock, protocol, target.key)


def _handshake(sock: socket.socket, url: str) -> ClientProtocol:
    try:
        protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES)
    except WebSocketException as error:
        raise ConnectionError(str(error)) from error
    protocol.send_request(protocol.connect())
    while True:
        for data in protocol.data_to_send():
            sock.sendall(data)
        if protocol.handshake_exc is not None:
            raise ConnectionError(f"no gradwatch server answers at {url}: {protocol.handshake_exc}")
        if any(isinstance(event, Response) for event in protocol.events_received()):
            return protocol
        received = sock.recv(_CHUNK)
        if received:
            protocol.receive_data(received)
        else:
            protocol.receive_eof()


class WebSocketLink:
    """A :class:`Link` over a connected, non-blocking socket."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol, key: str) -> None:
        self.key = key
        self.backlog = 0
        self.heard = 0
        self._sock = sock
        self._protocol = protocol
        self._out: deque[memoryview] = deque()
        self._parts: list[bytes] = []
        self._text = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, data: bytes | str) -> None:
        try:
            if isinstance(data, str):
                self._protocol.send_text(data.encode())
            else:
                self._protocol.send_binary(data)
        except WebSocketException as error:
            raise ConnectionError(str(error)) from error
        self._queue()
        self._push()

    def ping(self) -> None:
        try:
            self._protocol.send_ping(b"")
        except WebSocketException as error:
            raise ConnectionError(str(error)) from error
        self._queue()
        self._push()

    def receive(self) -> list[bytes | str]:
        self._push()
        messages: list[bytes | str] = []
        while (data := self._pull()) is not None:
            self.heard += len(data)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            messages += self._take_messages()
            self._queue()
            if not data or self._protocol.close_expected():
                if messages:
                    return messages
                raise ConnectionResetError(
                    f"the server closed the connection ({self._protocol.close_reason or ''})"
                )
        self._push()
        return messages

    def close(self) -> None:
        try:
            self._protocol.send_close(1000)
            self._queue()
            self._push()
        except (OSError, WebSocketException):
            pass
        self._sock.close()

    def _take_messages(self) -> list[bytes | str]:
        whole: list[bytes | str] = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in _MESSAGES:
                continue
            if event.opcode is not Opcode.CONT:
                self._text = event.opcode is Opcode.TEXT
            self._parts.append(bytes(event.data))
            if event.fin:
                data, self._parts = b"".join(self._parts), []
                whole.append(data.decode("utf-8", "replace") if self._text else data)
        return whole

    def _queue(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._out.append(memoryview(data))
                self.backlog += len(data)

    def _push(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out[0][:_CHUNK])
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            self.backlog -= sent
            self._out[0] = self._out[0][sent:]
            if not self._out[0]:
                self._out.popleft()

    def _pull(self) -> bytes | None:
        """What has arrived, b"" at the end of the stream, None if nothing is there."""
        try:
            return self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
