"""``gradwatch open`` and ``gradwatch stop``: commands about the local server that need no server code."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser

from .. import local
from ..config import state_directory
from ..console import proxied, tunnel_hint
from ..errors import GradwatchError
from ..links import fetch_code
from ..protocol import auth
from .command import Command

__all__ = ["COMMANDS"]


def _configure_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        default="",
        help="id of a run, or the link from a log file; default: the list of runs",
    )
    parser.add_argument(
        "--print", action="store_true", dest="only_print", help="print the link, don't start a browser"
    )


def _open(arguments: argparse.Namespace) -> int:
    """A link with a fresh single-use code, in the browser and in the terminal."""
    server = local.find(state_directory(os.environ))
    if server is None:
        raise GradwatchError("no local server runs; start one with: gradwatch serve")
    code = fetch_code(server.url, auth.key_of(server.token))
    if not code:
        raise GradwatchError(
            f"the server at {server.url} gives no code; see whether it still runs, or restart it"
        )
    base = (
        os.environ.get("GRADWATCH_PUBLIC_URL", "").rstrip("/")
        or server.public_url
        or proxied(server.url, os.environ)
    )
    run = arguments.run.rstrip("/").rpartition("/")[2].partition("#")[0]
    link = f"{base}/runs/{run}#code={code}" if run else f"{base}/#code={code}"
    print(link)
    if hint := tunnel_hint(server.url, os.environ):
        print(hint, file=sys.stderr)
    elif not arguments.only_print:
        webbrowser.open(link)
    return 0


def _configure_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=0, help="only the server on this port; default: all of yours"
    )


def _stop(arguments: argparse.Namespace) -> int:
    """Ends the local servers of this user."""
    servers = [
        server for server in local.running(state_directory(os.environ)) if arguments.port in (0, server.port)
    ]
    if not servers:
        print("no local server runs" + (f" on port {arguments.port}" if arguments.port else ""))
        return 0
    for server in servers:
        if not local.stop(server):
            raise GradwatchError(f"the server at {server.url} (process {server.pid}) does not end")
        print(f"stopped {server.url}")
    return 0


COMMANDS = (
    Command("open", "open the dashboard in a browser, with a fresh single-use code", _configure_open, _open),
    Command("stop", "stop the local server", _configure_stop, _stop),
)
