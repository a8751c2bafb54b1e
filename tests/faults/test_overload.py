"""Too much at once: trainers come first, pages wait, and a training never does."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.proxy import Proxy
from tests.client.serving import serving as fake_serving
from tests.server.live_server import Page, Running, Trainer, batch, hello, schema, serving
from tests.server.store.helpers import WAIT
from websockets.exceptions import ConnectionClosed

import gradwatch
from gradwatch.testing import FakeServer
from gradwatch_server.load import BUSY_BYTES, LATE_S, Load

WIDTH = 2_000
NAMES = tuple(f"layer.{i}" for i in range(WIDTH))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "server") as running:
        yield running


def stall(server: Running) -> threading.Event:
    """The disk stands still until the event is set."""
    gate = threading.Event()
    server.services.store.database.write(lambda conn: gate.wait(WAIT))
    return gate


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_load_goes_up_at_once_and_down_late() -> None:
    load = Load()
    assert not load.busy
    load.hold(BUSY_BYTES + 1)
    assert load.busy
    load.hold(-BUSY_BYTES // 4)
    assert load.busy, "it must not go to and fro"
    load.hold(-BUSY_BYTES // 2)
    assert not load.busy
    load.came_late(LATE_S * 2)
    assert load.busy
    for _ in range(10):
        load.came_late(0.0)
    assert not load.busy


def test_pages_wait_while_trainers_are_stored(server: Running) -> None:
    load = server.services.load
    values = np.random.default_rng(1).random((400, WIDTH), dtype=np.float32)
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(NAMES), batch(1, [0], values[:1]))
        trainer.wait_acked(2)
        page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm", rows=[0], points=1000)
        assert page.view(1).series.last_step == 0
        server.on_loop(lambda: setattr(load, "busy_bytes", 500_000))
        gate = stall(server)
        for seq in range(2, 302):
            trainer.send(batch(seq, [seq - 1], values[seq - 1 : seq]))
        wait_until(lambda: load.busy)
        with pytest.raises(ConnectionClosed) as closed, Page(server):
            raise AssertionError("a new page came in")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
        gate.set()
        trainer.wait_acked(302)
        wait_until(lambda: load.uncommitted == 0)
        while page.view(1).series.last_step < 300:
            pass
        with Page(server) as late:
            late.say(type="ping")
            late.hear("pong")
    with server.owner() as api:
        found = api.get(
            "/api/v1/runs/run-1/values", params={"statistic": "grad_norm", "rows": "0,7", "limit": 1000}
        ).json()
    assert found["values"] == values[:301, [0, 7]].tolist()


@pytest.mark.slow
def test_what_waits_for_the_disk_is_bounded_over_all_trainers(server: Running) -> None:
    """Reading stops, so their senders keep the rest; when the disk goes on everything arrives."""
    load = server.services.load
    limit, message = 2_000_000, 4 * WIDTH * 50
    server.on_loop(lambda: setattr(load, "most_bytes", limit))
    values = np.random.default_rng(2).random((50 * 20, WIDTH), dtype=np.float32)
    trainers = [Trainer(server, hello(f"run-{i}")) for i in range(4)]
    try:
        for trainer in trainers:
            trainer.send(schema(NAMES))
            trainer.wait_acked(1)
        gate = stall(server)
        most = [0]
        watched = threading.Event()

        def watch() -> None:
            while not watched.wait(0.002):
                most[0] = max(most[0], load.uncommitted)

        def send(trainer: Trainer) -> None:
            for part in range(20):
                steps = range(part * 50, part * 50 + 50)
                trainer.send(batch(part + 1, steps, values[part * 50 : part * 50 + 50]))

        threads = [
            threading.Thread(target=watch),
            *(threading.Thread(target=send, args=[t]) for t in trainers),
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: load.full)
        gate.set()
        for trainer in trainers:
            trainer.wait_acked(21)
        watched.set()
        for thread in threads:
            thread.join()
        assert limit < most[0] < limit + len(trainers) * 3 * message
        wait_until(lambda: load.uncommitted == 0)
    finally:
        for trainer in trainers:
            trainer.__exit__(None, None, None)
    for i in range(4):
        found = server.services.store.values(f"run-{i}", "grad_norm", rows=[0, 9], limit=10_000)
        np.testing.assert_array_equal(found.values, values[:, [0, 9]].astype(np.float64))


@pytest.mark.slow
def test_a_page_that_reads_nothing_keeps_no_trainer_waiting(server: Running) -> None:
    values = np.random.default_rng(3).random((600, WIDTH), dtype=np.float32)
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(NAMES), batch(1, [0], values[:1]))
        trainer.wait_acked(2)
        for view in range(1, 17):
            page.say(type="subscribe", id=view, run="run-1", statistic="grad_norm", points=1000)
        for seq in range(2, 601):
            trainer.send(batch(seq, [seq - 1], values[seq - 1 : seq]))
        trainer.wait_acked(601)
        last = -1
        while last < 599:
            last = max(last, page.view(1).series.last_step)


@pytest.mark.slow
def test_a_server_that_stalls_does_not_slow_the_training(server: Running) -> None:
    """Three runs take steps in turn: one towards a server that works, one to a server that reads nothing any more, one to a
    server that acknowledges nothing. The median step costs the same."""
    token, fake = server.services.token, FakeServer()
    norms = dict.fromkeys(NAMES[:200], 1.0)
    costs: dict[str, list[float]] = {"healthy": [], "deaf": [], "silent": []}
    with Proxy(server.port) as proxy, fake_serving(fake) as silent_port:
        ports = {"healthy": server.port, "deaf": proxy.port, "silent": silent_port}
        runs = {
            name: gradwatch.watch(server=f"http://127.0.0.1:{port}", token="" if name == "silent" else token)
            for name, port in ports.items()
        }
        for run in runs.values():
            run.record(0, norms)
        fake.wait(lambda fake: bool(fake.streams))
        wait_until(lambda: len(server.services.trainers.runs) == 2)
        proxy.swallow, fake.acks = True, False
        for step in range(1, 1_500):
            for name, run in runs.items():
                before = time.perf_counter()
                run.record(step, norms, loss=1.0)
                costs[name].append(time.perf_counter() - before)
        proxy.swallow, fake.acks = False, True
        proxy.cut()
        for run in runs.values():
            run.finish()
    median = {name: statistics.median(cost) for name, cost in costs.items()}
    assert max(median["deaf"], median["silent"]) < 1.5 * median["healthy"], median
    expected = list(range(1, 1_500))
    for name in ("healthy", "deaf"):
        found = server.services.store.values(runs[name].id, "loss", "run", limit=10_000)
        assert found.steps.tolist() == expected
    assert sorted(fake.stream.scalar("loss")) == expected
