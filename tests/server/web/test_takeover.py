"""Who goes on when two connections send one run, and what trouble of the database means to those who send."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import PATIENCE, Running, Trainer, batch, hello, schema
from websockets.exceptions import ConnectionClosed

from gradwatch.errors import ConnectionRefused
from gradwatch.protocol import Error, decode, encode
from gradwatch_server.errors import StoreError


def norms(n: int) -> np.ndarray[Any, Any]:
    return np.arange(1, 1 + n * 3, dtype=np.float32).reshape(n, 3)


def stored(server: Running) -> list[float]:
    with server.owner() as api:
        reply = api.get("/api/v1/runs/run-1/values", params={"statistic": "grad_norm", "scope": "tensor"})
    steps: list[float] = reply.json()["steps"]
    return steps


def told(trainer: Trainer) -> Error:
    """The last thing the server says before it closes."""
    last: Any = None
    with pytest.raises(ConnectionClosed):
        while True:
            last = decode(trainer.socket.recv(timeout=PATIENCE))
    assert isinstance(last, Error)
    return last


def test_the_same_stream_opened_again_sends_the_older_connection_away_but_not_for_good(
    server: Running,
) -> None:
    with Trainer(server, hello()) as older:
        older.send(schema(), batch(1, [0], norms(1)))
        older.wait_acked(2)
        with Trainer(server, hello()) as newer:
            assert newer.welcome.next_seq == 2
            error = told(older)
            assert (error.code, error.fatal) == ("reopened", False)
            newer.send(batch(2, [1], norms(1)))
            newer.wait_acked(3)
    with Trainer(server, hello()) as back:
        assert back.welcome.next_seq == 3
        back.send(batch(3, [2], norms(1)))
        back.wait_acked(4)
    assert stored(server) == [0, 1, 2]


def test_what_is_sent_on_a_connection_that_was_replaced_is_not_refused_for_good(server: Running) -> None:
    """The store closes the older handle before its socket is told: what arrives in between must not read as fenced."""
    with Trainer(server, hello()) as older:
        older.send(schema())
        older.wait_acked(1)
        (connection,) = server.services.trainers._connections["run-1"]
        server.on_loop(lambda: server.services.trainers.leave(connection._stream, connection))
        with Trainer(server, hello()) as newer:
            older.send(batch(1, [0], norms(1)))
            assert told(older).fatal is False
            newer.send(batch(1, [0], norms(1)))
            newer.wait_acked(2)
    assert stored(server) == [0]


def test_a_newer_segment_closes_the_older_one_for_good_only_while_it_lives(server: Running) -> None:
    with Trainer(server, hello()) as older:
        older.send(schema(), batch(1, [0, 1], norms(2)))
        older.wait_acked(2)
        with Trainer(server, hello(stream="s2", segment="g2", start_step=1)) as newer:
            with pytest.raises(ConnectionRefused) as cut:
                older.wait_acked(3)
            assert cut.value.code == "fenced"
            newer.send(schema(), batch(1, [1], norms(1)))
            newer.wait_acked(2)
            with Trainer(server, hello()) as leftover:  # what the older process had spooled
                assert leftover.welcome.next_seq == 2
                leftover.send(batch(2, [2], norms(1)))
                leftover.wait_acked(3)
            newer.send(batch(2, [2], norms(1)))
            newer.wait_acked(3)
    assert stored(server) == [0, 1, 2]


def test_a_database_that_stands_still_is_not_the_fault_of_a_trainer_that_has_introduced_itself(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradwatch_server.web.ingest.HELLO_SECONDS", 0.05)
    gate = threading.Event()
    server.services.store.database.write(lambda conn: gate.wait(PATIENCE))
    threading.Timer(0.5, gate.set).start()
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(), batch(1, [0], norms(1)))
        trainer.wait_acked(2)


def test_when_the_database_refuses_all_streams_of_the_run_are_told_to_come_back(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one of them may take it for the end: a rank that sent nothing in the meantime least of all."""
    other = hello(stream="rank 1", rank=1, world_size=2)
    with Trainer(server, hello()) as first, Trainer(server, other) as second:
        for trainer in (first, second):
            trainer.send(schema())
            trainer.wait_acked(1)

        def full(*_: object, **__: object) -> None:
            raise StoreError("the disk is full: make room, the server goes on by itself")

        with monkeypatch.context() as broken:
            broken.setattr("gradwatch_server.store.writes.apply_changes", full)
            with suppress(ConnectionClosed):
                for seq in range(1, 40):
                    first.socket.send(encode(batch(seq, [seq], norms(1))))
            assert told(first).fatal is False
        second.send(batch(1, [0], norms(1)))
        error = told(second)
        assert (error.code, error.fatal) == ("store", False) and "full" in error.message
    with Trainer(server, hello()) as again:
        assert again.welcome.next_seq == 1
