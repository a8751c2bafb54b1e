"""The thread beside the training: what it pumps, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from .sender import FLUSH_OFFLINE_S, Ending
from .shield import Shield
from .waiter import Waiter

__all__ = ["Pumped", "SenderThread"]


class Pumped(Protocol):
    """What the thread pumps: a :class:`~.sender.Sender`, or the judge of a run without a server."""

    ended: threading.Event

    @property
    def delivered(self) -> bool: ...
    @property
    def fileno(self) -> int: ...
    @property
    def blocked(self) -> bool: ...
    def end(self, ending: Ending) -> None: ...
    def turn(self, now: float) -> float: ...
    def close(self, now: float) -> None: ...


class SenderThread:
    """The daemon thread ``gradwatch-sender`` that pumps a :class:`Pumped`."""

    def __init__(
        self, sender: Pumped, waiter: Waiter, shield: Shield, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._sender = sender
        self._waiter = waiter
        self._shield = shield
        self._monotonic = monotonic
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="gradwatch-sender", daemon=True)

    def start(self) -> None:
        """Begins to pump."""
        self._thread.start()

    def finish(self, ending: Ending, timeout: float) -> bool:
        """Sends what is left and the Bye, at most ``timeout`` seconds; then stops. Whether all of it is acknowledged."""
        if self._thread.is_alive() and not self._shield.tripped:
            self._sender.end(ending)
            self._waiter.wake()
            self._sender.ended.wait(timeout)
        return self.stop()

    def stop(self) -> bool:
        """Ends the thread; what is not acknowledged goes to the spool. Whether nothing had to."""
        self._stopping = True
        self._waiter.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)
        return self._sender.delivered

    def _run(self) -> None:
        while not self._stopping and not self._shield.tripped:
            pause = FLUSH_OFFLINE_S
            with self._shield.guard("the sender"):
                pause = self._sender.turn(self._monotonic())
            if not self._stopping:
                self._waiter.wait(pause, self._sender.fileno, writable=self._sender.blocked)
        with self._shield.guard("the sender's end"):
            self._sender.close(self._monotonic())
        self._waiter.close()
