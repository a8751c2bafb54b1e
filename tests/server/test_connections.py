"""Whoever sends slowly, or without an end: their connection goes, and nobody else's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.live_server import PATIENCE, Running, serving
from uvicorn.config import Config
from uvicorn.server import ServerState

from gradwatch_server.connections import Patience, patient


class Clockwork:
    """A loop of which only the timers matter; they go off by hand."""

    def __init__(self) -> None:
        self.timers: list[list[Any]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        entry = [seconds, call]
        self.timers.append(entry)
        clockwork = self

        class Handle:
            def cancel(self) -> None:
                if entry in clockwork.timers:
                    clockwork.timers.remove(entry)

        return Handle()

    def create_task(self, work: Any) -> Any:
        work.close()
        return Task()

    @property
    def waits(self) -> list[float]:
        return [seconds for seconds, _ in self.timers]

    def go_off(self) -> None:
        ((_, call),) = self.timers
        self.timers.clear()
        call()


class Task:
    """A request that is never worked on."""

    def add_done_callback(self, call: Callable[..., None]) -> None:
        pass


class Wire:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.sent = b""
        self.gone = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.gone = True

    abort = close

    def is_closing(self) -> bool:
        return self.gone

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request gets this far")


@pytest.fixture
def clockwork() -> Clockwork:
    return Clockwork()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def inside() -> list[str]:
    """The addresses that are let in; two at once."""
    return []


@pytest.fixture
def connection(clockwork: Clockwork, wire: Wire, inside: list[str]) -> Any:
    return connected(clockwork, wire, inside)


def connected(clockwork: Clockwork, wire: Wire, inside: list[str]) -> Any:
    def admit(peer: str) -> bool:
        if len(inside) == 2:
            return False
        inside.append(peer)
        return True

    made = patient(Patience(head_s=10, head_bytes=1_000, body_s=60), admit, inside.remove)(
        Config(app, ws="none", lifespan="off", log_config=None),
        ServerState(),
        {},
        clockwork,  # type: ignore[arg-type]
    )
    made.connection_made(wire)
    return made


def test_a_head_has_ten_seconds_however_often_a_byte_comes(
    connection: Any, clockwork: Clockwork, wire: Wire
) -> None:
    assert clockwork.waits == [10]
    first = clockwork.timers[0]
    for piece in (b"GET / HT", b"TP/1.1\r\nHost: x\r\n", b"X-", b"Y: z\r\n"):
        connection.data_received(piece)
        assert clockwork.timers == [first]
    clockwork.go_off()
    assert wire.gone


def test_a_body_has_a_minute_and_then_nothing_is_awaited(
    connection: Any, clockwork: Clockwork, wire: Wire
) -> None:
    connection.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
    assert clockwork.waits == [60]
    connection.data_received(b"cd")
    assert (clockwork.waits, wire.gone) == ([], False)


def test_an_endless_head_is_cut_off_at_its_limit(connection: Any, wire: Wire) -> None:
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n")
    for _ in range(12):
        assert not wire.gone
        connection.data_received(b"X-Filler: " + b"x" * 70 + b"\r\n")
    connection.data_received(b"X-Filler: " + b"x" * 70 + b"\r\n")
    assert wire.gone
    assert wire.sent.startswith(b"HTTP/1.1 400 ")
    assert b"too long" in wire.sent


def test_a_connection_too_many_is_answered_when_it_asks_and_held_no_longer(
    clockwork: Clockwork, inside: list[str]
) -> None:
    first, wire = connected(clockwork, Wire(), inside), Wire()
    connected(clockwork, Wire(), inside)
    third = connected(clockwork, wire, inside)
    assert (clockwork.waits[-1], wire.sent) == (1, b"")
    third.data_received(b"GET / HTTP/1.1\r\n")
    assert wire.gone and wire.sent.startswith(b"HTTP/1.1 429 ")
    third.connection_lost(None)
    assert len(inside) == 2
    first.connection_lost(None)
    first.connection_lost(None)
    assert len(inside) == 1
    assert not connected(clockwork, Wire(), inside).transport.gone


def test_what_becomes_a_socket_is_no_connection_any_more(clockwork: Clockwork, inside: list[str]) -> None:
    class Socket:
        """What the connection becomes."""

        def __init__(self, **given: Any) -> None:
            pass

        def connection_made(self, transport: Any) -> None:
            assert inside == []

        def data_received(self, data: bytes) -> None:
            pass

    made = connected(clockwork, Wire(), inside)
    made.ws_protocol_class = Socket
    made.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert isinstance(made.transport.protocol, Socket)
    made.connection_lost(None)
    assert inside == []


@pytest.fixture
def patience() -> Patience:
    return Patience(head_s=0.3, body_s=0.3)


@pytest.fixture
def server(tmp_path: Path, patience: Patience) -> Iterator[Running]:
    with serving(tmp_path, patience=patience) as running:
        yield running


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-",
        b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["silent", "half a head", "half a body"],
)
def test_the_server_hangs_up_on_halves_and_serves_on(
    server: Running, patience: Patience, half: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as slow:
        try:
            slow.sendall(half)
            assert slow.recv(1) == b""
        except (ConnectionResetError, BrokenPipeError):
            pass  # an abort may be told so
    object.__setattr__(
        patience, "head_s", PATIENCE
    )  # a busy machine may take 0.3 s from connecting to asking
    object.__setattr__(patience, "body_s", PATIENCE)
    with server.owner() as api:
        assert api.get("/api/v1/runs").status_code == 200
