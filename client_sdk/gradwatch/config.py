"""The client's settings, from the arguments of ``watch()`` and the environment. Built once, checked before step 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from .errors import ConfigError
from .protocol import limits

__all__ = ["Config", "Mode", "check_server", "state_directory", "websocket_url"]

Mode: TypeAlias = Literal["online", "offline", "local", "disabled"]
_MODES: Final[dict[str, Mode]] = {
    "online": "online",
    "offline": "offline",
    "local": "local",
    "disabled": "disabled",
}
_TRUE: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Where to send, what to call it, and how much to keep."""

    project: str = "default"
    """Runs are listed by project. ``GRADWATCH_PROJECT``."""

    name: str = ""
    """Name of the run; "" for a made-up one."""

    mode: Mode = "online"
    """``offline`` writes to the spool only, ``local`` judges the run in this process, ``disabled`` does nothing.
    ``GRADWATCH_MODE``."""

    server: str = ""
    """Address of the server, such as ``https://watch.example.org``; "" for the local one. ``GRADWATCH_SERVER``."""

    token: str = ""
    """What the server knows us by. A local server's token is found by itself. ``GRADWATCH_TOKEN``."""

    public_url: str = ""
    """The address under which a browser reaches the server, for the printed link. ``GRADWATCH_PUBLIC_URL``."""

    directory: Path = Path()
    """Spool, logs and the state files of local servers. ``GRADWATCH_DIR``, default ``~/.gradwatch``."""

    autostart: bool | None = None
    """Start a local server if none runs; None: only in a terminal or notebook. ``GRADWATCH_AUTOSTART``."""

    resume: str = ""
    """Go on in the same run: ``auto`` for the one of the scheduler's job, or a run's id. ``GRADWATCH_RESUME``."""

    spool_limit: int = 2 * 1024**3
    """Most bytes of undelivered steps kept on disk for one run. ``GRADWATCH_SPOOL_MB``."""

    finish_timeout: float = 10.0
    """Most seconds that ``finish()`` waits for the server."""

    @classmethod
    def build(
        cls,
        environ: Mapping[str, str],
        *,
        project: str | None = None,
        name: str | None = None,
        mode: str | None = None,
        server: str | None = None,
        token: str | None = None,
        autostart: bool | None = None,
        resume: str | None = None,
    ) -> Config:
        """Arguments win over the environment, which wins over defaults.

        Raises:
            ConfigError: a value that cannot be used; the sentence says what can.
        """
        for argument, given in (("server", server), ("token", token), ("resume", resume)):
            _check_text(given, argument)
        address = (server if server is not None else environ.get("GRADWATCH_SERVER", "")).strip()
        public = environ.get("GRADWATCH_PUBLIC_URL", "").strip()
        return cls(
            project=_name(project or environ.get("GRADWATCH_PROJECT") or "default", "project"),
            name=_name(name, "name") if name else "",
            mode=_mode(mode or environ.get("GRADWATCH_MODE") or "online"),
            server=check_server(address, "server= or GRADWATCH_SERVER") if address else "",
            token=token if token is not None else environ.get("GRADWATCH_TOKEN", ""),
            public_url=check_server(public, "GRADWATCH_PUBLIC_URL") if public else "",
            directory=state_directory(environ),
            autostart=autostart if autostart is not None else _flag(environ, "GRADWATCH_AUTOSTART"),
            resume=(resume if resume is not None else environ.get("GRADWATCH_RESUME", "")).strip(),
            spool_limit=_megabytes(environ, "GRADWATCH_SPOOL_MB", default=2048),
        )


def state_directory(environ: Mapping[str, str]) -> Path:
    """``GRADWATCH_DIR``, or ``.gradwatch`` in the home directory."""
    given = environ.get("GRADWATCH_DIR", "")
    return Path(given).expanduser() if given else Path.home() / ".gradwatch"


def check_server(address: str, where: str) -> str:
    """``address`` as ``http(s)://host[:port][/prefix]`` without a trailing slash; ``host:port`` is taken as http.

    Raises:
        ConfigError: it is not an address.
    """
    text = address if "://" in address else f"http://{address}"
    parts = urlsplit(text)
    try:
        usable = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"{where} cannot be {address!r}: give an address like http://127.0.0.1:8642")
    return text.rstrip("/")


def websocket_url(server: str) -> str:
    """The ingest socket of a server: same host and path prefix, ``ws`` for ``http`` and ``wss`` for ``https``."""
    return "ws" + server.removeprefix("http") + "/ws/ingest"


def _mode(word: str) -> Mode:
    if word not in _MODES:
        raise ConfigError(
            f"mode= or GRADWATCH_MODE cannot be {word!r}: use online, offline, local or disabled"
        )
    return _MODES[word]


def _check_text(value: object, argument: str) -> None:
    if not isinstance(value, str | None):
        raise ConfigError(f"{argument}= must be text, not {type(value).__name__}")


def _name(text: str, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{what}= must be text, not {text!r}")
    if len(text) > limits.MAX_NAME:
        raise ConfigError(f"{what}= has {len(text)} characters; at most {limits.MAX_NAME} are taken")
    return text.strip()


def _flag(environ: Mapping[str, str], name: str) -> bool | None:
    text = environ.get(name, "").strip().lower()
    if text and text not in _TRUE:
        raise ConfigError(f"{name} cannot be {text!r}: use 1 or 0")
    return _TRUE.get(text)


def _megabytes(environ: Mapping[str, str], name: str, *, default: int) -> int:
    text = environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name} cannot be {text!r}: give a whole number of megabytes, 1 or more")
    return int(text) * 1024**2
