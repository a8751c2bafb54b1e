"""Ports for servers that a test starts, and may start again on the same one.

They lie below the range from which systems lend ports to connections (32768 and up on Linux, 49152 and up elsewhere): between the
choice and the use, or while the server is down, nobody else is given them.
"""

from __future__ import annotations

import itertools
import os
import socket

__all__ = ["free_port"]

FIRST = 20_000
A_WORKER = 1_500
"""Ports of each worker of a session, so that two never choose the same."""

WORKERS = 8

_next = itertools.count(os.getpid() * 31)
"""Another session on this machine begins elsewhere."""


def free_port() -> int:
    """A port that nothing listens on, and that this worker has not chosen before."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    for _ in range(A_WORKER):
        port = FIRST + worker * A_WORKER + next(_next) % A_WORKER
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("every port is taken")
