"""The WebSocket link over a TCP proxy that cuts, delays, halves and swallows what passes."""

from __future__ import annotations

import glob
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.proxy import Proxy
from tests.client.serving import serving

import gradwatch
from gradwatch.protocol import Lost
from gradwatch.testing import FakeServer
from gradwatch.transport import Target, WebSocketTransport


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    monkeypatch.delenv("GRADWATCH_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def proxy(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with serving(fake) as port, Proxy(port) as proxy:
        monkeypatch.setenv("GRADWATCH_SERVER", f"http://127.0.0.1:{proxy.port}")
        yield proxy


def stored(fake: FakeServer) -> dict[int, float]:
    return fake.stream.scalar("global_grad_norm")


def test_cuts_at_random_moments_lose_and_double_nothing(fake: FakeServer, proxy: Proxy) -> None:
    chance = random.Random(7)
    steps = 0
    with gradwatch.watch() as run:
        while steps < 400 or proxy.connections <= 3:
            run.record(steps, {"a": float(steps)}, loss=steps / 2)
            steps += 1
            time.sleep(0.002)
            if chance.random() < 0.03:
                proxy.cut()
            assert steps < 20_000, "it does not connect again"
        proxy.chunk = 3
    assert stored(fake) == {step: float(step) for step in range(steps)}
    assert fake.stream.scalar("loss") == {step: step / 2 for step in range(steps)}
    assert not fake.stream.of(Lost)


def test_messages_cut_into_single_bytes_and_delayed(fake: FakeServer, proxy: Proxy) -> None:
    proxy.chunk, proxy.delay = 7, 0.0005
    with gradwatch.watch() as run:
        for step in range(20):
            run.record(step, {"a": 1.0})
        fake.wait(lambda s: bool(s.streams) and len(stored(s)) == 20)


def test_a_black_hole_blocks_neither_training_nor_the_spool(
    fake: FakeServer, proxy: Proxy, home: Path
) -> None:
    run = gradwatch.watch()
    run.record(0, {"a": 0.0})
    fake.wait(lambda s: bool(s.streams) and len(stored(s)) == 1)
    proxy.swallow = True
    width = {f"layer.{i}": 1.0 for i in range(2_000)}
    for step in range(1, 300):
        run.record(step, width)
        time.sleep(0.005)
    (folder,) = (home / "spool").iterdir()
    assert any(path.stat().st_size > 100_000 for path in folder.glob("*.gws"))
    proxy.swallow = False
    proxy.cut()
    run.finish()
    assert sorted(stored(fake)) == list(range(300))
    assert not list((home / "spool").iterdir())


def test_no_server_for_a_while_and_then_one(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    monkeypatch.setenv("GRADWATCH_SERVER", f"http://127.0.0.1:{port}")
    with gradwatch.watch() as run:
        run.record(0, {"a": 1.0})
        with serving(fake, port):
            fake.wait(lambda s: bool(s.streams) and len(stored(s)) == 1)
            run.record(1, {"a": 1.0})
            run.finish()
    assert sorted(stored(fake)) == [0, 1]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"garbage\r\n\r\n", b""]
)
def test_what_is_no_websocket_is_an_oserror(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(OSError):
            WebSocketTransport(
                lambda: Target(f"ws://127.0.0.1:{server.getsockname()[1]}/ws/ingest")
            ).connect()
        thread.join()


@pytest.mark.slow
def test_sigkill_loses_at_most_the_last_half_second(
    fake: FakeServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer runs with no server, is killed, and its spool is delivered by the next run of the same kind."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    monkeypatch.setenv("GRADWATCH_SERVER", f"http://127.0.0.1:{port}")
    script = (
        "import time, gradwatch\nrun = gradwatch.watch()\nstep = 0\nwhile True:\n"
        "    run.record(step, {'a': float(step)})\n    print(step, time.time(), flush=True)\n    step += 1\n    time.sleep(0.01)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ.copy(),
    )
    assert process.stdout is not None
    lines = [next(process.stdout).split() for _ in range(200)]
    process.kill()
    lines += [line.split() for line in process.communicate()[0].splitlines()]
    written = {int(step): float(at) for step, at, *_ in lines}
    with serving(fake, port), gradwatch.watch():
        fake.wait(lambda s: any(stream.series("grad_norm") for stream in s.streams.values()))
        fake.wait(lambda s: not glob.glob(str(home / "spool" / "*" / "*.gws")))
    (kept,) = [
        stream.scalar("global_grad_norm") for stream in fake.streams.values() if stream.series("grad_norm")
    ]
    assert kept == {step: float(step) for step in range(len(kept))}
    lost = [at for step, at in written.items() if step not in kept]
    # Half a second, two steps, and as much again as a turn of the sender may take on a busy machine.
    assert len(kept) > 50 and max(written.values()) - min(lost, default=max(written.values())) < 1.5
