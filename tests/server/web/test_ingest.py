"""The ingest socket: a real server, a real WebSocket client, the real protocol."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import PATIENCE, Page, Running, Trainer, batch, hello, schema, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from gradwatch.errors import ConnectionRefused
from gradwatch.protocol import Bye, Heartbeat, Mark, encode
from gradwatch_server.errors import StoreError


def norms(n: int, tensors: int = 3, start: float = 1.0) -> np.ndarray[Any, Any]:
    return (start + np.arange(n * tensors, dtype=np.float32)).reshape(n, tensors)


def stored(
    server: Running, statistic: str = "grad_norm", scope: str = "tensor", run: str = "run-1"
) -> list[Any]:
    with server.owner() as api:
        reply = api.get(
            f"/api/v1/runs/{run}/values", params={"statistic": statistic, "scope": scope, "limit": 10_000}
        )
    assert reply.status_code == 200, reply.text
    values: list[Any] = reply.json()["values"]
    return values


def test_what_is_sent_is_acknowledged_and_stored(server: Running) -> None:
    sent = norms(5)
    with Trainer(server, hello()) as trainer:
        assert trainer.welcome.next_seq == 0
        assert trainer.welcome.run_url == f"{server.url}/runs/run-1"
        assert trainer.welcome.instance == server.services.instance
        trainer.send(schema(), batch(1, range(3), sent[:3], [3.0, 2.0, 1.0]), batch(2, range(3, 5), sent[3:]))
        trainer.wait_acked(3)
    assert stored(server) == sent.tolist()
    assert stored(server, "loss", "run") == [[3.0], [2.0], [1.0]]


def test_a_reconnect_goes_on_and_a_resend_changes_nothing(server: Running) -> None:
    sent = norms(4)
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(), batch(1, [0, 1], sent[:2]))
        trainer.wait_acked(2)
    with Trainer(server, hello()) as again:
        assert again.welcome.next_seq == 2
        again.send(batch(1, [0, 1], sent[:2] * 100), batch(2, [2, 3], sent[2:]))
        again.wait_acked(3)
    assert stored(server) == sent.tolist()


def test_a_restart_of_the_server_loses_nothing(tmp_path: Any) -> None:
    sent = norms(4)
    with serving(tmp_path) as first, Trainer(first, hello()) as trainer:
        trainer.send(schema(), batch(1, [0, 1], sent[:2]))
        trainer.wait_acked(2)
    with serving(tmp_path) as second, Trainer(second, hello()) as again:
        assert second.key == first.key
        assert again.welcome.next_seq == 2
        again.send(batch(2, [2, 3], sent[2:]))
        again.finish(3)
        assert stored(second) == sent.tolist()


def test_a_client_without_the_token_is_refused(server: Running) -> None:
    for key in ("", "00" * 32):
        with pytest.raises(ConnectionRefused, match="token"):
            Trainer(server, hello(), key=key)


def test_an_open_server_takes_a_client_without_token(tmp_path: Any) -> None:
    with serving(tmp_path, insecure_open=True) as server, Trainer(server, hello(), key="") as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)


def test_another_client_cannot_claim_a_run(server: Running) -> None:
    with Trainer(server, hello()) as mine:
        with pytest.raises(ConnectionRefused, match="already owns run") as refused:
            Trainer(server, hello(run_key="another key", stream="another"))
        assert refused.value.code == "run_taken"
        mine.send(schema())
        mine.wait_acked(1)


def test_a_newer_stream_fences_the_older(server: Running) -> None:
    with Trainer(server, hello()) as older:
        older.send(schema())
        older.wait_acked(1)
        with Trainer(server, hello(stream="newer")) as newer:
            with pytest.raises(ConnectionRefused) as cut:
                older.wait_acked(2)
            assert cut.value.code == "fenced"
            newer.send(schema(), batch(1, [1], norms(1)))
            newer.wait_acked(2)
        with pytest.raises(ConnectionRefused) as refused:
            Trainer(server, hello())
        assert refused.value.code == "fenced"


BAD_MESSAGES = {
    "a batch before any schema": encode(batch(0, [0], norms(1))),
    "a gap in the sequence": encode(batch(7, [0], norms(1))),
    "a truncated batch": encode(batch(0, [0], norms(1)))[:-8],
    "not a message": b"\0" * 64,
    "not JSON": "{",
    "bare NaN": '{"type":"mark","seq":0,"step":1,"time":NaN,"kind":"note"}',
    "unknown type": '{"type":"teapot"}',
    "deep nesting": "[" * 100_000,
}


@pytest.mark.parametrize("name", sorted(BAD_MESSAGES))
def test_a_bad_message_ends_its_socket_with_a_sentence_and_hurts_nobody_else(
    server: Running, name: str
) -> None:
    with Trainer(server, hello("neighbour")) as neighbour, Trainer(server, hello()) as bad:
        neighbour.send(schema())
        bad.socket.send(BAD_MESSAGES[name])
        with pytest.raises(ConnectionRefused) as refused:
            bad.wait_acked(1)
        assert refused.value.code == "malformed"
        assert len(str(refused.value)) > 20
        neighbour.send(batch(1, [0], norms(1)))
        neighbour.wait_acked(2)


def test_what_was_good_before_a_bad_message_is_kept(server: Running) -> None:
    sent = norms(2)
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(), batch(1, [0], sent[:1]), batch(2, [1], sent[1:]), batch(3, [1], sent[1:]))
        with pytest.raises(ConnectionRefused, match="steps must rise"):
            trainer.wait_acked(4)
    with Trainer(server, hello()) as again:
        assert again.welcome.next_seq == 3
    assert stored(server) == sent.tolist()


def test_too_large_a_message_is_refused(server: Running) -> None:
    with Trainer(server, hello()) as trainer, pytest.raises((ConnectionClosed, ConnectionRefused)):
        trainer.socket.send(b"\0" * (17 * 1024 * 1024))
        trainer.wait_acked(1)


def test_a_page_of_another_origin_cannot_connect(server: Running) -> None:
    address, foreign = f"{server.socket_url}/ws/ingest", Origin("https://evil.example")
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin=foreign, proxy=None):
        pass


def test_the_end_of_a_run_and_its_marks_are_told(server: Running) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(
            schema(),
            Mark(seq=1, step=3, time=1_700_000_003.0, kind="checkpoint", data={"path": "<b>x</b>"}),
            Bye(
                seq=2,
                state="failed",
                time=1_700_000_004.0,
                reason="ValueError: no",
                error={"type": "ValueError"},
            ),
        )
        trainer.wait_acked(3)
    with server.owner() as api:
        run = api.get("/api/v1/runs/run-1").json()["run"]
        marks = api.get("/api/v1/runs/run-1/marks").json()["marks"]
    assert (run["state"], run["error"]) == ("failed", {"type": "ValueError"})
    assert [(mark["step"], mark["kind"], mark["data"]) for mark in marks] == [
        (3, "checkpoint", {"path": "<b>x</b>"})
    ]


def test_a_silent_client_is_sent_away(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradwatch_server.web.ingest.HELLO_SECONDS", 0.05)
    with connect(f"{server.socket_url}/ws/ingest", proxy=None) as socket:
        told = json.loads(socket.recv(timeout=PATIENCE))
        assert told["type"] == "error"
        assert "introduce itself" in told["message"]


def test_when_the_database_refuses_the_client_is_told_to_come_back(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)

        def full(*_: object, **__: object) -> None:
            raise StoreError("the disk is full: make room, the server goes on by itself")

        with monkeypatch.context() as broken:
            broken.setattr("gradwatch_server.store.writes.apply_changes", full)
            trainer.send(batch(1, [0], norms(1)))
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    told = json.loads(trainer.socket.recv(timeout=PATIENCE))
                    assert (told["type"], told["fatal"]) == ("error", False)
                    assert "the disk is full" in told["message"]
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
    with Trainer(server, hello()) as again:
        assert again.welcome.next_seq == 1
        again.send(batch(1, [0], norms(1)))
        again.wait_acked(2)
    assert stored(server) == norms(1).tolist()


def test_heartbeats_keep_a_run_alive_and_bring_a_lost_one_back(tmp_path: Any) -> None:
    now = [1_800_000_000.0]

    def state() -> str:
        with server.owner() as api:
            found: str = api.get("/api/v1/runs/run-1").json()["run"]["state"]
            return found

    with serving(tmp_path, clock=lambda: now[0]) as server, Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
        with Page(server) as page:
            now[0] += 100
            event = page.hear("event", kind="run")
            while event["data"]["state"] != "lost":
                event = page.hear("event", kind="run")
            assert state() == "lost"
            trainer.socket.send(encode(Heartbeat(time=now[0], step=0, cost={"us_per_step": 5.0})))
            while event["data"]["state"] != "running":
                event = page.hear("event", kind="run")
            assert state() == "running"


def test_many_small_messages_are_taken_together(server: Running) -> None:
    sent = norms(300)
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(), *(batch(1 + i, [i], sent[i : i + 1], [float(i)]) for i in range(300)))
        trainer.wait_acked(301)
    assert stored(server) == sent.tolist()
    assert stored(server, "loss", "run") == [[float(i)] for i in range(300)]
