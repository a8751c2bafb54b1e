"""Keeps what leaves this server from reaching what only this server can reach.

A channel's address is a person's input, and the libraries that deliver messages follow names and redirects on their own.
So the check is made where nothing gets round it: at every connection that the sending thread opens, by the address that
it is opened to. The interpreter's audit events tell of each before it is made.
"""

from __future__ import annotations

import contextlib
import ipaddress
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

__all__ = ["Refused", "allowed_networks", "guarded", "is_public"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_EVENTS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(OSError):
    """A connection that messages must not open."""


class _Local(threading.local):
    allowed: Sequence[Network] | None = None
    refused: str = ""


_local = _Local()


def allowed_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks such as ``10.0.0.0/8`` or single addresses.

    Raises:
        ValueError: a text is neither.
    """
    return tuple(ipaddress.ip_network(text.strip(), strict=False) for text in texts if text.strip())


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet: not private, loopback, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


@contextlib.contextmanager
def guarded(allowed: Sequence[Network]) -> Iterator[_Local]:
    """Inside, this thread connects to public addresses and ``allowed`` networks only; anything else raises Refused.

    Gives an object whose ``refused`` is the address that was refused last, "" if none was.
    """
    _install()
    _local.allowed, _local.refused = allowed, ""
    try:
        yield _local
    finally:
        _local.allowed = None


@cache
def _install() -> None:
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _EVENTS and _local.allowed is not None:
        _check(args[1] if len(args) > 1 else None, _local.allowed)


def _check(address: Any, allowed: Sequence[Network]) -> None:
    host = address[0] if isinstance(address, tuple) and address else address
    if address is None:
        return  # a datagram on a socket that is connected already: checked then
    try:
        ip = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        _refuse(str(host))
    else:
        if not is_public(str(ip)) and not any(ip in network for network in allowed):
            _refuse(str(ip))


def _refuse(host: str) -> None:
    _local.refused = host
    raise Refused(f"{host} is not a public address, so messages are not sent there")
