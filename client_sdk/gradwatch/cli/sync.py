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
        raise GradwatchError(f"{directory} is not a folder")
    transport = WebSocketTransport(lambda: _locate(config))
    if arguments.follow:
        follow(directory, transport)
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


def follow(
    directory: Path,
    transport: Transport,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    stopped: Callable[[], bool] = lambda: False,
    pause: float = 0.2,
) -> None:
    """Delivers every spool in ``directory`` as it grows, whoever writes it; a spool whose run has ended and is stored is
    deleted. Runs until ``stopped``."""
    waiter = Waiter()
    work: dict[Path, Delivery] = {}
    scanned = -SCAN_S
    try:
        while not stopped():
            now = monotonic()
            if now - scanned >= SCAN_S:
                scanned = now
                for folder in spools_in(directory):
                    if folder not in work or work[folder].damaged:
                        work[folder] = Delivery(folder, transport, wake=waiter.wake)
            for folder, delivery in list(work.items()):
                if not delivery.damaged:
                    delivery.turn(now)
                if delivery.caught_up and delivery.reader.finished:
                    delivery.connection.close()
                    remove(folder)
                    del work[folder]
            waiter.wait(pause)
    finally:
        for delivery in work.values():
            delivery.connection.close()
        waiter.close()


COMMANDS = (Command("sync", "deliver what was recorded while no server could be reached", _configure, _sync),)
