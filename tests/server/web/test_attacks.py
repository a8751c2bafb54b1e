"""Those who mean no good: each gets a refusal, and everybody else goes on as before."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import PATIENCE, Page, Running, Trainer, batch, hello, schema, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gradwatch.errors import ConnectionRefused
from gradwatch.protocol import ClientSession, encode
from gradwatch.protocol.session import Opened
from gradwatch_server.web.edge import MOST_BODY

from .test_access import OPERATIONS


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server lives on after a test, with threads that came during it; ``serving`` sees to their end."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("attacks")) as running:
        with Trainer(running, hello("run-1")) as trainer:
            trainer.send(schema(), batch(1, range(4), np.ones((4, 3)), [1.0] * 4))
            trainer.wait_acked(2)
        yield running


def mutated(data: bytes, dice: random.Random) -> bytes:
    """``data`` with some of it flipped, cut out, doubled or appended."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        kind, at = dice.randrange(5), dice.randrange(len(changed) + 1)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del changed[at : at + dice.randint(1, 40)]
        elif kind == 2:
            changed[at:at] = changed[at : at + 64]
        elif kind == 3:
            changed[at:at] = dice.randbytes(dice.randint(1, 16))
        else:
            changed[at : at + 4] = dice.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
    return bytes(changed)


@pytest.mark.parametrize("seed", range(40))
def test_mutated_frames_end_their_own_socket_at_worst(server: Running, seed: int) -> None:
    dice = random.Random(seed)
    with Trainer(server, hello(f"fuzz-{seed}")) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
        good = encode(batch(1, range(3), np.ones((3, 3)), [1.0] * 3))
        assert isinstance(good, bytes)
        try:
            for _ in range(50):
                trainer.socket.send(mutated(good, dice))
            trainer.wait_acked(52)
        except ConnectionRefused as refused:
            assert refused.code in ("malformed", "too_large")
        except ConnectionClosed:
            pass
    with server.owner() as api:
        assert api.get("/readyz").status_code == 200
        assert (
            api.get("/api/v1/runs/run-1/values", params={"statistic": "loss", "scope": "run"}).json()[
                "values"
            ]
            == [[1.0]] * 4
        )


ODD_VALUES = [
    "",
    "0",
    "-1",
    "1e999",
    "NaN",
    "null",
    "[]",
    "9" * 30,
    "x" * 3000,
    "\u202e",
    "%",
    "'; DROP TABLE runs; --",
    "../..",
]
BODIES: list[Any] = [
    None,
    [],
    {},
    "x",
    0,
    {"name": None},
    {"name": ["x"] * 100},
    {"run": 5, "view": {}},
    {"statistic": "\0"},
]


@pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=[f"{method} {path}" for method, path, _ in OPERATIONS]
)
def test_odd_values_are_never_our_mistake(
    server: Running, method: str, path: str, operation: dict[str, Any]
) -> None:
    dice = random.Random(path)
    names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    with server.owner() as api:
        for i in range(25):
            target = path.replace("{run_id}", "run-1" if i % 3 and method != "DELETE" else "%F0%9F%92%A5")
            target = target.replace("{", "").replace("}", "")
            query = {
                name: dice.choice([*ODD_VALUES, "run-1", "loss", "run"])
                for name in names
                if dice.random() < 0.7
            }
            body = dice.choice(BODIES) if method != "GET" else None
            reply = api.request(method, target, params=query, json=body)
            assert reply.status_code < 500, (target, query, body, reply.text)


def test_a_body_above_the_limit_is_refused_declared_or_not(server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(40):
            yield b"x" * 65_536
        yield b'"}'

    with server.owner(**{"Content-Type": "application/json"}) as api:
        declared = api.patch("/api/v1/runs/run-1", content=b"x" * (MOST_BODY + 1))
        assert (declared.status_code, declared.json()["error"]["code"]) == (413, "too_large")
        assert api.patch("/api/v1/runs/run-1", content=chunks()).status_code in (400, 413)


def test_compression_is_not_offered_so_there_are_no_bombs(server: Running) -> None:
    for path in ("/ws/ingest", "/ws/live"):
        with connect(server.socket_url + path, compression="deflate", proxy=None) as client:
            assert not client.protocol.extensions


def test_half_requests_hold_up_nobody(server: Running) -> None:
    halves = []
    try:
        for _ in range(200):
            half = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-")
            halves.append(half)
        with server.owner() as api:
            assert api.get("/api/v1/runs").status_code == 200
    finally:
        for half in halves:
            half.close()


def test_too_many_pages_are_told_so(server: Running) -> None:
    limits = server.services.metrics.open
    server.on_loop(lambda: limits.update({"viewers": 2_000}))
    try:
        with pytest.raises(ConnectionClosed) as closed:
            Page(server)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
    finally:
        server.on_loop(lambda: limits.update({"viewers": -2_000}))


def test_a_page_may_have_so_many_views_and_no_more(server: Running) -> None:
    with Page(server) as page:
        for number in range(1, 65):
            page.say(type="subscribe", id=number, run="run-1", statistic="loss", scope="run")
        page.say(type="subscribe", id=65, run="run-1", statistic="loss", scope="run")
        assert page.hear("error", id=65)["code"] == "too_many"
        page.say(type="subscribe", id=64, run="run-1", statistic="grad_norm")
        assert page.view(64).series.last.shape[0] in (1, 3)


def test_long_and_bidirectional_names_are_shown_as_they_are(server: Running) -> None:
    name = "\u202e\u2066" + "<i>" * 100 + '"\\\x00\x1b'
    with Trainer(server, hello("odd-names", name=name, project="</title>")) as trainer:
        trainer.send(schema(["a" * 512, name[:500], "quo\"te's/%2e%2e/.."]))
        trainer.wait_acked(1)
    headers, _ = server.browser()
    with server.client(**headers) as browser:
        page = browser.get("/runs/odd-names").text
        assert "<i>" not in page
        assert "</title></" not in page
        tensors = browser.get("/api/v1/runs/odd-names/tensors").json()["tensors"]
        assert tensors[2]["name"] == "quo\"te's/%2e%2e/.."


def test_a_name_that_is_too_long_is_refused_with_a_sentence(server: Running) -> None:
    with Trainer(server, hello("long-name")) as trainer:
        trainer.send(schema(["a" * 513]))
        with pytest.raises(ConnectionRefused, match="512"):
            trainer.wait_acked(1)


def test_a_recorded_introduction_opens_nothing_when_it_is_played_again(server: Running) -> None:
    session = ClientSession(hello("recorded"), nonce="0123456789abcdef", key=server.key)
    said: list[str] = [session.start()]
    with connect(f"{server.socket_url}/ws/ingest", compression=None, proxy=None) as client:
        client.send(said[0])
        opened = False
        while not opened:
            out, events = session.receive(client.recv(timeout=PATIENCE))
            opened = any(isinstance(event, Opened) for event in events)
            for text in out:
                client.send(text)
            said += out
    with connect(f"{server.socket_url}/ws/ingest", compression=None, proxy=None) as replayed:
        heard: list[str] = []
        with pytest.raises(ConnectionClosed):
            for text in said:
                replayed.send(text)
            while True:
                heard.append(str(replayed.recv(timeout=PATIENCE)))
    assert not any('"type":"welcome"' in text.lower().replace(" ", "") for text in heard), heard
    assert len(said) > 1, "there was a proof to be replayed"
