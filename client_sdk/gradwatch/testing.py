"""Fakes for tests of gradwatch and of what is built on it: a server in memory, a transport to it, a clock that stands still.

No sockets and no threads, so a test pumps everything by hand. :class:`FakeServer` is the real
:class:`~gradwatch.protocol.ServerSession` with a list for a store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .errors import ConnectionRefused, ProtocolError
from .protocol import (
    Ack,
    Batch,
    Error,
    Heartbeat,
    Hello,
    Record,
    Schema,
    ServerSession,
    Statistic,
    Tensor,
    Welcome,
    encode,
)
from .protocol.messages import Incident
from .protocol.session import Beat, HelloReceived, RecordReceived

__all__ = ["FakeClock", "FakeServer", "MemoryTransport", "StoredStream"]


@dataclass(slots=True)
class FakeClock:
    """Gives ``now`` when called; only :meth:`advance` moves it."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += seconds


@dataclass(slots=True)
class StoredStream:
    """What a :class:`FakeServer` holds of one stream."""

    hello: Hello
    records: list[Record] = field(default_factory=list)

    @property
    def schemas(self) -> dict[int, Schema]:
        """By id."""
        return {r.id: r for r in self.records if isinstance(r, Schema)}

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those declared last."""
        declared = [s.tensors for s in self.schemas.values() if s.tensors is not None]
        return declared[-1] if declared else ()

    def statistics(self, batch: Batch) -> tuple[Statistic, ...]:
        """The columns of ``batch``."""
        return self.schemas[batch.schema].statistics

    def series(self, name: str) -> dict[int, npt.NDArray[np.float64]]:
        """Every stored row of statistic ``name`` by step, absent values as NaN.

        Raises:
            AssertionError: a step was stored twice.
        """
        rows: dict[int, npt.NDArray[np.float64]] = {}
        for batch in self.records:
            if not isinstance(batch, Batch):
                continue
            names = [s.name for s in self.statistics(batch)]
            for block in batch.blocks:
                if names[block.statistic] != name:
                    continue
                values = block.values.astype(np.float64)
                if block.present is not None:
                    values[~block.present] = np.nan
                for step, row in zip(block.steps, values, strict=True):
                    assert int(step) not in rows, f"step {int(step)} of {name} is stored twice"
                    rows[int(step)] = row
        return rows

    def scalar(self, name: str) -> dict[int, float]:
        """A statistic of width 1, by step."""
        return {step: float(row[0]) for step, row in self.series(name).items()}

    def of(self, kind: type[Record]) -> list[Record]:
        """The records of one kind."""
        return [record for record in self.records if isinstance(record, kind)]


class FakeServer:
    """Stores records in memory and acknowledges them, through as many connections and restarts as a test likes.

    Args:
        key: the secret it shares with its clients, "" to take anybody.
        acks: whether it acknowledges; may be changed at any time.

    Attributes:
        refuse: what a trainer is refused with, for good.
        warn: what a trainer is told instead of a welcome, for now.
        incidents: what it is told after each welcome.
    """

    def __init__(self, *, key: str = "", acks: bool = True) -> None:
        self.key = key
        self.acks = acks
        self.streams: dict[str, StoredStream] = {}
        self.heartbeats: list[Heartbeat] = []
        self.connections = 0
        self.refuse: ConnectionRefused | None = None
        self.warn: Error | None = None
        self.incidents: list[Incident] = []
        self.changed = threading.Condition()

    def open(self) -> Callable[[bytes | str], list[str]]:
        """A new connection: a function from a message to the answers.

        It raises ProtocolError or ConnectionRefused where a server would answer with an Error and close.
        """
        self.connections += 1
        session = ServerSession(nonce=f"server-{self.connections}", key_for=lambda _: self.key)
        at: list[StoredStream] = []

        def receive(data: bytes | str) -> list[str]:
            with self.changed:
                replies, events = session.receive(data)
                for event in events:
                    if isinstance(event, HelloReceived):
                        if self.refuse is not None:
                            raise self.refuse
                        if self.warn is not None:
                            return [str(encode(self.warn))]
                        stream = self.streams.setdefault(event.hello.stream, StoredStream(event.hello))
                        at.append(stream)
                        replies.append(session.welcome(Welcome(next_seq=len(stream.records))))
                        replies += [str(encode(incident)) for incident in self.incidents]
                    elif isinstance(event, RecordReceived):
                        at[0].records.append(event.record)
                        if self.acks:
                            replies.append(str(encode(Ack(next_seq=len(at[0].records)))))
                    elif isinstance(event, Beat):
                        self.heartbeats.append(event.heartbeat)
                self.changed.notify_all()
                return replies

        return receive

    @property
    def stream(self) -> StoredStream:
        """The only stream there is."""
        (stream,) = self.streams.values()
        return stream

    def wait(self, condition: Callable[[FakeServer], bool], timeout: float = 30.0) -> None:
        """Waits until ``condition`` holds, for tests with a real connection.

        Raises:
            TimeoutError: it does not.
        """
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError("the condition never held")


class MemoryTransport:
    """Connects to a :class:`FakeServer` without a network. Set :attr:`down` and links break, and no new ones open; :attr:`why` is
    the error then."""

    def __init__(self, server: FakeServer, *, key: str = "") -> None:
        self.server = server
        self.key = key
        self.down = False
        self.why = "nobody listens"
        self.stuck = False
        self.attempts = 0

    def connect(self) -> _MemoryLink:
        """A new link.

        Raises:
            ConnectionRefusedError: while :attr:`down`.
        """
        self.attempts += 1
        if self.down:
            raise ConnectionRefusedError(self.why)
        return _MemoryLink(self)


class _MemoryLink:
    def __init__(self, transport: MemoryTransport) -> None:
        self.key = transport.key
        self.heard = 0
        self._transport = transport
        self._receive = transport.server.open()
        self._waiting: list[bytes | str] = []
        self._stuck: list[bytes | str] = []
        self._error: Exception | None = None

    @property
    def backlog(self) -> int:
        return sum(len(data) for data in self._stuck)

    def send(self, data: bytes | str) -> None:
        self._check()
        if self._transport.stuck:
            self._stuck.append(data)
            return
        try:
            self._waiting += self._receive(data)
        except (ProtocolError, ConnectionRefused) as error:
            self._error = error

    def ping(self) -> None:
        self._check()
        self.heard += 0 if self._transport.stuck else 2

    def receive(self) -> list[bytes | str]:
        self._check()
        if self._error is not None:
            raise self._error
        if not self._transport.stuck:
            while self._stuck:
                self._waiting += self._receive(self._stuck.pop(0))
        messages, self._waiting = self._waiting, []
        self.heard += sum(len(m) for m in messages)
        return messages

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._waiting = []

    def _check(self) -> None:
        if self._transport.down:
            raise ConnectionResetError("the connection is cut")
