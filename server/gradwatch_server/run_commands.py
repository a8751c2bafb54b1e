"""``gradwatch runs``: what a server has, one run a line."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from gradwatch.aligned import aligned

from .owner_api import ask

__all__ = ["configure", "run"]

HEAD: Final = ("id", "project", "name", "state", "steps", "started")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of ``gradwatch runs``."""
    parser.add_argument("search", nargs="?", default="", help="only runs with this in id, name or project")
    parser.add_argument("--limit", type=int, default=50, help="at most so many, the newest (default 50)")


def run(arguments: argparse.Namespace) -> int:
    """Prints a table, the newest run first."""
    asked = urlencode({"q": arguments.search, "limit": arguments.limit})
    found: list[dict[str, Any]] = ask(os.environ, "GET", f"/runs?{asked}")["runs"]
    if not found:
        print("no runs")
        return 0
    print("\n".join(aligned([HEAD, *map(_row, found)])))
    return 0


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["created_at"]))
    return (one["id"], one["project"], one["name"], one["state"], str(one["steps"]), started)
