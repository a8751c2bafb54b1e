"""Waiting for a socket, a wake-up from another thread, or the time, whichever comes first."""

from __future__ import annotations

import selectors
import socket

__all__ = ["Waiter"]


class Waiter:
    """One thread waits; any thread may :meth:`wake` it."""

    def __init__(self) -> None:
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._mouth.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ears, selectors.EVENT_READ)

    def wait(self, timeout: float, fileno: int = -1, *, writable: bool = False) -> None:
        """Returns when ``fileno`` can be read (or written, if ``writable``), on :meth:`wake`, or after ``timeout`` seconds."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        if fileno >= 0:
            self._selector.register(fileno, events)
        try:
            ready = self._selector.select(max(timeout, 0.0))
        finally:
            if fileno >= 0:
                self._selector.unregister(fileno)
        if any(key.fileobj is self._ears for key, _ in ready):
            self._drain()

    def wake(self) -> None:
        """Ends the wait that is going on, or the next one. Never blocks."""
        try:
            self._mouth.send(b"\0")
        except OSError:
            return

    def close(self) -> None:
        """Frees the sockets."""
        self._selector.close()
        self._ears.close()
        self._mouth.close()

    def _drain(self) -> None:
        try:
            while self._ears.recv(4096):
                pass
        except OSError:
            return
