"""Running the server: binding a port, saying where it is, ending in order."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import uvicorn
from fastapi import FastAPI

from gradwatch import __version__
from gradwatch.console import proxied, tunnel_hint
from gradwatch.errors import ConfigError, GradwatchError
from gradwatch.protocol import limits

from .app import create_app
from .config import DEFAULT_PORT, LAST_PORT, Config
from .connections import Patience, patient
from .logs import set_up_logs
from .services import Services

__all__ = ["PortTaken", "bind", "configure", "run", "serve"]

GRACE_SECONDS: Final = 3
"""How long requests may take to end at shutdown; commits follow. Everything is over within five seconds."""

BACKLOG: Final = 2_048
CONNECTIONS: Final = 5_000
"""Connections at once, of any kind; more are answered with 503."""

FILES: Final = 8_192
"""Open files wanted: each connection is one, and many systems start processes with 1,024."""


class PortTaken(GradwatchError):
    """Another program listens there."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of ``gradwatch serve``."""
    add = parser.add_argument
    add("--host", help="address to listen on (default 127.0.0.1: this computer only)")
    add("--port", help=f"port to listen on (default {DEFAULT_PORT}, or the next free one)")
    add("--db", dest="database", metavar="FILE|URL", help="database file or postgresql:// URL")
    add("--dir", dest="directory", help="where token, state and database are kept (default ~/.gradwatch)")
    add("--public-url", help="address under which others reach this server, used in every link")
    add("--root-path", help="path prefix that a proxy leaves in front of every path, such as /gradwatch")
    add("--token", help="shared secret for trainers and people (better: GRADWATCH_TOKEN)")
    add("--log-format", help="plain or json")
    add(
        "--no-health",
        dest="health",
        action="store_false",
        default=None,
        help="do not look for incidents in what arrives",
    )
    add(
        "--max-size", help="size of the database above which old exact values are thinned (default 10GB; off)"
    )
    add("--exact-days", help="thin the exact values of runs that have been silent for so many days")
    add("--frame-ancestors", help="who may show the pages in a frame, as a CSP source list (default 'self')")
    add("--allowed-origins", help="further origins of pages, such as a notebook server's")
    add(
        "--trusted-user-header",
        metavar="NAME",
        help="header in which a proxy with single sign-on says who asks",
    )
    add("--trusted-proxies", metavar="NETWORKS", help="whose headers are believed (default: this computer's)")
    add("--unlimited", metavar="NETWORKS", help="who has no limits per address, besides this computer")
    add("--access-log", action="store_true", default=None, help="one line per request")
    add("--insecure-open", action="store_true", default=None, help="let everybody in who can connect")
    add("--autostarted", action="store_true", default=None, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """``gradwatch serve``: the exit status."""
    given = {name: value for name, value in vars(arguments).items() if name in Config.__slots__}
    try:
        config = Config.build(os.environ, **given)
    except ConfigError as error:
        print(f"gradwatch: {error}", file=sys.stderr)
        return 2
    os.umask(0o077)  # the database and its journal are nobody else's business
    _allow_connections()
    return serve(config, os.environ, sys.stdout, sys.stderr)


def serve(config: Config, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Serves until it is told to stop; 0 then, 2 when the port is taken, 1 when it cannot start."""
    try:
        listener = bind(config)
    except PortTaken as error:
        print(f"gradwatch: {error}", file=err)
        return 2
    port = int(listener.getsockname()[1])
    if not config.port_given and port != DEFAULT_PORT:
        print(f"Port {DEFAULT_PORT} is used by another program, so this is port {port}.", file=out)
    app = create_app(config)
    set_up_logs(config, silent=lambda: getattr(app.state, "failure", None) is not None)

    def listening(services: Services) -> None:
        _greet(services, environ, out)
        # Takes 0.2 s of a processor, which the first visitor shall not wait for.
        threading.Thread(target=services.assets.pack, name="packing", daemon=True).start()

    server = _Server(app, port, listening)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        failure = getattr(app.state, "failure", None)
        print(f"gradwatch: {failure or 'the server could not start; its log says why'}", file=err)
        return 1
    finally:
        listener.close()
    return 0


def _allow_connections() -> None:
    """Raises the limit of open files as far as this user may."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(config: Config) -> socket.socket:
    """A socket that listens.

    Raises:
        PortTaken: the port that was asked for, or every one that may be tried, is in use or not allowed.
    """
    asked = config.port_given
    ports = [config.port] if asked else range(config.port, LAST_PORT + 1)
    reason = ""
    for port in ports:
        try:
            return _listen(config.host, port)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(
                    f"{config.host} port {port} cannot be used ({reason}); choose another --host"
                ) from None
    if asked:
        raise PortTaken(
            f"port {config.port} cannot be used ({reason}): choose another --port, or leave it out"
        )
    raise PortTaken(f"ports {config.port} to {LAST_PORT} are all in use: choose another --port")


def _listen(host: str, port: int) -> socket.socket:
    """Listens at once: two servers that start together must not both get the port."""
    family, kind, number, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, number)
    try:
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """Uvicorn, with a state file while it listens, and without raising the signal again that ended it."""

    def __init__(
        self,
        app: FastAPI,
        port: int,
        greet: Callable[[Services], None],
        patience: Patience = Patience(),
    ) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                http=patient(patience, self._admit, self._release),
                ws="websockets-sansio",
                ws_max_size=limits.MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                backlog=BACKLOG,
                limit_concurrency=CONNECTIONS,
            )
        )
        self._port = port
        self._greet = greet
        self._state_file: Path | None = None

    def _admit(self, peer: str) -> bool:
        services: Services = self._app.state.services
        return services.addresses.connect(peer)

    def _release(self, peer: str) -> None:
        services: Services = self._app.state.services
        services.addresses.disconnect(peer)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        services: Services = self._app.state.services
        services.port = self._port
        self._state_file = write_state(services)
        self._greet(services)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._state_file is not None:
            self._state_file.unlink(missing_ok=True)
        self._app.state.services.closing = True
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def write_state(services: Services) -> Path:
    """Says where this server is, for scripts and commands of the same user."""
    config = services.config
    folder = config.directory / "servers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{services.port}.json"
    fresh = path.with_suffix(f".{os.getpid()}")
    state: dict[str, Any] = {
        "url": config.address(services.port),
        "port": services.port,
        "pid": os.getpid(),
        "instance": services.instance,
        "token": services.token,
        "public_url": config.public_url,
        "version": __version__,
    }
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(state, file)
    fresh.replace(path)
    return path


def _greet(services: Services, environ: Mapping[str, str], out: TextIO) -> None:
    """Tells a person where to look. Only a terminal gets a link that opens without further proof."""
    config = services.config
    address = config.address(services.port)
    link = config.public_url or proxied(address, environ)
    if out.isatty():
        print(
            f"gradwatch {__version__} is ready. Open {link}/#code={services.codes.mint(services.clock())}",
            file=out,
        )
        print(
            "This link signs in one browser and is good for 10 minutes; for another: gradwatch open", file=out
        )
        if not config.public_url and (hint := tunnel_hint(address, environ)):
            print(hint, file=out)
        print("Stop with Ctrl-C.", file=out)
    else:
        print(f"gradwatch {__version__} is ready at {link} (open it with: gradwatch open)", file=out)
    out.flush()
