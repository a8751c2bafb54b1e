"""Disks that are full, locked, or not ours; databases that go away under a server with trainers."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import LONG
from tests.faults.evidence import compare, record
from tests.faults.test_server_killed import trainers
from tests.postgres import PrivatePostgres, binaries
from tests.server.live_server import serving

import gradwatch

ROOT = Path(__file__).parents[2]
LOCKED_S = 25.0 if LONG else 1.5
"""The long one is longer than SQLite waits."""


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


if os.name == "posix" and os.geteuid() == 0:

    @pytest.fixture
    def small_disk(home: Path) -> Iterator[Path]:
        """The spool lies on a disk of 200 KB."""
        spool = home / "spool"
        spool.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", spool], check=True)
        yield spool
        subprocess.run(["umount", spool], check=True)

    @pytest.mark.slow
    def test_a_full_disk_under_the_spool_costs_nothing_that_memory_holds(
        small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        port = closed_port()
        token = "a token of the tests"
        run = gradwatch.watch(server=f"http://127.0.0.1:{port}", token=token)
        deadline = time.monotonic() + 30
        step = 0
        while "memory only" not in capsys.readouterr().err:
            record(run, step)
            step += 1
            time.sleep(0.0005)
            assert time.monotonic() < deadline
        assert shutil.disk_usage(small_disk).free < 100_000
        for more in range(200):
            record(run, step + more)
        with serving(tmp_path / "server", port=port, token=token):
            run.finish()
        compare(tmp_path / "server" / "gradwatch.db", {run.id: step + 200})

    def test_a_folder_that_belongs_to_somebody_else_stops_no_training() -> None:
        """As a user without rights: nothing can be spooled, the script runs to its end, and says so."""
        with tempfile.TemporaryDirectory(prefix="gw-faults-") as place:
            os.chmod(place, 0o755)
            os.mkdir(f"{place}/home", 0o755)
            script = (
                "import gradwatch, os, time\n"
                "with gradwatch.watch(mode='offline') as warm:\n"  # loads all that it needs
                "    warm.record(0, {'a': 1.0})\n"
                "'x'.encode('idna')\n"
                "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
                "os.environ['GRADWATCH_DIR'] = 'home'\n"
                "run = gradwatch.watch()\n"
                "for step in range(150):\n"
                "    run.record(step, {'a': 1.0}, loss=1.0)\n"
                "    time.sleep(0.01)\n"
                "print('trained')\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", script],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT / "client_sdk"),
                    "GRADWATCH_DIR": f"{place}/warm",
                    "GRADWATCH_SERVER": f"http://127.0.0.1:{closed_port()}",
                },
                cwd=place,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0 and done.stdout == "trained\n", done.stderr
            assert "memory only" in done.stderr and "Traceback" not in done.stderr
            assert os.listdir(f"{place}/home") == []


@pytest.mark.slow
def test_a_database_that_somebody_locks_makes_trainers_wait_and_loses_nothing(
    tmp_path: Path, home: Path
) -> None:
    folder = tmp_path / "server"
    with serving(folder) as server, trainers(server.port, server.services.token) as runs:
        for step in range(20):
            for run in runs:
                record(run, step)
        shell = sqlite3.connect(folder / "gradwatch.db", isolation_level=None, timeout=30.0)
        shell.execute("BEGIN IMMEDIATE")
        until, step = time.monotonic() + LOCKED_S, 20
        while time.monotonic() < until:
            for run in runs:
                record(run, step)
            step += 1
            time.sleep(0.02)
        shell.execute("ROLLBACK")
        shell.close()
    assert not list((home / "spool").glob("*/*.gws"))
    compare(folder / "gradwatch.db", {run.id: step for run in runs})


if binaries():

    @pytest.mark.slow
    @pytest.mark.postgres
    def test_postgresql_restarted_under_a_server_with_trainers(tmp_path: Path, home: Path) -> None:
        postgres = PrivatePostgres()
        try:
            postgres.start()
            address = postgres.create()
            with (
                serving(tmp_path / "server", database=address) as server,
                trainers(server.port, server.services.token) as runs,
            ):
                for step in range(300):
                    for run in runs:
                        record(run, step)
                    time.sleep(0.005)
                    if step % 100 == 30:
                        postgres.stop()
                    if step % 100 == 99:
                        postgres.start()
            assert not list((home / "spool").glob("*/*.gws"))
            compare(address, {run.id: 300 for run in runs})
        finally:
            postgres.remove()
