"""What one client address may do: open connections and sockets, ask, and try passwords.

This computer, and networks and proxies that the config names, are limited in passwords only: trainers beside the server are
never locked out.
Passwords are counted for everybody. The time is an argument; the event loop is the only thread.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection

from ..config import Config, address_of
from ..errors import TooMany
from .rates import Attempts, Rates

__all__ = ["AddressLimits", "Addresses", "client_of"]

_V6_PREFIX: Final = 64
"""Bits of an IPv6 address that stand for one client: the rest is its own to choose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressLimits:
    """How much for one address."""

    connections: int = 400
    """HTTP connections at once; those that became sockets are counted there."""
    sockets: int = 1_000
    """Trainers and pages at once."""
    per_second: float = 300.0
    """Requests and new sockets,"""
    burst: float = 3_000.0
    """and how many at once."""
    passwords: int = 10
    """Wrong tokens and passwords of links,"""
    password_seconds: float = 600.0
    """in so many seconds."""


class Addresses:
    """The addresses that are connected, and what they have done lately.

    Args:
        config: says which proxies are believed, and which networks are not limited.
        refused: called with what was refused: ``connections``, ``sockets``, ``requests`` or ``passwords``.
    """

    def __init__(
        self, config: Config, refused: Callable[[str], None], limits: AddressLimits | None = None
    ) -> None:
        self.limits = limits or AddressLimits()
        self._config = config
        self._refused = refused
        self._rates = Rates(per_second=self.limits.per_second, burst=self.limits.burst)
        self._connections: Counter[str] = Counter()
        self._sockets: Counter[str] = Counter()
        self._wrong = Attempts(self.limits.passwords, self.limits.password_seconds)

    def of(self, connection: HTTPConnection) -> str:
        """The address of who asks, as a proxy that is believed says; "" where there is none."""
        peer = connection.client.host if connection.client else ""
        return client_of(peer, connection.headers.getlist("x-forwarded-for"), self._config.trusts)

    def connect(self, peer: str) -> bool:
        """A connection opens, if it may; :meth:`disconnect` must follow. What a proxy passes on is counted by request."""
        name = _name(peer)
        if not self._limits(peer):
            return True
        if self._connections[name] >= self.limits.connections:
            self._refused("connections")
            return False
        self._connections[name] += 1
        return True

    def disconnect(self, peer: str) -> None:
        """A connection that was let in is closed or has become a socket."""
        name = _name(peer)
        self._connections[name] -= 1
        if self._connections[name] <= 0:
            del self._connections[name]

    def check_request(self, connection: HTTPConnection, now: float) -> None:
        """Counts a request, or the opening of a socket.

        Raises:
            TooMany: one too many.
        """
        address = self.of(connection)
        if self._limits(address) and not self._rates.take(_name(address), now):
            self._refused("requests")
            raise TooMany(
                f"Too many requests from {address} at this moment. Wait a few seconds and try again."
            )

    @contextmanager
    def holding(self, connection: HTTPConnection, now: float) -> Iterator[None]:
        """Counts one more open socket while the body runs.

        Raises:
            TooMany: one too many.
        """
        self.check_request(connection, now)
        address = self.of(connection)
        name = _name(address)
        if self._limits(address) and self._sockets[name] >= self.limits.sockets:
            self._refused("sockets")
            raise TooMany(
                f"{self.limits.sockets:,} trainers and pages are connected from {address} already. Try again later, or let "
                "whoever runs the server name this network in GRADWATCH_UNLIMITED."
            )
        self._sockets[name] += 1
        try:
            yield
        finally:
            self._sockets[name] -= 1
            if not self._sockets[name]:
                del self._sockets[name]

    def try_password(self, connection: HTTPConnection, now: float) -> Callable[[], None]:
        """Counts a wrong password; calling the result says that it was right.

        Raises:
            TooMany: the address has tried too many wrong ones.
        """
        name = _name(self.of(connection))
        if not self._wrong.begin(name, now):
            self._refused("passwords")
            raise TooMany(
                "Too many wrong tokens and passwords from your address. Wait ten minutes and try again."
            )
        return lambda: self._wrong.right(name, now)

    def _limits(self, address: str) -> bool:
        free = address == "" or _is_loopback(address)
        return not (free or self._config.trusts(address) or self._config.leaves_alone(address))


def client_of(peer: str, forwarded: Sequence[str], trusts: Callable[[str], bool]) -> str:
    """The address that a request comes from.

    Args:
        peer: who is connected.
        forwarded: values of ``X-Forwarded-For``. Each proxy adds whom it was asked by at the end, so it is read from there,
            as long as the one who says it is trusted.
        trusts: whether an address is a proxy that is believed.
    """
    client = peer
    for said in reversed([one.strip() for value in forwarded for one in value.split(",")]):
        if not trusts(client) or address_of(said) is None:
            break
        client = said
    return client


def _is_loopback(text: str) -> bool:
    found = address_of(text)
    return found is not None and bool(found.is_loopback)


def _name(address: str) -> str:
    """What an address is counted under."""
    found = address_of(address)
    if found is None or found.version == 4:
        return str(found or address)
    return str(ipaddress.ip_network((int(found), _V6_PREFIX), strict=False))
