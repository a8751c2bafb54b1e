"""Delivering spools that another process left, or is still writing: ``gradwatch sync`` and the start of the next run."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Final

from .config import Config
from .connection import Connection, in_thread
from .leftover import SpoolReader, may_be_alive_elsewhere, remove, renumbered, spools_in, target_of
from .lockfile import LockFile
from .protocol import Hello, encode
from .protocol.session import Acked, Opened, Warned
from .shield import Shield
from .transport import Transport
from .waiter import Waiter

__all__ = ["Delivery", "Outcome", "deliver", "deliver_leftovers"]

WINDOW_BYTES: Final = 2 * 1024**2
WINDOW_RECORDS: Final = 2_000
GIVE_UP_AFTER: Final = 3
"""Failed attempts to connect in a row."""

FENCED_TRIES: Final = 3
"""A newer process of the run that connects at the same moment cuts us off; what we bring belongs to an older segment, and
is welcome when we come again."""

YIELD_S: Final = 60.0
"""The process that writes the spool sends it itself: we stay away for this long."""


class Outcome(Enum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    ALIVE = "still being written"
    UNREACHABLE = "no server answers"
    REFUSED = "refused"
    DAMAGED = "nothing readable in it"


class Delivery:
    """Sends one spool, pumped by :meth:`turn`. Where the server has no beginning of this stream, its rest is sent as a
    stream of its own, with the schema in front.

    Args:
        folder: the spool.
        transport: how to reach the server.
        clock: Unix time, to tell a spool that is still being copied from a damaged one.

    Raises:
        OSError: the spool cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        transport: Transport,
        *,
        wake: Callable[[], None] = lambda: None,
        spawn: Callable[[Callable[[], None]], None] = in_thread,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.reader = SpoolReader(folder, clock)
        self.sent = 0
        self.acked = 0
        self.rests_until = 0.0
        hello = self.reader.hello()
        first = self.reader.first()
        self.damaged = hello is None or first is None
        nobody = Hello(run_id="-", run_key="-", project="-", name="-", stream="-", segment="-")
        self._hello = dataclasses.replace(hello or nobody, late=True)
        self._first, self._context = first or (0, None)
        self._shift = 0
        self._records: Iterator[tuple[int, bytes | str]] = iter(())
        self.connection = Connection(transport, lambda: self._hello, wake=wake, spawn=spawn)

    @property
    def caught_up(self) -> bool:
        """Whether all that could be read is acknowledged."""
        return self.connection.open and self.acked >= self.sent > 0

    def turn(self, now: float) -> None:
        """Connects, receives, and sends as much as fits.

        Raises:
            OSError: the spool cannot be read.
        """
        if now < self.rests_until:
            return
        for event in self.connection.turn(now):
            if isinstance(event, Opened):
                self._open(event.welcome.next_seq, now)
            elif isinstance(event, Acked):
                self.acked = max(self.acked, event.next_seq)
            elif isinstance(event, Warned) and event.code == "reopened":
                self.rests_until = now + YIELD_S
        while self.connection.open and self.connection.backlog < WINDOW_BYTES:
            if self.sent - self.acked >= WINDOW_RECORDS or not self._send_next(now):
                return

    def _open(self, next_seq: int, now: float) -> None:
        if next_seq + self._shift < self._first and not self._shift:
            self._begin_anew(now)
            return
        self.acked = self.sent = next_seq
        lead = 1 if self._shift and self._context is not None else 0
        self.reader.start(max(next_seq - lead, 0) + self._shift)
        self._records = self.reader.read()
        if lead and next_seq == 0:
            assert self._context is not None
            self.connection.send(encode(dataclasses.replace(self._context, seq=0)), now)
            self.sent = 1

    def _begin_anew(self, now: float) -> None:
        """The same name each time, so that a delivery that broke off goes on where it was."""
        text = f"{self._hello.stream}/{self._first}"
        stream = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._hello = dataclasses.replace(self._hello, stream=stream)
        self._shift = self._first
        self.connection.drop(now, "the server lacks the beginning")
        self.connection.hurry()

    def _send_next(self, now: float) -> bool:
        found = next(self._records, None)
        if found is None:
            self._records = self.reader.read()
            found = next(self._records, None)
        if found is None:
            return False
        seq, data = found
        if self._shift:
            seq = seq - self._shift + (1 if self._context is not None else 0)
            data = renumbered(data, seq)
        self.connection.send(data, now)
        self.sent = seq + 1
        return True


def deliver(
    folder: Path,
    transport: Transport,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    clock: Callable[[], float] = time.time,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, str]:
    """Sends a left-over spool and deletes it once all of it is acknowledged. With a sentence where something is wrong.

    Raises:
        OSError: it cannot be read.
    """
    if may_be_alive_elsewhere(folder):
        return Outcome.ALIVE, ""
    lock = LockFile(folder / "lock")
    if not lock.acquire():
        return Outcome.ALIVE, ""
    try:
        for _ in range(FENCED_TRIES):
            outcome, why, fenced = _attempt(folder, transport, monotonic, clock, stopped)
            if not fenced:
                break
        return outcome, why
    finally:
        lock.release()


def _attempt(
    folder: Path,
    transport: Transport,
    monotonic: Callable[[], float],
    clock: Callable[[], float],
    stopped: Callable[[], bool],
) -> tuple[Outcome, str, bool]:
    """Outcome, sentence, and whether a newer process cut us off."""
    waiter = Waiter()
    work = Delivery(folder, transport, wake=waiter.wake, clock=clock)
    try:
        if work.damaged:
            return Outcome.DAMAGED, f"{folder} holds nothing that can be read", False
        while not stopped():
            work.turn(monotonic())
            refused = work.connection.refused
            if refused is not None:
                return Outcome.REFUSED, str(refused), refused.code == "fenced"
            if work.rests_until:
                return Outcome.ALIVE, "another process is sending it", False
            if work.connection.failures >= GIVE_UP_AFTER:
                return Outcome.UNREACHABLE, work.connection.error, False
            if work.caught_up and work.reader.waits:
                return (
                    Outcome.ALIVE,
                    "some of it is missing, perhaps still being copied; what is there is delivered",
                    False,
                )
            if work.caught_up:
                remove(folder)
                return Outcome.DELIVERED, "", False
            waiter.wait(0.05, work.connection.fileno(), writable=work.connection.backlog > 0)
        return Outcome.UNREACHABLE, "stopped", False
    finally:
        work.connection.close()
        waiter.close()


def deliver_leftovers(
    config: Config, transport: Transport, stopped: Callable[[], bool], shield: Shield
) -> threading.Thread | None:
    """Delivers in a daemon thread what dead processes left for the same server; None if they left nothing."""
    directory = config.directory / "spool"
    if not directory.is_dir():
        return None
    folders = [folder for folder in spools_in(directory) if target_of(folder) == config.server]
    if not folders:
        return None

    def work() -> None:
        for folder in folders:
            with shield.guard("delivering an earlier run"):
                if not stopped() and folder.is_dir():
                    deliver(folder, transport, stopped=stopped)

    thread = threading.Thread(target=work, name="gradwatch-leftovers", daemon=True)
    thread.start()
    return thread
