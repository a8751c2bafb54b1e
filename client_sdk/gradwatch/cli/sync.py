"""``gradwatch sync``: delivers what runs recorded while no server could be reached."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .. import local
from ..config import Config, websocket_url
from ..delivery import Delivery, Outcome, deliver
from ..errors import GradwatchError
from ..leftover import remove, spools_in
from ..protocol import auth
from ..transport import Target, Transport, WebSocketTransport
from ..waiter import Waiter
from .command import Command

__all__ = ["COMMANDS", "follow"]

SCAN_S: Final = 2.0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", nargs="?", default="", help="folder of spools, or one spool; default: the usual place"
    )
    parser.add_argument(
        "--server", default=None, help="address of the server; default: GRADWATCH_SERVER or the local one"
    )
    parser.add_argument("--follow", action="store_true", help="go on as the folder grows, until Ctrl-C")


def _sync(arguments: argparse.Namespace) -> int:
    config = Config.build(os.environ, server=arguments.server)
    directory = Path(arguments.directory) if arguments.directory else config.directory / "spool"
    if not directory.is_dir():
        if arguments.directory or arguments.follow:
            raise GradwatchError(f"{directory} is not a folder")
        print(f"nothing to deliver in {directory}")
        return 0
    transport = WebSocketTransport(lambda: _locate(config))
    if arguments.follow:
        print(f"following {directory}; stop with Ctrl-C", flush=True)
        follow(directory, transport, tell=lambda text: print(text, flush=True))
        return 0
    return _deliver_all(directory, transport)


def _locate(config: Config) -> Target | None:
    if config.server:
        return Target(websocket_url(config.server), auth.key_of(config.token) if config.token else "")
    server = local.find(config.directory)
    return Target(websocket_url(server.url), auth.key_of(server.token)) if server is not None else None


def _deliver_all(directory: Path, transport: Transport) -> int:
    folders = spools_in(directory)
    if not folders:
        print(f"nothing to deliver in {directory}")
    failed = 0
    for folder in folders:
        try:
            outcome, why = deliver(folder, transport)
        except OSError as error:
            outcome, why = Outcome.DAMAGED, str(error)
        print(f"{folder.name}: {outcome.value}{': ' + why if why else ''}")
        failed += outcome not in (Outcome.DELIVERED, Outcome.ALIVE)
        if outcome is Outcome.UNREACHABLE:
            raise GradwatchError(
                "no server was reached; start one with: gradwatch serve, or give its address with --server"
            )
    return 1 if failed else 0


class _Follower:
    """Delivers every spool of a folder as it grows. What is wrong with one is said once, and hinders no other."""

    def __init__(self, directory: Path, transport: Transport, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._transport = transport
        self._tell = tell
        self._waiter = Waiter()
        self._work: dict[Path, Delivery] = {}
        self._told: set[str] = set()
        self._scan_at = 0.0

    def turn(self, now: float) -> None:
        """One look at everything."""
        if now >= self._scan_at:
            self._scan_at = now + SCAN_S
            self._scan()
        for folder in list(self._work):
            try:
                self._deliver(folder, now)
            except OSError as error:
                self._once(f"{folder.name} cannot be read now: {error.strerror or error}")
        self._say_whether_reached()

    def wait(self, seconds: float) -> None:
        """Until then, or until a connection stands."""
        self._waiter.wait(seconds)

    def close(self) -> None:
        """Lets go of all connections."""
        for delivery in self._work.values():
            delivery.connection.close()
        self._waiter.close()

    def _scan(self) -> None:
        try:
            folders = spools_in(self._directory)
        except OSError as error:
            self._once(f"{self._directory} cannot be read now: {error.strerror or error}")
            return
        for folder in folders:
            if folder not in self._work or self._work[folder].damaged:
                try:
                    self._work[folder] = Delivery(folder, self._transport, wake=self._waiter.wake)
                except OSError as error:
                    self._once(f"{folder.name} cannot be read now: {error.strerror or error}")

    def _deliver(self, folder: Path, now: float) -> None:
        delivery = self._work[folder]
        if delivery.damaged:
            return
        delivery.turn(now)
        connection = delivery.connection
        if connection.refused is not None:
            self._once(f"{folder.name}: the server refused it: {connection.refused}")
        if delivery.caught_up:
            self._once(f"{folder.name}: delivered so far, and followed")
        if delivery.caught_up and delivery.reader.finished:
            connection.close()
            remove(folder)
            del self._work[folder]
            self._once(f"{folder.name}: the run has ended, and all of it is delivered")

    def _say_whether_reached(self) -> None:
        connections = [one.connection for one in self._work.values()]
        if any(one.opened for one in connections):
            return
        failed = next((one for one in connections if one.failures >= 3), None)
        if failed is not None:
            self._once(f"no server is reached yet ({failed.error}); this goes on trying")

    def _once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)


def follow(
    directory: Path,
    transport: Transport,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    stopped: Callable[[], bool] = lambda: False,
    pause: float = 0.2,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Delivers every spool in ``directory`` as it grows, whoever writes it; a spool whose run has ended and is stored is
    deleted. Runs until ``stopped``. ``tell`` gets sentences for the user."""
    follower = _Follower(directory, transport, tell)
    try:
        while not stopped():
            follower.turn(monotonic())
            follower.wait(pause)
    finally:
        follower.close()


COMMANDS = (Command("sync", "deliver what was recorded while no server could be reached", _configure, _sync),)
