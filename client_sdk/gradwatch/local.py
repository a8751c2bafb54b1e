"""The local server: finding the one that runs, starting one if asked to, stopping it.

A server writes ``servers/<port>.json`` into the state directory, readable by the user only: ``url``, ``port``, ``pid``,
``instance``, ``token``, ``public_url``. A file whose process is gone counts for nothing, and whatever listens on the port
gets nothing from us until it has proved that it knows the token.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .console import in_notebook
from .lockfile import LockFile, alive

__all__ = ["LocalServer", "alive", "find", "running", "server_installed", "start", "stop"]

START_TIMEOUT_S: Final = 5.0
NOTEBOOKS: Final = "'self' http://localhost:* http://127.0.0.1:*"
"""Who may show the pages of a server that a notebook starts in a frame: other pages of this computer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalServer:
    """A server of this user on this computer."""

    url: str
    port: int
    pid: int
    token: str
    instance: str = ""
    public_url: str = ""


def running(directory: Path) -> list[LocalServer]:
    """The local servers whose process lives, the latest first."""
    files = (directory / "servers").glob("*.json")
    found = [(path.stat().st_mtime, server) for path in files if (server := _read(path)) is not None]
    return [server for _, server in sorted(found, key=lambda pair: -pair[0]) if alive(server.pid)]


def find(directory: Path) -> LocalServer | None:
    """The local server to use, None if none runs."""
    try:
        return next(iter(running(directory)), None)
    except OSError:
        return None


def server_installed() -> bool:
    """Whether ``gradwatch[server]`` is installed."""
    return importlib.util.find_spec("gradwatch_server") is not None


def start(
    directory: Path,
    *,
    command: Sequence[str] = (sys.executable, "-m", "gradwatch_server", "serve", "--autostarted"),
    timeout: float = START_TIMEOUT_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LocalServer | None:
    """Starts a detached server and waits until it says where it listens; None if it does not within ``timeout`` seconds.

    Of several scripts that start one at the same moment, one does and the others use it. It outlives them all.
    """
    (directory / "log").mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = LockFile(directory / "start.lock")
    deadline = monotonic() + timeout
    started = False
    try:
        while (server := find(directory)) is None and monotonic() < deadline:
            if not started and lock.acquire():
                # Another script may have started one and let go of the lock since we looked.
                if (server := find(directory)) is not None:
                    return server
                _spawn(command, directory)
                started = True
            sleep(0.05)
        return server
    finally:
        lock.release()


def stop(
    server: LocalServer,
    *,
    timeout: float = 10.0,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Asks it to end, and waits; whether it has."""
    try:
        os.kill(server.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline = monotonic() + timeout
    while alive(server.pid) and monotonic() < deadline:
        sleep(0.05)
    return not alive(server.pid)


def _read(path: Path) -> LocalServer | None:
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return LocalServer(
            url=str(plain["url"]).rstrip("/"),
            port=int(plain["port"]),
            pid=int(plain["pid"]),
            token=str(plain["token"]),
            instance=str(plain.get("instance", "")),
            public_url=str(plain.get("public_url") or "").rstrip("/"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _spawn(command: Sequence[str], directory: Path) -> None:
    environ = {**os.environ, "GRADWATCH_DIR": str(directory)}
    if in_notebook():
        environ.setdefault("GRADWATCH_FRAME_ANCESTORS", NOTEBOOKS)
    flags: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    with open(directory / "log" / "server.log", "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd=directory, **flags
        )
    # It is meant to outlive us: no warning that it still runs when the object goes.
    process.returncode = 0
