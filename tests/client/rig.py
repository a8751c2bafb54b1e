"""A sender with everything around it in memory, and time that a test moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradwatch.connection import Connection
from gradwatch.frames import Frame
from gradwatch.journal import Journal
from gradwatch.outbox import Outbox, ReadyFrame
from gradwatch.packer import Packer
from gradwatch.protocol import Hello, Statistic, Tensor
from gradwatch.protocol.messages import Incident
from gradwatch.sender import Sender
from gradwatch.spool import Spool
from gradwatch.testing import FakeClock, FakeServer, MemoryTransport

HELLO = Hello(run_id="run", run_key="k" * 32, project="p", name="n", stream="stream", segment="segment")
WIDTH = 200
TENSORS = tuple(Tensor(name=f"layer.{i}") for i in range(WIDTH))
STATISTICS = (
    Statistic(name="global_grad_norm", scope="run", dtype="f8"),
    Statistic(name="grad_norm", scope="tensor", width=WIDTH),
)


def row(step: int) -> npt.NDArray[np.float32]:
    """What a step measured: another value in each column and at each step."""
    return (step + np.arange(WIDTH) / 256).astype(np.float32)


def frame(step: int, time: float = 0.0) -> Frame:
    values = {"global_grad_norm": np.array([step * 2.0]), "grad_norm": row(step)}
    return Frame(step=step, time=time, values=values, schema=1)


@dataclass
class Rig:
    """The sender and its surroundings."""

    folder: Path
    server: FakeServer = field(default_factory=FakeServer)
    clock: FakeClock = field(default_factory=FakeClock)
    told: list[str] = field(default_factory=list)
    heard: list[Incident] = field(default_factory=list)
    spool_limit: int = 10**9
    segment_bytes: int = 8 * 1024**2
    memory_limit: int = 10**9
    offline: bool = False

    def __post_init__(self) -> None:
        self.transport = MemoryTransport(self.server)
        self.outbox = Outbox()
        self.outbox.declare(TENSORS, STATISTICS)
        self.journal = Journal(self.open_spool, memory_limit=self.memory_limit, tell=self.told.append)
        self.connection = Connection(
            self.transport,
            lambda: HELLO,
            wake=lambda: None,
            spawn=lambda work: work(),
            uniform=lambda low, high: high,
            nonce=lambda: "client",
        )
        self.sender = Sender(
            outbox=self.outbox,
            packer=Packer(),
            journal=self.journal,
            connection=None if self.offline else self.connection,
            clock=self.clock,
            tell=self.told.append,
            on_incident=self.heard.append,
        )

    @property
    def spool(self) -> Path:
        """The folder of this stream's spool."""
        return self.folder / "run-stream"

    def open_spool(self) -> Spool:
        return Spool(self.spool, HELLO, limit=self.spool_limit, segment_bytes=self.segment_bytes)

    def step(self, step: int) -> None:
        """The training thread measured a step."""
        self.outbox.put(ReadyFrame(frame(step, self.clock())))

    def pump(self, seconds: float = 0.1, every: float = 0.02) -> None:
        """Lets the sender work, and time pass."""
        for _ in range(max(1, round(seconds / every))):
            self.sender.turn(self.clock())
            self.clock.advance(every)

    def live(self, steps: Sequence[float], seconds: float) -> Iterator[float]:
        """Lets the sender work for so many seconds as its thread would: after the pauses that it asks for, or when a step wakes
        it. A step comes at each of the times ``steps``, in seconds from now. Gives the time of each turn, after it."""
        began, coming, woken = self.clock.now, deque(enumerate(steps)), [False]
        self.outbox.wake = lambda: woken.append(True)
        while (now := self.clock.now - began) < seconds:
            until = now + self.sender.turn(self.clock())
            yield now
            woken.clear()
            while coming and coming[0][1] < until and not woken:
                step, at = coming.popleft()
                self.clock.now = began + max(at, now)
                self.step(step)
            self.clock.now = self.clock.now if woken else began + until

    def die(self) -> None:
        """What SIGKILL leaves: the spool as it is, and its lock free."""
        if self.journal.spool is not None:
            self.journal.spool._lock.release()
