"""Mutated frames on the codec, the store and both sockets: refused with a sentence, or stored; never a crash, never much
memory, and who sends beside them is not harmed."""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults.conftest import LONG
from tests.faults.mutate import ODD, a_batch, a_schema, mutated, originals
from tests.server.live_server import Page, Running, Trainer, batch, hello, schema, serving
from tests.server.store.helpers import WAIT, opened
from websockets.exceptions import ConnectionClosed

from gradwatch.errors import ConnectionRefused, ProtocolError
from gradwatch.protocol import Batch, Bye, Lost, Mark, Schema, decode, encode
from gradwatch_server.store import Store
from gradwatch_server.store.maintenance import check as doctor

FRAMES = 1_000_000 if LONG else 20_000
STORED = 100_000 if LONG else 1_500
SOCKETS = 10_000 if LONG else 120
MOST_MB = 400
"""How much more memory the process may ever have taken than before."""


pytestmark = pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning"
)  # NumPy's, of a signalling NaN, which stays a NaN


@pytest.fixture(autouse=True)
def memory_stays_bounded() -> Iterator[None]:
    unit = 1024 if sys.platform == "linux" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < MOST_MB << 20


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(3600 if LONG else 400)
def test_the_codec_refuses_with_a_protocol_error_or_reads(home: Path) -> None:
    chance, corpus = random.Random(5), originals()
    refused = 0
    for _ in range(FRAMES):
        try:
            decode(mutated(chance.choice(corpus), chance))
        except ProtocolError as error:
            refused += 1
            assert len(str(error)) < 1_000
    assert FRAMES * 0.3 < refused < FRAMES * 0.95


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 400)
def test_what_can_be_read_can_be_stored_or_is_refused(tmp_path: Path, undo: ExitStack) -> None:
    """Everything that decodes goes into a store with the number it waits for, so that numbers hide nothing."""
    chance = random.Random(6)
    texts = [text for text in originals() if isinstance(text, str)]
    address = str(tmp_path / "gradwatch.db")
    store = Store.open(address, clock=lambda: 1000.0, background=False)
    undo.callback(store.close)
    refused = taken = 0
    waiting = []
    stream = opened(store).stream
    for i in range(STORED):
        if i % 200 == 0:
            stream = opened(store, run_id=f"run-{i}", stream=f"s-{i}", segment=f"g-{i}").stream
            store.append(stream, [a_schema(), a_batch()])
        data = encode(a_batch(first=10 * i, n=chance.randint(1, 9)))
        try:
            record = decode(mutated(data if chance.random() < 0.6 else chance.choice(texts), chance))
        except ProtocolError:
            continue
        if isinstance(record, Schema) and chance.random() < 0.5:
            record = dataclasses.replace(record, id=i)
        if not isinstance(record, (Schema, Batch, Mark, Lost, Bye)):
            continue
        try:
            waiting.append(store.append(stream, [dataclasses.replace(record, seq=stream.next_seq)]).done)
            taken += 1
        except ProtocolError:
            refused += 1
            stream.closed = None  # as if its trainer came again
    for done in waiting:
        done.result(WAIT)
    assert taken > STORED * 0.1 and refused > STORED // 400, (taken, refused)
    store.compact()
    for run in store.runs(limit=10_000):
        for statistic in store.statistics(run.id):
            store.values(run.id, statistic.name, statistic.scope)
    store.close()
    assert doctor(address) == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "server") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 400)
def test_mutated_frames_on_the_ingest_socket_harm_no_neighbour(server: Running, tmp_path: Path) -> None:
    chance, corpus = random.Random(7), originals()
    sent = np.random.default_rng(1).random((SOCKETS, 3), dtype=np.float32)
    with Trainer(server, hello("neighbour")) as neighbour:
        neighbour.send(schema())
        for i in range(SOCKETS):
            neighbour.send(batch(i + 1, [i], sent[i : i + 1]))
            with (
                suppress(ConnectionClosed, ConnectionRefused),
                Trainer(server, hello(f"bad-{i % 40}", stream=f"s{i}", segment=f"g{i}")) as bad,
            ):
                bad.send(schema())
                for j in range(chance.randint(1, 8)):
                    good = chance.random() < 0.3
                    bad.socket.send(
                        mutated(chance.choice(corpus), chance)
                        if not good
                        else json.dumps({"type": "mark", "seq": j + 1, "step": 1, "time": 1.0, "kind": "x"})
                    )
                bad.socket.ping().wait(5)
            if i % 100 == 99:
                neighbour.wait_acked(i)
        neighbour.wait_acked(SOCKETS + 1)
    with server.owner() as api:
        runs = api.get("/api/v1/runs", params={"limit": 500}).json()["runs"]
        assert len(runs) > 10
        for run in runs:
            for path in ("", "/tensors", "/marks"):
                assert api.get(f"/api/v1/runs/{run['id']}{path}").status_code == 200
        reply = api.get(
            "/api/v1/runs/neighbour/values",
            params={"statistic": "grad_norm", "scope": "tensor", "limit": 100_000},
        ).json()
    assert reply["values"] == sent.tolist()


VIEW: dict[str, Any] = {
    "type": "subscribe",
    "id": 1,
    "run": "run-1",
    "statistic": "grad_norm",
    "scope": "tensor",
    "rows": [0, 1],
    "from": 0,
    "to": None,
    "points": 100,
    "segment": None,
}
ASKED: list[dict[str, Any]] = [
    VIEW,
    {"type": "unsubscribe", "id": 1},
    {"type": "follow", "run": "run-1"},
    {"type": "ping"},
]


def rude(server: Running) -> Page:
    """A page that reads nothing, and does not wait to be let go."""
    page = Page(server)
    page.socket.close_timeout = 0.05
    return page


@pytest.mark.timeout(3600 if LONG else 400)
def test_whatever_a_page_says_it_gets_an_answer_and_others_their_numbers(server: Running) -> None:
    chance = random.Random(8)
    with Trainer(server, hello()) as trainer, Page(server) as watcher:
        trainer.send(schema(), batch(1, range(50), np.ones((50, 3))))
        trainer.wait_acked(2)
        watcher.say(**VIEW)
        assert watcher.view(1).series.last_step == 49
        page = rude(server)
        for i in range(SOCKETS):
            message = dict(chance.choice(ASKED))
            if chance.random() < 0.8:
                key = chance.choice(sorted(message))
                message[key] = chance.choice([*ODD, "deep", -5, 1e9, ["x"], [2**40], [0] * 70_000])
            data = "[" * 50_000 if message.get("run") == "deep" else json.dumps(message)
            data = data if chance.random() < 0.9 else str(mutated(data, chance))
            try:
                page.socket.send(data if chance.random() < 0.95 else data.encode()[:100])
            except ConnectionClosed:
                page.__exit__(None, None, None)
                page = rude(server)
            if i % 50 == 49:
                page.__exit__(None, None, None)
                page = rude(server)
        page.__exit__(None, None, None)
        trainer.send(batch(2, [50], np.ones((1, 3))))
        while watcher.view(1).series.last_step < 50:
            pass
