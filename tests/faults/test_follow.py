"""A cluster without a network: jobs write to a shared folder, ``gradwatch sync --follow`` on a login node makes a live page."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.faults.evidence import compare, record
from tests.server.live_server import Page, serving

import gradwatch

BEHIND_S = 15.0
"""Five seconds are promised; a machine that does other things as well gets three times that."""


STEPS = 300


def train(run: gradwatch.Run) -> None:
    """Six seconds of training."""
    for step in range(1, STEPS):
        record(run, step)
        time.sleep(0.02)


@pytest.mark.slow
def test_a_page_follows_a_job_that_only_sees_a_folder(tmp_path: Path, home: Path) -> None:
    folder, root = tmp_path / "server", Path(__file__).parents[2]
    with serving(folder) as server:
        environ = {
            **os.environ,
            "GRADWATCH_TOKEN": server.services.token,
            "PYTHONPATH": os.pathsep.join(map(str, (root / "client_sdk", root / "server"))),
        }
        (home / "spool").mkdir()
        command = [sys.executable, "-m", "gradwatch", "sync", str(home / "spool"), "--server", server.url]
        follower = subprocess.Popen([*command, "--follow"], env=environ, stdout=subprocess.PIPE, text=True)
        behind: list[float] = []
        try:
            with gradwatch.watch(mode="offline") as run, Page(server) as page:
                record(run, 0)
                page.hear("event", kind="run", run=run.id)
                page.say(type="subscribe", id=1, run=run.id, statistic="grad_norm", points=1000)
                training = threading.Thread(target=train, args=[run])
                training.start()
                shown = page.view(1).series
                while shown.last_step < STEPS - 1:
                    shown = page.view(1).series
                    behind.append(time.time() - shown.last_time)
                training.join()
            assert len(behind) > 5 and max(behind) < BEHIND_S
            deadline = time.monotonic() + 30
            while list((home / "spool").iterdir()) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not list((home / "spool").iterdir()), "what is delivered goes"
        finally:
            follower.terminate()
            out, _ = follower.communicate()
        assert f"following {home / 'spool'}" in out and "the run has ended, and all of it is delivered" in out
    compare(folder / "gradwatch.db", {run.id: STEPS})
