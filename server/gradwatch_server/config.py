"""The server's settings, from the command line and the environment. Built once, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gradwatch.config import check_server, state_directory
from gradwatch.errors import ConfigError

__all__ = ["DEFAULT_PORT", "LAST_PORT", "Config", "address_of", "is_loopback"]

DEFAULT_PORT: Final = 8642
LAST_PORT: Final = 8662
"""When the default port is taken, the ports up to this one are tried."""

MIN_TOKEN: Final = 16
"""Shortest token that a person may set: it guards the ingest socket and the login page."""

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~@:-]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Where to listen, where to keep things, and who may come in."""

    directory: Path
    """State files of servers, the local token and, unless said otherwise, the database. ``GRADWATCH_DIR``."""

    database: str
    """URL of the database, ``sqlite:///...`` or ``postgresql://...``. ``GRADWATCH_DB``."""

    host: str = "127.0.0.1"
    """Address to listen on. ``GRADWATCH_HOST``."""

    port: int = DEFAULT_PORT
    """Port to listen on, 0 for any free one. ``GRADWATCH_PORT``."""

    port_given: bool = False
    """Whether somebody asked for this very port; otherwise the next free one will do."""

    public_url: str = ""
    """The address under which others reach this server, used in every link. ``GRADWATCH_PUBLIC_URL``."""

    root_path: str = ""
    """Path prefix in front of every path, if a proxy doesn't strip it. ``GRADWATCH_ROOT_PATH``."""

    token: str = ""
    """Shared secret of trainers and people; "" for the one kept in the directory. ``GRADWATCH_TOKEN``."""

    insecure_open: bool = False
    """Let everybody in, as owner. Only for closed networks."""

    autostarted: bool = False
    """Started by a training script, not by a person."""

    frame_ancestors: str = "'self'"
    """Who may show the pages in a frame, as a CSP source list. ``GRADWATCH_FRAME_ANCESTORS``."""

    allowed_origins: tuple[str, ...] = ()
    """Further origins that pages may be loaded from, such as a notebook server's. ``GRADWATCH_ALLOWED_ORIGINS``."""

    notify_allow: tuple[str, ...] = ()
    """Private addresses and networks (10.0.0.0/8) that notifications may be sent to. ``GRADWATCH_NOTIFY_ALLOW``."""

    trusted_user_header: str = ""
    """Header in which a proxy with single sign-on says who asks, such as ``X-Forwarded-User``; whoever it names is a member.
    The proxy must remove what comes from outside. ``GRADWATCH_TRUSTED_USER_HEADER``."""

    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")
    """Networks of proxies whose headers are believed: that one, and ``X-Forwarded-For``. ``GRADWATCH_TRUSTED_PROXIES``."""

    unlimited: tuple[str, ...] = ()
    """Addresses and networks without limits per address, as this computer is: such as a cluster's gateway.
    ``GRADWATCH_UNLIMITED``."""

    access_log: bool = False
    """One log line per request. Addresses of share links are cut out of it."""

    log_format: str = "plain"
    """``plain`` for people, ``json`` for machines. ``GRADWATCH_LOG_FORMAT``."""

    health: bool = True
    """Whether runs are watched for incidents. ``GRADWATCH_HEALTH``, ``on`` or ``off``."""

    max_size: int = 10_000_000_000
    """Bytes of numbers above which the oldest exact values are thinned to the pyramid; 0 for no limit. ``GRADWATCH_MAX_SIZE``,
    such as ``50GB`` or ``off``."""

    exact_days: float = 0.0
    """Exact values of runs that have been silent for more days are thinned; 0: not by age. ``GRADWATCH_EXACT_DAYS``."""

    @classmethod
    def build(cls, environ: Mapping[str, str], **given: Any) -> Config:
        """``given`` (what is None is left out) wins over the environment, which wins over defaults.

        Raises:
            ConfigError: a value that cannot be used, or an address that is open to others without a token.
        """
        said = {name: value for name, value in given.items() if value is not None}
        directory = Path(said.pop("directory", None) or state_directory(environ)).expanduser()
        database = str(said.pop("database", None) or environ.get("GRADWATCH_DB", ""))
        for name, variable in _VARIABLES.items():
            if name not in said and environ.get(variable):
                said[name] = environ[variable].strip()
        if "port" in said:
            said["port"], said["port_given"] = _port(said["port"]), True
        for name in ("allowed_origins", "notify_allow", "trusted_proxies", "unlimited"):
            if isinstance(said.get(name), str):
                said[name] = tuple(said[name].replace(",", " ").split())
        if isinstance(said.get("health"), str):
            said["health"] = _switch(said["health"], "GRADWATCH_HEALTH")
        if isinstance(said.get("max_size"), str):
            said["max_size"] = _size(said["max_size"], "--max-size")
        if "exact_days" in said:
            said["exact_days"] = _days(said["exact_days"], "--exact-days")
        if said.get("public_url"):
            said["public_url"] = check_server(said["public_url"], "--public-url")
        if said.get("root_path"):
            said["root_path"] = _prefix(said["root_path"])
        config = cls(directory=directory, database=_database(database, directory), **said)
        _check_open(config)
        return config

    def trusts(self, host: str) -> bool:
        """Whether ``host`` (an address) is a proxy whose headers are believed."""
        return _lies_in(host, self.trusted_proxies)

    def leaves_alone(self, host: str) -> bool:
        """Whether ``host`` (an address) has no limits of its own."""
        return bool(self.unlimited) and _lies_in(host, self.unlimited)

    @property
    def reaches_only_itself(self) -> bool:
        """Whether nobody but this computer can connect: a loopback address and no public one."""
        return is_loopback(self.host) and not self.public_url

    def address(self, port: int) -> str:
        """Where a browser on this machine finds the server that listens on ``port``."""
        host = self.host
        if host in ("", "0.0.0.0"):
            host = "127.0.0.1"
        elif host == "::":
            host = "::1"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{self.root_path}"

    def link(self, port: int) -> str:
        """The address that goes into links: the public one if there is one."""
        return self.public_url or self.address(port)


_VARIABLES: Final = {
    "host": "GRADWATCH_HOST",
    "port": "GRADWATCH_PORT",
    "public_url": "GRADWATCH_PUBLIC_URL",
    "root_path": "GRADWATCH_ROOT_PATH",
    "token": "GRADWATCH_TOKEN",
    "frame_ancestors": "GRADWATCH_FRAME_ANCESTORS",
    "allowed_origins": "GRADWATCH_ALLOWED_ORIGINS",
    "notify_allow": "GRADWATCH_NOTIFY_ALLOW",
    "log_format": "GRADWATCH_LOG_FORMAT",
    "trusted_user_header": "GRADWATCH_TRUSTED_USER_HEADER",
    "trusted_proxies": "GRADWATCH_TRUSTED_PROXIES",
    "unlimited": "GRADWATCH_UNLIMITED",
    "health": "GRADWATCH_HEALTH",
    "max_size": "GRADWATCH_MAX_SIZE",
    "exact_days": "GRADWATCH_EXACT_DAYS",
}


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=4_096)
def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, an IPv4 one also where it is written as IPv6; None if it is none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@lru_cache(maxsize=4_096)
def _lies_in(host: str, networks: tuple[str, ...]) -> bool:
    address = address_of(host)
    return address is not None and any(
        address in ipaddress.ip_network(network, strict=False) for network in networks
    )


def _port(value: Any) -> int:
    try:
        port = int(value)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port cannot be {value!r}: give a number from 1 to 65535, or 0 for any free one")
    return port


def _switch(text: str, where: str) -> bool:
    known = {"on": True, "off": False}
    if text.lower() not in known:
        raise ConfigError(f"{where} cannot be {text!r}: use on or off")
    return known[text.lower()]


_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?B?)", re.ASCII | re.IGNORECASE)


def _size(text: str, where: str) -> int:
    """``10GB`` in bytes."""
    if text.lower() == "off":
        return 0
    found = _SIZE.fullmatch(text)
    unit = found[2].upper() if found else ""
    if found is None:
        raise ConfigError(f"{where} cannot be {text!r}: give a size such as 10GB, or off")
    return int(float(found[1]) * _UNITS[unit.rstrip("B") + "B"])


def _days(value: str | float, where: str) -> float:
    try:
        days = float(value)
    except ValueError:
        days = -1.0
    if not 0 <= days < 36_500:
        raise ConfigError(f"{where} cannot be {value!r}: give a number of days, or 0")
    return days


def _prefix(text: str) -> str:
    prefix = "/" + text.strip("/")
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"--root-path cannot be {text!r}: give a path like /gradwatch")
    return "" if prefix == "/" else prefix


def _database(text: str, directory: Path) -> str:
    """A database URL; a plain path is a SQLite file."""
    if not text:
        return f"sqlite:///{directory / 'gradwatch.db'}"
    if "://" not in text:
        return f"sqlite:///{Path(text).expanduser().absolute()}"
    if urlsplit(text).scheme.split("+")[0] not in ("sqlite", "postgresql", "postgres"):
        raise ConfigError(
            f"--db cannot be {text.split('://')[0]}://...: give a file name, sqlite:///FILE or postgresql://..."
        )
    return text


def _check_networks(networks: tuple[str, ...], where: str) -> None:
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigError(
                f"{where} cannot be {network!r}: give addresses or networks, such as 10.1.2.3 or 10.0.0.0/8"
            ) from None


def _check_open(config: Config) -> None:
    _check_networks(config.notify_allow, "GRADWATCH_NOTIFY_ALLOW")
    _check_networks(config.trusted_proxies, "--trusted-proxies")
    _check_networks(config.unlimited, "--unlimited")
    if config.log_format not in ("plain", "json"):
        raise ConfigError(f"--log-format cannot be {config.log_format!r}: use plain or json")
    if config.token and len(config.token) < MIN_TOKEN:
        raise ConfigError(
            f"this token has {len(config.token)} characters; use at least {MIN_TOKEN}, "
            'for example from: python -c "import secrets; print(secrets.token_urlsafe(24))"'
        )
    if not is_loopback(config.host) and not config.token and not config.insecure_open:
        raise ConfigError(
            f"listening on {config.host} lets others connect, so set a token first: "
            "--token or GRADWATCH_TOKEN (or --insecure-open, on a network that you trust entirely)"
        )
