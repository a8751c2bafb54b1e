"""``gradwatch share``: a read-only link to a run, or to a comparison of several."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from gradwatch.errors import GradwatchError

from .owner_api import ask

__all__ = ["configure", "run"]

DAY: Final = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of ``gradwatch share``."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="id or name; several make a comparison")
    parser.add_argument(
        "--days", type=float, default=30.0, help="how long it works (default 30); 0 for no end"
    )
    parser.add_argument("--label", default="", help="what the list of links calls it")
    parser.add_argument("--password", action="store_true", help="ask for a password that opens it")


def run(arguments: argparse.Namespace) -> int:
    """Prints the link on the standard output, and who can open it beside it."""
    password = getpass.getpass("Password of the link: ") if arguments.password else ""
    first, *others = (_id(os.environ, name) for name in arguments.runs)
    made = ask(
        os.environ,
        "POST",
        "/shares",
        {
            "run": first,
            "others": others,
            "expires_in": arguments.days * DAY or None,
            "label": arguments.label,
            "password": password,
        },
    )
    print(made["url"], flush=True)
    print(made["reach"]["who"], made["reach"]["advice"], file=sys.stderr)
    for way in made["reach"]["ways"]:
        print(f"{way['label']}:\n  {way['command']}", file=sys.stderr)
    return 0


def _id(environ: Mapping[str, str], name: str) -> str:
    """The run of this id, else the newest of this name.

    Raises:
        GradwatchError: there is none.
    """
    found: list[dict[str, Any]] = ask(environ, "GET", f"/runs?limit=1000&q={quote(name, safe='')}")["runs"]
    for field in ("id", "name"):
        for one in found:
            if one[field] == name:
                return str(one["id"])
    raise GradwatchError(f"there is no run {name!r}; gradwatch runs lists them")
