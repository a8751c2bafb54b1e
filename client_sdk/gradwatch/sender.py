"""The sender: takes what the training thread measured, packs it, keeps it until it is acknowledged, and sends it.

:class:`Sender` is one turn of work after another, with the time as an argument; :mod:`~.sender_thread` is the daemon
thread that pumps it. While steps are quick it wakes a dozen times a second: whatever this thread does, the training thread waits for the
interpreter's lock meanwhile. A step that comes after a pause goes out at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from .connection import Connection
from .frames import Frame, PendingFrame
from .journal import Journal
from .outbox import Outbox
from .packer import Packer
from .protocol import Heartbeat, Record, Welcome, encode
from .protocol.messages import EndState, Incident
from .protocol.session import Acked, IncidentReceived, Opened, Warned
from .resources import EVERY_S
from .transport import NO_SERVER

__all__ = ["FLUSH_OFFLINE_S", "Ending", "Sender"]

FLUSH_S: Final = 0.08
"""Steps that follow each other more quickly are sent together. With as much for noticing that no acknowledgement has come, and
:data:`.journal.SPOOL_AFTER_S`, it makes the half second in which a step stands in the spool."""

FLUSH_OFFLINE_S: Final = 0.25
"""Offline larger batches are made: what is dropped from a full spool is dropped by batch."""

DEVICE_S: Final = 0.02
"""How soon it looks again for numbers that a device has not given yet."""

ENDING_S: Final = 0.02

HEARTBEAT_S: Final = 5.0
IDLE_S: Final = 0.25
TELL_AFTER: Final = 3
"""So many attempts to connect may fail before it is told."""

WINDOW_BYTES: Final = 2 * 1024**2
"""Bytes handed to the network at once; the rest waits, and can still be spooled."""

FRAMES_AT_ONCE: Final = 512
SCALARS_AT_ONCE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Ending:
    """How the run ended, for its ``Bye``."""

    state: EndState
    time: float
    reason: str = ""
    error: dict[str, Any] | None = None


class Sender:
    """Turns of the sending loop. Everything here runs in one thread, but :meth:`end`, which any thread may call once.

    Args:
        connection: None in offline mode.
        resources: what training takes from the machine, asked every few seconds; None to leave it.
        cost: what watching costs (``us_per_step``, ``share_of_step``), for heartbeats.
        resolve: makes a frame of a pending one; None where that failed, which costs that one frame.
        clock: Unix time.
        tell: gets sentences for the user.
        on_open: gets the server's Welcome, each time a session opens.
        on_incident: gets what the server's health engine has to say.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        packer: Packer,
        journal: Journal,
        connection: Connection | None,
        cost: Callable[[], dict[str, float]] = dict,
        resources: Callable[[], dict[str, float]] | None = None,
        swallowed: Callable[[], int] = lambda: 0,
        resolve: Callable[[PendingFrame], Frame | None] = lambda pending: pending.resolve(),
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], None] = lambda text: None,
        on_open: Callable[[Welcome], None] = lambda welcome: None,
        on_incident: Callable[[Incident], None] = lambda incident: None,
    ) -> None:
        self.ended = threading.Event()
        self.lost_frames = 0
        self._outbox = outbox
        self._packer = packer
        self._journal = journal
        self._connection = connection
        self._cost = cost
        self._resources = resources
        self._swallowed = swallowed
        self._resolve = resolve
        self._clock = clock
        self._tell = tell
        self._on_open = on_open
        self._on_incident = on_incident
        self._ending: Ending | None = None
        self._said_bye = False
        self._failures_before = 0
        self._flushed_at = -FLUSH_OFFLINE_S
        self._interval = FLUSH_OFFLINE_S if connection is None else FLUSH_S
        self._between = False
        self._beat_at = 0.0
        self._sample_at: float | None = None
        self._sampled_step = -1
        self._told: set[str] = set()
        self._heard: dict[str, Incident] = {}
        self._sent_bytes = 0
        self._sent_since = 0.0

    @property
    def delivered(self) -> bool:
        """Whether everything, the Bye too, is acknowledged."""
        return self._said_bye and self._journal.outstanding == 0

    @property
    def fileno(self) -> int:
        """The socket to wait on, -1 for none: between two batches answers wait until the next."""
        return self._connection.fileno() if self._connection is not None and not self._between else -1

    @property
    def blocked(self) -> bool:
        """Whether the network has to take bytes before more can be sent."""
        return self._connection is not None and self._connection.backlog > 0

    def end(self, ending: Ending) -> None:
        """The run is over: the next turns send all there is and the Bye; :attr:`ended` is set when nothing is left to do."""
        connection = self._connection
        if connection is not None:
            self._failures_before = connection.failures
            connection.hurry()
        self._ending = ending

    def turn(self, now: float) -> float:
        """One round of work at monotonic time ``now``; gives how many seconds the next may wait."""
        self._talk(now)
        self._sample(now)
        self._flush(now)
        self._send(now)
        self._journal.tend(now, all_of_it=self._connection is None)
        self._beat(now)
        self._count_losses()
        if self._said_bye and (self.delivered or self._hopeless()):
            self.ended.set()
        return self._pause(now)

    def close(self, now: float) -> None:
        """Spools what is not acknowledged and lets go of everything."""
        self._journal.tend(now, all_of_it=True)
        self._count_losses()
        if self._journal.outstanding > self._journal.spooled:
            self._once("gone", "the last steps are lost: neither a server nor the disk has taken them")
        if self._connection is not None:
            self._connection.close()
        self._journal.close()

    # --- the parts of a turn ------------------------------------------------------------------------------------------

    def _talk(self, now: float) -> None:
        if self._connection is None:
            return
        for event in self._connection.turn(now):
            if isinstance(event, Opened):
                self._opened(event.welcome, now)
            elif isinstance(event, Acked):
                self._journal.acknowledge(event.next_seq)
            elif isinstance(event, IncidentReceived):
                self._hear(event.incident)
            elif isinstance(event, Warned) and event.code != "reopened":
                self._once(event.code, f"the server says: {event.message} Steps are kept and sent later")
        refused = self._connection.refused
        if refused is not None:
            self._once("refused", f"the server refused this run: {refused}. Steps are kept on disk")
        elif (why := self._unreachable()) not in ("", NO_SERVER):
            self._once(
                "unreachable", f"no server can be reached ({why}). Steps are kept on disk and sent later"
            )

    def _unreachable(self) -> str:
        """Why there has never been a connection, "" if there was, or it may yet come."""
        connection = self._connection
        if connection is None or connection.opened or connection.failures < TELL_AFTER:
            return ""
        return connection.error

    def _hear(self, incident: Incident) -> None:
        """What is open is told again after each new connection."""
        if self._heard.get(incident.id) != incident:
            self._heard[incident.id] = incident
            self._on_incident(incident)

    def _opened(self, welcome: Welcome, now: float) -> None:
        assert self._connection is not None
        if not self._journal.rewind(welcome.next_seq):
            self._once("forgot", "the server no longer has the beginning of this run. Steps are kept on disk")
            self._connection.drop(now, "the server lost what it had acknowledged")
            return
        self._beat_at = now
        self._on_open(welcome)

    def _sample(self, now: float) -> None:
        """What the machine gives, as scalars of the newest step. Within a step of minutes it is told once."""
        if self._sample_at is None:
            self._sample_at = now + EVERY_S
        step = self._outbox.last_step
        if self._resources is None or now < self._sample_at or step <= self._sampled_step or self._ending:
            return
        self._sample_at, self._sampled_step = now + EVERY_S, step
        for name, value in self._resources().items():
            self._packer.add_scalar(name, step, self._clock(), value)

    def _flush(self, now: float) -> None:
        ending = self._ending
        if ending is None and now - self._flushed_at < self._interval:
            return
        if self._said_bye:
            return
        while True:
            records = self._collect(force=ending is not None)
            for record in records:
                self._journal.append(record, now)
                self._flushed_at = now
            if len(self._outbox) == 0 or not records:
                break
        if ending is not None:
            for record in self._packer.pack([], self._outbox.declarations, self._clock(), final=True):
                self._journal.append(record, now)
            bye = self._packer.bye(ending.state, ending.time, ending.reason, ending.error)
            self._journal.append(bye, now)
            self._said_bye = True

    def _collect(self, *, force: bool) -> list[Record]:
        outbox = self._outbox
        taken = outbox.take_frames(FRAMES_AT_ONCE, force=force)
        resolved = [(pending.step, self._resolve(pending)) for pending in taken]
        frames = [frame for _, frame in resolved if frame is not None]
        # A scalar still on the device is ready when the frame of its step is.
        for point in outbox.take_scalars(SCALARS_AT_ONCE, before=outbox.head_step()):
            value = point.value() if callable(point.value) else point.value
            self._packer.add_scalar(point.name, point.step, point.time, value)
        records = self._packer.pack(frames, outbox.declarations, self._clock())
        records += [self._packer.mark(mark) for mark in outbox.take_marks()]
        dropped = outbox.take_dropped()
        if dropped:
            self.lost_frames += len(dropped)
            records.append(self._packer.lost(dropped, "the sender could not keep up"))
        for good, found in groupby(resolved, key=lambda pair: pair[1] is not None):
            if not good:
                failed = [step for step, _ in found]
                self.lost_frames += len(failed)
                records.append(self._packer.lost(failed, "something went wrong in putting them together"))
        return records

    def _send(self, now: float) -> None:
        connection = self._connection
        while connection is not None and connection.open and connection.backlog < WINDOW_BYTES:
            data = self._journal.peek()
            if data is None:
                return
            connection.send(data, now)
            self._journal.advance()
            self._sent_bytes += len(data)

    def _beat(self, now: float) -> None:
        connection = self._connection
        if connection is None or not connection.open or now < self._beat_at:
            return
        measured = self._cost()
        self._watch_budget(measured)
        cost = {
            **measured,
            "queue": float(len(self._outbox) + self._journal.outstanding),
            "lost": float(self.lost_frames),
            "spooled": float(self._journal.spooled),
            "swallowed": float(self._swallowed()),
            "bytes_per_s": self._sent_bytes / max(now - self._sent_since, 1e-3) if self._sent_since else 0.0,
        }
        self._sent_bytes, self._sent_since = 0, now
        self._beat_at = now + HEARTBEAT_S
        beat = Heartbeat(time=self._clock(), step=max(self._outbox.last_step, 0), cost=cost)
        connection.send(encode(beat), now)

    def _watch_budget(self, cost: dict[str, float]) -> None:
        share, budget = cost.get("share_of_step", 0.0), cost.get("budget", 1.0)
        if share > budget > 0 and cost["thinned"] > 1:
            self._once(
                "budget",
                f"measuring takes {share:.1%} of a step, more than budget={budget:g}: the norms of every step come first. "
                f"Sampled statistics are taken {cost['thinned']:g} times rarer; every=2 would halve the rest",
            )

    def _count_losses(self) -> None:
        self.lost_frames += self._journal.lost_frames
        self._journal.lost_frames = 0
        if self.lost_frames:
            self._once("lost", "some steps could not be kept and are lost; the page shows which")
        if self._packer.refused or self._packer.late:
            self._once(
                "order",
                "some values were left out: their step did not come after the last one, or there are too many names",
            )

    def _hopeless(self) -> bool:
        """Nobody there to wait for: offline, refused, or never reached and not reached now either."""
        connection = self._connection
        if connection is None or connection.refused is not None:
            return True
        return connection.opened == 0 and connection.failures > self._failures_before

    def _pause(self, now: float) -> float:
        connection = self._connection
        self._outbox.sleeping = self._between = False
        if self._ending is not None:
            return ENDING_S
        due = self._flushed_at + self._interval - now
        if len(self._outbox) or due > 0:
            self._between = connection is not None and connection.open and not self.blocked
            return max(due, DEVICE_S)
        self._outbox.sleeping = True
        if len(self._outbox):
            return 0.0
        return IDLE_S if self._journal.spooled == self._journal.outstanding else FLUSH_S

    def _once(self, what: str, sentence: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell(sentence)
