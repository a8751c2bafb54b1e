"""``gradwatch serve`` as a process of its own, to be signalled and killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.live_server import PATIENCE

from gradwatch import local

__all__ = ["process", "serve", "wait_for"]

ROOT = Path(__file__).parents[2]


def serve(directory: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    """``python -m gradwatch_server serve`` with these options. The caller ends it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRADWATCH_")}
    path = os.pathsep.join([str(ROOT / "client_sdk"), str(ROOT / "server")])
    return subprocess.Popen(
        [sys.executable, "-m", "gradwatch_server", "serve", *options],
        env={**clean, "PYTHONPATH": path, "GRADWATCH_DIR": str(directory), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def process(directory: Path, *options: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """:func:`serve`, killed at the end if it still runs."""
    started = serve(directory, *options, **environ)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def wait_for(directory: Path) -> local.LocalServer:
    """The server, once its state file is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = local.find(directory)
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError("no server came")
