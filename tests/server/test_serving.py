"""``gradwatch serve`` as a process: ports, state file, signals, sentences instead of tracebacks."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
from tests.server.live_server import PATIENCE
from tests.server.processes import process, wait_for

from gradwatch_server.config import Config
from gradwatch_server.serving import PortTaken, bind, configure, run


def test_says_where_it_is_and_goes_in_order(tmp_path: Path) -> None:
    with process(tmp_path, "--port", "0") as server:
        found = wait_for(tmp_path)
        state = tmp_path / "servers" / f"{found.port}.json"
        assert httpx.get(f"{found.url}/healthz").json()["instance"] == found.instance
        assert httpx.get(f"{found.url}/readyz").json() == {"status": "ready"}
        assert found.pid == server.pid
        if sys.platform != "win32":
            assert state.stat().st_mode & 0o077 == 0
            assert (tmp_path / "gradwatch.db").stat().st_mode & 0o077 == 0
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        assert err == ""
        assert found.url in out
        assert "#code=" not in out, "a log file must not hold a code"
        assert not state.exists()


@pytest.mark.slow
def test_the_token_stays_the_same(tmp_path: Path) -> None:
    tokens = set()
    for _ in range(2):
        with process(tmp_path, "--port", "0") as server:
            tokens.add(wait_for(tmp_path).token)
            server.send_signal(signal.SIGINT)
            assert server.wait(PATIENCE) == 0
    assert len(tokens) == 1


def test_a_port_that_was_asked_for_must_be_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with process(tmp_path, "--port", str(port)) as server:
            _, err = server.communicate(timeout=PATIENCE)
            assert server.returncode == 2
            assert f"port {port} cannot be used" in err
            assert "Traceback" not in err
            assert not (tmp_path / "servers").exists()


def test_the_default_port_may_be_taken(tmp_path: Path) -> None:
    config = Config.build({}, directory=tmp_path)
    first = bind(config)
    try:
        second = bind(config)
        assert second.getsockname()[1] > first.getsockname()[1]
        second.close()
        with pytest.raises(PortTaken, match="choose another --port"):
            bind(Config.build({}, directory=tmp_path, port=first.getsockname()[1]))
    finally:
        first.close()


BROKEN = {
    "--host 0.0.0.0": "set a token first",
    "--port http": "--port cannot be 'http'",
    "--token short": "use at least 16",
    "--db mysql://x/y": "give a file name",
    "--public-url nowhere:x": "--public-url cannot be",
    "--log-format xml": "use plain or json",
}


@pytest.mark.parametrize("options", sorted(BROKEN))
def test_what_cannot_be_used_is_said_in_a_sentence(
    tmp_path: Path, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    assert run(parser.parse_args(["--dir", str(tmp_path), *options.split()])) == 2
    assert BROKEN[options] in capsys.readouterr().err


def test_a_database_that_cannot_be_used_is_said_in_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"this is not a database at all, but long enough to be read as one" * 50)
    with process(tmp_path, "--port", "0", "--db", str(broken)) as server:
        _, err = server.communicate(timeout=PATIENCE)
        assert server.returncode == 1
        assert err.startswith("gradwatch: ")
        assert len(err.splitlines()) == 1
        assert not list((tmp_path / "servers").glob("*.json"))


@pytest.mark.slow
def test_a_second_server_on_the_same_database_is_refused(tmp_path: Path) -> None:
    with process(tmp_path, "--port", "0"):
        wait_for(tmp_path)
        with process(tmp_path, "--port", "0") as second:
            _, err = second.communicate(timeout=PATIENCE)
            assert second.returncode == 1
            assert "Traceback" not in err
            assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_ends_although_somebody_is_in_the_middle_of_a_request(tmp_path: Path) -> None:
    with process(tmp_path, "--port", "0", "--log-format", "json") as server:
        found = wait_for(tmp_path)
        with socket.create_connection(("127.0.0.1", found.port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\n")
            server.send_signal(signal.SIGTERM)
            _, err = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        for line in err.splitlines():
            json.loads(line)
