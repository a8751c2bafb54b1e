"""What a script did to itself: stored, listed with what came of it; and incidents that reach the script."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.server.alerts.test_incidents import incident
from tests.server.live_server import PATIENCE, Running, Trainer, batch, hello, schema

from gradwatch.protocol import Batch, Block, Mark, Schema, Statistic, decode
from gradwatch.protocol.messages import Incident
from gradwatch_server import services


def rates() -> Statistic:
    return Statistic(name="lr", scope="run", dtype="f8")


def sent(losses: np.ndarray, lr: np.ndarray, steps: np.ndarray) -> tuple[Schema, Batch]:
    declared = schema()
    declared = dataclasses.replace(declared, statistics=(*declared.statistics, rates()))
    whole = batch(1, steps, np.ones((len(steps), 3)), losses)  # type: ignore[arg-type]
    first = whole.blocks[0]
    block = Block(statistic=2, steps=first.steps, times=first.times, values=lr[:, None])
    return declared, dataclasses.replace(whole, blocks=(*whole.blocks, block))


def test_actions_are_listed_with_what_came_of_them(server: Running) -> None:
    steps = np.arange(300)
    losses = np.where(steps < 100, 2.0, 1.0)
    lr = np.where(steps < 200, 0.1, 0.02)
    data = {"action": "lr_cut", "reason": "because", "old": 1.0, "new": 0.5, "bounds": {"least": 0.05}}
    with Trainer(server, hello()) as trainer, server.owner() as api:
        trainer.send(*sent(losses, lr, steps))
        trainer.send(Mark(seq=2, step=100, time=7.0, kind="action", data=data))
        trainer.send(Mark(seq=3, step=120, time=8.0, kind="note", data={}))
        trainer.wait_acked(4)
        by_hand, cut = api.get("/api/v1/runs/run-1/actions").json()["actions"]
        assert len(api.get("/api/v1/runs/run-1/actions", params={"limit": 1}).json()["actions"]) == 1
    effect = cut.pop("effect")
    assert cut == {"step": 100, "time": 7.0, "by": "script", **data}
    assert effect["verdict"] == "helped" and "the loss went from 2 to 1" in effect["sentence"]
    assert (by_hand["step"], by_hand["by"], by_hand["old"], by_hand["new"]) == (200, "author", 0.1, 0.02)
    assert by_hand["effect"]["verdict"] == "no difference"


def test_a_change_of_the_clip_limit_by_hand_is_listed_with_what_came_of_it(server: Running) -> None:
    steps = np.arange(300)
    losses = np.where(steps <= 150, 2.0, 1.0)
    limit = np.where(steps < 150, 5.0, 1.0)
    declared, numbers = sent(losses, limit, steps)
    clips = Statistic(name="clip_limit", scope="run", dtype="f8")
    declared = dataclasses.replace(declared, statistics=(*declared.statistics[:-1], clips))
    with Trainer(server, hello()) as trainer, server.owner() as api:
        trainer.send(declared, numbers)
        trainer.wait_acked(2)
        (action,) = api.get("/api/v1/runs/run-1/actions").json()["actions"]
    assert (action["step"], action["action"], action["by"]) == (150, "clip_limit", "author")
    assert (action["old"], action["new"]) == (5.0, 1.0)
    assert action["effect"]["verdict"] == "helped"
    assert "the loss went from 2 to 1" in action["effect"]["sentence"]


def test_a_run_without_loss_and_rate_has_a_list_too(server: Running) -> None:
    with Trainer(server, hello()) as trainer, server.owner() as api:
        trainer.send(schema(), batch(1, [0], np.ones((1, 3))))
        trainer.wait_acked(2)
        assert api.get("/api/v1/runs/run-1/actions").json() == {"actions": []}
        trainer.send(Mark(seq=2, step=0, time=7.0, kind="action", data={"action": "skip"}))
        trainer.wait_acked(3)
        (action,) = api.get("/api/v1/runs/run-1/actions").json()["actions"]
    assert action["effect"]["sentence"] == "It is too early to say whether it helped."


def test_the_script_hears_of_incidents_of_its_run(server: Running) -> None:
    with Trainer(server, hello()) as trainer, Trainer(server, hello("run-2")) as other:
        finder = server.services.health._announce
        server.on_loop(lambda: finder("incident", "run-1", incident()))
        server.on_loop(lambda: finder("incident", "run-1", incident(closed_step=40, closed_time=1.0)))
        heard = [decode(trainer.socket.recv(timeout=PATIENCE)) for _ in range(4)]
        opened, closed = (message for message in heard if isinstance(message, Incident))
        assert (opened.kind, opened.severity, opened.open, closed.open) == (
            "exploding",
            "critical",
            True,
            False,
        )
        assert opened.data["sentence"].startswith("Exploding since step 7")
        other.send(schema(), batch(1, [0], np.ones((1, 3))))
        other.wait_acked(2)


def test_who_comes_back_or_late_hears_of_what_is_open(server: Running) -> None:
    """Whose network was down while an incident came would else train on for hours; a run started anew has seen it already."""
    finder = server.services.health._announce

    def heard(*trainers: Trainer) -> list[list[str]]:
        server.on_loop(lambda: finder("incident", "run-1", incident(id="last")))
        server.on_loop(
            lambda: finder("incident", "run-1", incident(id="last", closed_step=41, closed_time=1.0))
        )
        return [[one.id for one in iter(lambda one=one: next_incident(one), None)] for one in trainers]

    def next_incident(trainer: Trainer) -> Incident | None:
        """None after the last that was told."""
        while not isinstance(message := decode(trainer.socket.recv(timeout=PATIENCE)), Incident):
            pass
        return message if message.open or message.id != "last" else None

    with Trainer(server, hello()) as trainer:
        assert heard(trainer) == [["last"]]
    for kind in ("open", "remark", "over"):
        server.on_loop(lambda kind=kind: finder("incident", "run-1", incident(id=kind)))
    server.on_loop(lambda: finder("incident", "run-1", incident(id="remark", severity="info")))
    server.on_loop(lambda: finder("incident", "run-1", incident(id="over", closed_step=40, closed_time=1.0)))
    with Trainer(server, hello()) as again, Trainer(server, hello(stream="late", rank=3)) as late:
        assert heard(again, late) == [["open", "last"], ["open", "last"]]
    with Trainer(server, hello(stream="new", segment="anew", started_at=1_700_009_000.0)) as anew:
        assert heard(anew) == [["last"]]


def test_a_run_that_is_sent_hears_of_incidents_however_many_others_have_begun_since(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for who comes late there is nothing any more."""
    monkeypatch.setattr(services, "_MOST_RUNS", 1)
    finder = server.services.health._announce
    with Trainer(server, hello()) as trainer, Trainer(server, hello("run-2")):
        server.on_loop(lambda: finder("incident", "run-1", incident()))
        while not isinstance(heard := decode(trainer.socket.recv(timeout=PATIENCE)), Incident):
            pass
        assert heard.kind == "exploding"
