"""Finding, starting and stopping a local server. The server here is a few lines that write a state file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gradwatch import local

STAND_IN = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["GRADWATCH_DIR"], "servers")
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent / "starts", "a") as file:
    file.write("x")
time.sleep(0.2)
state = {"url": "http://127.0.0.1:8642/", "port": 8642, "pid": os.getpid(), "token": "t", "instance": "i", "public_url": None}
part = folder / "part"
part.write_text(json.dumps(state))
part.replace(folder / "8642.json")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(120)
"""
COMMAND = (sys.executable, "-c", STAND_IN)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for server in local.running(tmp_path):
        assert local.stop(server)


def write_state(home: Path, port: int, pid: int) -> None:
    (home / "servers").mkdir(exist_ok=True)
    state = {"url": f"http://127.0.0.1:{port}", "port": port, "pid": pid, "token": "t"}
    (home / "servers" / f"{port}.json").write_text(json.dumps(state))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_none_runs_where_nothing_is_written(tmp_path: Path) -> None:
    assert local.find(tmp_path) is None


def test_files_of_dead_servers_and_rubbish_count_for_nothing(tmp_path: Path) -> None:
    write_state(tmp_path, 8642, dead_pid())
    (tmp_path / "servers" / "8643.json").write_text("{half")
    (tmp_path / "servers" / "8644.json").write_text('["list"]')
    (tmp_path / "servers" / "8645.json").write_text('{"url": "http://x", "port": "y", "pid": 1, "token": ""}')
    assert local.find(tmp_path) is None


def test_the_latest_of_several_is_used(tmp_path: Path) -> None:
    for age, port in ((100, 8642), (10, 8643), (50, 8644)):
        write_state(tmp_path, port, os.getpid())
        path = tmp_path / "servers" / f"{port}.json"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    found = local.find(tmp_path)
    assert found is not None and found.port == 8643


def test_starts_one_that_outlives_the_call_and_stops_it(home: Path) -> None:
    server = local.start(home, command=COMMAND, timeout=60)
    assert server is not None and (server.url, server.token) == ("http://127.0.0.1:8642", "t")
    assert os.getsid(server.pid) != os.getsid(0)
    assert local.start(home, command=COMMAND, timeout=60) == server
    assert local.stop(server)
    assert local.find(home) is None


def test_scripts_that_start_together_start_one(home: Path) -> None:
    script = (
        "import pathlib, sys\nfrom gradwatch import local\n"
        f"server = local.start(pathlib.Path({str(home)!r}), command={COMMAND!r}, timeout=60)\nprint(server.pid)\n"
    )

    def one(_: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, timeout=100
        ).stdout.decode()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(4)))) == 1
    assert (home / "starts").read_text() == "x"


def test_a_server_that_does_not_come_is_not_waited_for_long(tmp_path: Path) -> None:
    times = iter(range(1000))
    server = local.start(
        tmp_path,
        command=(sys.executable, "-c", "print('no port')"),
        monotonic=lambda: next(times),
        sleep=lambda s: None,
    )
    assert server is None
