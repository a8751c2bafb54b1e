"""The two ends of an ingest connection as state machines: fed with what arrives, they give what to send and events.

::

    client                                server
      Challenge(nonce, key_id)  ->
                                <-          Challenge(nonce, proof)
      Hello(proof, run, stream) ->
                                <-          Welcome(next_seq)
      records from next_seq on  ->
      Heartbeat                 ->
                                <-          Ack(next_seq), Incident, Error
      Bye (a record)            ->
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from ..errors import ConnectionRefused, ProtocolError, VersionMismatch
from . import auth
from .codec import decode, encode
from .messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    Ack,
    Batch,
    Bye,
    Challenge,
    Error,
    Heartbeat,
    Hello,
    Incident,
    Lost,
    Mark,
    Record,
    Schema,
    Welcome,
)

__all__ = [
    "Acked",
    "Beat",
    "ClientSession",
    "HelloReceived",
    "IncidentReceived",
    "Opened",
    "RecordReceived",
    "ServerSession",
    "State",
    "Warned",
]


class State(Enum):
    """Where a session stands."""

    CHALLENGE = "challenge"
    HELLO = "hello"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Opened:
    """The server took the Hello; send records from ``welcome.next_seq`` on."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class Acked:
    """Everything below ``next_seq`` is stored and may be forgotten."""

    next_seq: int


@dataclass(frozen=True, slots=True)
class IncidentReceived:
    """The server's health engine has something to say about this run."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Warned:
    """The server is about to close the connection for now; ``message`` is a sentence for the user. Coming back is welcome."""

    code: str
    message: str


ClientEvent: TypeAlias = Opened | Acked | IncidentReceived | Warned


class ClientSession:
    """The trainer's end.

    Args:
        hello: what to say once the server has proved itself; ``proof`` is filled in here.
        nonce: fresh random text.
        key: the shared key (:func:`auth.key_of` a token), or "" to trust whoever listens (an address that the user
            gave without a token).
    """

    def __init__(self, hello: Hello, *, nonce: str, key: str = "") -> None:
        self.state = State.CHALLENGE
        self._hello = hello
        self._nonce = nonce
        self._key = key

    def start(self) -> str:
        """The first message to send."""
        name = auth.key_id(self._key) if self._key else ""
        return str(encode(Challenge(nonce=self._nonce, key_id=name)))

    def receive(self, data: bytes | str) -> tuple[list[bytes | str], list[ClientEvent]]:
        """What to send and what happened.

        Raises:
            ConnectionRefused: the server sent a fatal error, or could not prove that it knows the key.
            ProtocolError: the server sent something that makes no sense.
        """
        message = decode(data)
        if isinstance(message, Error):
            if message.fatal:
                self.state = State.CLOSED
                raise ConnectionRefused(message.code, message.message)
            return [], [Warned(message.code, message.message)]
        if isinstance(message, Challenge) and self.state is State.CHALLENGE:
            return [self._answer(message)], []
        if isinstance(message, Welcome) and self.state is State.HELLO:
            self.state = State.OPEN
            return [], [Opened(message)]
        if isinstance(message, Ack) and self.state is State.OPEN:
            return [], [Acked(message.next_seq)]
        if isinstance(message, Incident) and self.state is State.OPEN:
            return [], [IncidentReceived(message)]
        raise ProtocolError(f"{type(message).__name__} from the server in state {self.state.value}")

    def _answer(self, challenge: Challenge) -> str:
        if self._key and not auth.check(self._key, "server", self._nonce, challenge.nonce, challenge.proof):
            self.state = State.CLOSED
            raise ConnectionRefused(
                "stranger", "the server at this address does not know our token; nothing was sent"
            )
        self.state = State.HELLO
        mine = auth.proof(self._key, "client", self._nonce, challenge.nonce) if self._key else ""
        return str(encode(dataclasses.replace(self._hello, proof=mine)))


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """A trainer has proved itself and said what it is; answer with :meth:`ServerSession.welcome` or ``fail``.

    ``key_id`` names the key it proved, "" for an open server.
    """

    hello: Hello
    key_id: str


@dataclass(frozen=True, slots=True)
class RecordReceived:
    """The next record in order. ``raw`` is what arrived, to be stored as it is where that helps."""

    record: Record
    raw: bytes | str


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat."""

    heartbeat: Heartbeat


ServerEvent: TypeAlias = HelloReceived | RecordReceived | Beat


class ServerSession:
    """The server's end.

    Args:
        nonce: fresh random text.
        key_for: gives the key for a ``key_id``, or None when there is no such key. ``key_for("")`` gives "" on a server
            that takes anybody, None on one that doesn't.
        versions: of the protocol that it takes. The session speaks the client's.
    """

    def __init__(
        self,
        *,
        nonce: str,
        key_for: Callable[[str], str | None],
        versions: range = range(OLDEST_VERSION, PROTOCOL_VERSION + 1),
    ) -> None:
        self.state = State.CHALLENGE
        self.next_seq = 0
        self._nonce = nonce
        self._key_for = key_for
        self._key = ""
        self._key_id = ""
        self._client_nonce = ""
        self._versions = versions
        self._version = versions[-1]

    def receive(self, data: bytes | str) -> tuple[list[str], list[ServerEvent]]:
        """What to send and what happened. A record that was already received gives no event.

        Raises:
            ConnectionRefused: the client did not prove itself.
            VersionMismatch: it speaks another version.
            ProtocolError: anything else that makes no sense; close the connection after :meth:`fail`.
        """
        message = decode(data)
        if self.state is State.OPEN:
            return [], self._open(message, data)
        if isinstance(message, Challenge) and self.state is State.CHALLENGE:
            return [self._challenge(message)], []
        if isinstance(message, Hello) and self.state is State.HELLO:
            return [], [self._hello(message)]
        raise ProtocolError(f"{type(message).__name__} from the client in state {self.state.value}")

    def welcome(self, welcome: Welcome) -> str:
        """Opens the session at ``welcome.next_seq``."""
        self.state = State.OPEN
        self.next_seq = welcome.next_seq
        return str(encode(dataclasses.replace(welcome, version=self._version)))

    def fail(self, error: Exception, *, fatal: bool = True) -> str:
        """An Error message for ``error``, whose ``code`` is used if it has one."""
        if fatal:
            self.state = State.CLOSED
        code = getattr(error, "code", "internal")
        return str(encode(Error(code=str(code), message=str(error), fatal=fatal)))

    def _challenge(self, challenge: Challenge) -> str:
        key = self._key_for(challenge.key_id)
        if key is None:
            raise ConnectionRefused(
                "auth",
                "the server does not know this token: set GRADWATCH_TOKEN to its own, or ask whoever runs it for one",
            )
        self._key, self._key_id, self._client_nonce = key, challenge.key_id, challenge.nonce
        self.state = State.HELLO
        mine = auth.proof(key, "server", challenge.nonce, self._nonce) if key else ""
        return str(encode(Challenge(nonce=self._nonce, proof=mine)))

    def _hello(self, hello: Hello) -> HelloReceived:
        if self._key and not auth.check(self._key, "client", self._client_nonce, self._nonce, hello.proof):
            raise ConnectionRefused("auth", "the token is not right")
        if hello.version not in self._versions:
            older = "client" if hello.version < self._versions[0] else "server"
            raise VersionMismatch(
                f"the client speaks version {hello.version} of the protocol and this server versions "
                f"{self._versions[0]} to {self._versions[-1]}: upgrade gradwatch on the {older}'s side"
            )
        self._version = hello.version
        return HelloReceived(hello, self._key_id)

    def _open(self, message: object, raw: bytes | str) -> list[ServerEvent]:
        if isinstance(message, Heartbeat):
            return [Beat(message)]
        if not isinstance(message, (Schema, Batch, Mark, Lost, Bye)):
            raise ProtocolError(f"{type(message).__name__} from the client in an open session")
        if message.seq < self.next_seq:
            return []
        if message.seq > self.next_seq:
            raise ProtocolError(
                f"record {message.seq} arrived where {self.next_seq} was expected: some were skipped"
            )
        self.next_seq += 1
        return [RecordReceived(message, raw)]
