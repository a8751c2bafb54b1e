"""The server is killed again and again while eight runs are sent to it: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.faults.conftest import LONG
from tests.faults.evidence import compare, record
from tests.ports import free_port
from tests.server.live_server import PATIENCE
from tests.server.processes import serve, wait_for

import gradwatch
from gradwatch import Run, local

TRAINERS = 8
KILLS = 200 if LONG else 10
PAUSE_S = 0.01


@contextmanager
def trainers(port: int, token: str) -> Iterator[list[Run]]:
    """Eight runs, each with a sender of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(gradwatch.watch(name=f"r{i}", server=f"http://127.0.0.1:{port}", token=token))
            for i in range(TRAINERS)
        ]


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 400)
def test_nothing_is_lost_or_doubled_by_a_server_that_is_killed(home: Path, tmp_path: Path) -> None:
    folder, port, token = tmp_path / "server", free_port(), "a token of the tests"
    chance = random.Random(int(os.environ.get("GRADWATCH_SEED", "1")))

    def start() -> subprocess.Popen[str]:
        return serve(folder, "--port", str(port), GRADWATCH_TOKEN=token)

    taken: dict[str, int] = {}
    server = start()
    try:
        wait_for(folder)
        with trainers(port, token) as runs:
            step = 0
            for kill in range(KILLS):
                # Every third dies while it starts, the others some time after: in the middle of commits, or of compaction.
                lives = local.find(folder) is not None or kill % 3 == 2
                until = time.monotonic() + chance.uniform(0.05, 1.0)
                while time.monotonic() < until or not lives:
                    for run in runs:
                        record(run, step)
                    step += 1
                    time.sleep(PAUSE_S)
                    if not lives and local.find(folder) is not None:
                        lives, until = True, time.monotonic() + chance.uniform(0.05, 1.0)
                server.kill()
                server.communicate()
                server = start()
            wait_for(folder)
            taken = {run.id: step for run in runs}
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)
    finally:
        server.kill()
        server.communicate()
    assert step > 5 * KILLS
    assert not list((home / "spool").glob("*/*.gws")), "something was not delivered"
    compare(folder / "gradwatch.db", taken)
