"""Keeping a session with the server: connect in a thread of its own, prove, hello, resume, notice silence, try again."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Final

from .backoff import backoff
from .errors import ConnectionRefused, ProtocolError
from .protocol import ClientSession, Hello
from .protocol.session import ClientEvent, Opened, State
from .transport import Link, Transport

__all__ = ["Connection"]

PING_S: Final = 10.0
SILENCE_S: Final = 30.0
"""A connection on which nothing was heard for this long, pings unanswered, is given up."""

HANDSHAKE_S: Final = 10.0
SPAWN_NAME: Final = "gradwatch-connect"


class _Attempt:
    """One ``connect()`` in a daemon thread: name look-up and TLS can take seconds."""

    def __init__(self, transport: Transport, done: Callable[[], None]) -> None:
        self.link: Link | None = None
        self.error: Exception | None = None
        self.over = False
        self._abandoned = False
        self._transport = transport
        self._done = done

    def run(self) -> None:
        try:
            self.link = self._transport.connect()
        except (OSError, ValueError, EOFError) as error:
            self.error = error
        finally:
            self.over = True
            if self._abandoned and self.link is not None:
                self.link.close()
            self._done()

    def abandon(self) -> None:
        self._abandoned = True
        if self.link is not None:
            self.link.close()


def in_thread(work: Callable[[], None]) -> None:
    """Runs ``work`` in a daemon thread."""
    threading.Thread(target=work, name=SPAWN_NAME, daemon=True).start()


class Connection:
    """At most one link to the server, and the session on it. Used by the sender thread; all methods return at once.

    Args:
        hello: who we are; asked at each connection, since the optimizers are known only after the first step.
        wake: called from the connecting thread when an attempt is over.
        spawn: runs an attempt; tests run it in place.
    """

    def __init__(
        self,
        transport: Transport,
        hello: Callable[[], Hello],
        *,
        wake: Callable[[], None],
        spawn: Callable[[Callable[[], None]], None] = in_thread,
        uniform: Callable[[float, float], float] = random.uniform,
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self.refused: ConnectionRefused | None = None
        self.failures = 0
        self.error = ""
        self.opened = 0
        self._transport = transport
        self._hello = hello
        self._wake = wake
        self._spawn = spawn
        self._uniform = uniform
        self._nonce = nonce
        self._delays: Iterator[float] = backoff(uniform)
        self._retry_at = 0.0
        self._attempt: _Attempt | None = None
        self._link: Link | None = None
        self._session: ClientSession | None = None
        self._began = 0.0
        self._heard = 0
        self._heard_at = 0.0
        self._pinged_at = 0.0

    @property
    def open(self) -> bool:
        """Whether records can be sent."""
        return self._session is not None and self._session.state is State.OPEN

    @property
    def backlog(self) -> int:
        """Bytes that the network has not taken yet."""
        return self._link.backlog if self._link is not None else 0

    def fileno(self) -> int:
        """The socket to wait on, -1 for none."""
        return self._link.fileno() if self._link is not None else -1

    def turn(self, now: float) -> list[ClientEvent]:
        """Connects, receives, answers; what happened. Sets :attr:`refused` if the server wants none of us."""
        if self.refused is not None:
            return []
        if self._link is None:
            self._connect(now)
        try:
            events = self._receive()
            self._listen(now)
        except OSError as error:
            self.drop(now, str(error))
            return []
        except ProtocolError as error:
            self.drop(now, f"it does not speak our protocol: {error}")
            return []
        except ConnectionRefused as error:
            self.drop(now, str(error))
            if error.code != "stranger":
                self.refused = error
            return []
        if any(isinstance(event, Opened) for event in events):
            self._delays = backoff(self._uniform)
            self.failures = 0
            self.opened += 1
        return events

    def send(self, data: bytes | str, now: float) -> None:
        """Sends on the open session; a broken connection is dropped and tried again later."""
        assert self._link is not None
        try:
            self._link.send(data)
        except OSError as error:
            self.drop(now, str(error))

    def drop(self, now: float, why: str) -> None:
        """Ends the connection and plans the next attempt."""
        if self._link is not None:
            self._link.close()
        self._link = self._session = None
        self.failures += 1
        self.error = why
        self._retry_at = now + next(self._delays)

    def hurry(self) -> None:
        """The next attempt is due at once."""
        self._retry_at = 0.0

    def close(self) -> None:
        """Ends everything."""
        if self._attempt is not None:
            self._attempt.abandon()
        if self._link is not None:
            self._link.close()
        self._link = self._session = self._attempt = None

    def _connect(self, now: float) -> None:
        if self._attempt is None and now >= self._retry_at:
            self._attempt = _Attempt(self._transport, self._wake)
            try:
                self._spawn(self._attempt.run)
            except RuntimeError:
                # The interpreter starts no thread any more: it is about to exit.
                self._attempt = None
                self.drop(now, "the process is ending")
        attempt = self._attempt
        if attempt is None or not attempt.over:
            return
        self._attempt = None
        if attempt.link is None:
            self.drop(now, str(attempt.error))
            return
        self._link = attempt.link
        self._session = ClientSession(self._hello(), nonce=self._nonce(), key=self._link.key)
        self._began = self._heard_at = self._pinged_at = now
        self._heard = self._link.heard
        self.send(self._session.start(), now)

    def _receive(self) -> list[ClientEvent]:
        events: list[ClientEvent] = []
        if self._link is None or self._session is None:
            return events
        for message in self._link.receive():
            replies, happened = self._session.receive(message)
            events += happened
            for reply in replies:
                self._link.send(reply)
        return events

    def _listen(self, now: float) -> None:
        """Raises TimeoutError when the other side has been silent for too long."""
        if self._link is None:
            return
        if self._link.heard != self._heard:
            self._heard, self._heard_at = self._link.heard, now
        if not self.open and now - self._began > HANDSHAKE_S:
            raise TimeoutError("the server does not answer")
        if now - self._heard_at > SILENCE_S:
            raise TimeoutError("the server fell silent")
        if self.open and now - max(self._heard_at, self._pinged_at) > PING_S:
            self._pinged_at = now
            self._link.ping()
