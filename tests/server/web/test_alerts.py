"""Alerts through the API, over restarts and at the end of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import Page, Running, Trainer, batch, hello, schema, serving
from tests.server.web.events import hear

from gradwatch.protocol import Bye

RULE: dict[str, Any] = {"statistic": "loss", "threshold": 10, "for_steps": 3, "recover_steps": 4}


def alerts(server: Running, **params: Any) -> list[dict[str, Any]]:
    with server.owner() as api:
        listed: list[dict[str, Any]] = api.get("/api/v1/alerts", params=params).json()["alerts"]
    return listed


def make_rule(server: Running, **fields: Any) -> str:
    with server.owner() as api:
        reply = api.post("/api/v1/rules", json={**RULE, **fields})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["rule"]["id"])


def losses(seq: int, first: int, *values: float) -> Any:
    steps = range(first, first + len(values))
    return batch(seq, steps, np.ones((len(values), 3), np.float32), values)


def settle(server: Running, page: Page, opened: bool) -> dict[str, Any]:
    """The next alert event in which the alert is open, or isn't."""
    while True:
        alert: dict[str, Any] = hear(page, "alert")
        if (alert["cleared_step"] is None) == opened:
            return alert


@pytest.mark.slow
def test_a_restart_in_the_middle_of_everything_changes_nothing(tmp_path: Path) -> None:
    """The same losses with a restart after every single step give the same alerts as without any."""
    values = [1, 20, 20, 20, 30, 1, 1, 25, 1, 1, 1, 1, 1, 20, 20, 1, 20, 20, 20]
    with serving(tmp_path / "whole") as server:
        make_rule(server)
        with Trainer(server, hello()) as trainer:
            trainer.send(schema(), losses(1, 0, *values))
            trainer.wait_acked(2)
    with serving(tmp_path / "whole") as server:
        expected = alerts(server)
    for step, value in enumerate(values):
        with serving(tmp_path / "parts") as server:
            if step == 0:
                make_rule(server)
            with Trainer(server, hello()) as trainer:
                if step == 0:
                    trainer.send(schema())
                trainer.send(losses(step + 1, step, value))
                trainer.wait_acked(step + 2)
    with serving(tmp_path / "parts") as server:
        got = alerts(server)
    same = ("opened_step", "cleared_step", "peak", "count", "sentence", "reason")
    assert [[alert[key] for key in same] for alert in got] == [[a[key] for key in same] for a in expected]
    assert [(a["opened_step"], a["cleared_step"], a["peak"]) for a in got] == [
        (18, None, 20.0),
        (3, 11, 30.0),
    ]


def test_a_rule_never_fires_for_the_past_not_even_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Trainer(server, hello()) as trainer:
        trainer.send(schema(), losses(1, 0, 20, 20, 20, 20, 1))
        trainer.wait_acked(2)
        make_rule(server, for_steps=1)
    with serving(tmp_path) as server, Trainer(server, hello()) as trainer:
        trainer.send(losses(2, 5, 1, 1))
        trainer.wait_acked(3)
        assert alerts(server) == []
    with serving(tmp_path) as server, Trainer(server, hello()) as trainer:
        trainer.send(losses(3, 7, 1, 30))
        trainer.wait_acked(4)
    with serving(tmp_path) as server:
        assert [a["opened_step"] for a in alerts(server)] == [8]


def test_a_run_that_ended_and_goes_on_starts_afresh(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Trainer(server, hello()) as trainer:
        make_rule(server, for_steps=1)
        trainer.send(schema(), losses(1, 0, 1, 20, 20), Bye(seq=2, state="preempted", time=1_700_000_100.0))
        trainer.wait_acked(3)
    again = hello(stream="stream 2", segment="segment 2", start_step=2)
    with serving(tmp_path) as server, Trainer(server, again) as trainer:
        trainer.send(schema(), losses(1, 2, 1, 1))
        trainer.wait_acked(2)
        (old,) = alerts(server)
        assert (old["opened_step"], old["reason"]) == (1, "run ended")
        trainer.send(losses(2, 4, 40))
        trainer.wait_acked(3)
    with serving(tmp_path) as server:
        assert [(a["opened_step"], a["peak"]) for a in alerts(server)] == [(4, 40.0), (1, 20.0)]


def test_open_and_cleared_alerts_are_told_apart(server: Running) -> None:
    make_rule(server, for_steps=1, recover_steps=1)
    with Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run=None)
        trainer.send(schema(), losses(1, 0, 20, 1, 30))
        trainer.wait_acked(2)
        settle(server, page, opened=False)
        settle(server, page, opened=True)
    assert [a["opened_step"] for a in alerts(server)] == [2, 0]
    assert [a["opened_step"] for a in alerts(server, open=True)] == [2]
    assert [a["opened_step"] for a in alerts(server, open=False)] == [0]
    assert alerts(server, run="another") == []


def test_an_acknowledgement_is_told_and_kept(server: Running) -> None:
    make_rule(server, for_steps=1)
    with server.owner() as api, Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run="run-1")
        trainer.send(schema(), losses(1, 0, 20))
        alert = settle(server, page, opened=True)
        path = f"/api/v1/alerts/{alert['id']}/acknowledge"
        reply = api.post(path, json={"note": "  on it <script>  "})
        assert (reply.json()["alert"]["acknowledged"], reply.json()["alert"]["note"]) == (
            True,
            "on it <script>",
        )
        told = hear(page, "alert")
        assert (told["acknowledged"], told["note"]) == (True, "on it <script>")
        trainer.send(losses(2, 1, 1, 1, 1, 1))
        closed = settle(server, page, opened=False)
        assert (closed["acknowledged"], closed["note"]) == (True, "on it <script>")
        assert api.post("/api/v1/alerts/none/acknowledge", json={}).status_code == 404
        assert api.post(path, json={"note": "x" * 3000}).status_code == 422


def test_a_muted_alert_says_until_when(server: Running) -> None:
    make_rule(server, for_steps=1)
    with server.owner() as api, Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run="run-1")
        trainer.send(schema(), losses(1, 0, 20))
        alert = settle(server, page, opened=True)
        path = f"/api/v1/alerts/{alert['id']}/mute"
        until = api.post(path, json={"seconds": 3600}).json()["alert"]["muted_until"]
        assert abs(until - server.services.clock() - 3600) < 60
        assert hear(page, "alert")["muted_until"] == until
        assert api.post(path, json={"seconds": None}).json()["alert"]["muted_until"] is None
        assert api.post(path, json={"seconds": -1}).status_code == 422


def test_a_link_sees_the_alerts_of_its_run_without_notes(server: Running) -> None:
    make_rule(server, for_steps=1)
    with server.owner() as api:
        for run in ("run-1", "run-2"):
            with Trainer(server, hello(run)) as trainer, Page(server) as page:
                page.say(type="follow", run=run)
                trainer.send(schema(), losses(1, 0, 20))
                alert = settle(server, page, opened=True)
                api.post(f"/api/v1/alerts/{alert['id']}/acknowledge", json={"note": "among us"})
        token = api.post("/api/v1/shares", json={"run": "run-1"}).json()["token"]
    with server.client(**{"X-Gradwatch-Share": token}) as viewer:
        (seen,) = viewer.get("/api/v1/alerts", params={"run": "run-1"}).json()["alerts"]
        assert (seen["run_id"], seen["note"], seen["acknowledged"]) == ("run-1", "", True)
        assert viewer.get("/api/v1/alerts", params={"run": "run-2"}).status_code == 404
        assert viewer.get("/api/v1/alerts").status_code == 404
        path = f"/api/v1/alerts/{seen['id']}/acknowledge"
        assert viewer.post(path, json={"note": "mine"}).status_code == 403


def test_the_end_of_a_run_closes_its_alerts(server: Running) -> None:
    make_rule(server, for_steps=1)
    with Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run="run-1")
        trainer.send(schema(), losses(1, 0, 20))
        settle(server, page, opened=True)
        trainer.send(Bye(seq=2, state="failed", time=1_700_000_100.0))
        closed = settle(server, page, opened=False)
    assert (closed["reason"], closed["cleared_step"]) == ("run ended", 0)


def test_nan_is_a_peak_that_survives_storing(server: Running) -> None:
    rule = make_rule(server, condition="nonfinite", for_steps=1)
    with Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run="run-1")
        trainer.send(schema(), losses(1, 0, 1.0, float("nan")))
        while (alert := hear(page, "alert"))["rule_id"] != rule:
            pass
        assert (alert["peak"], alert["opened_step"]) == ("NaN", 1)
    assert [a["peak"] for a in alerts(server) if a["rule_id"] == rule] == ["NaN"]


def test_a_deleted_run_takes_its_alerts_along(server: Running) -> None:
    make_rule(server, for_steps=1)
    with Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run=None)
        trainer.send(schema(), losses(1, 0, 20))
        settle(server, page, opened=True)
    with server.owner() as api:
        api.post("/api/v1/shares", json={"run": "run-1"})
        assert api.delete("/api/v1/runs/run-1").status_code == 204
        assert api.get("/api/v1/shares").json()["shares"] == []
    assert alerts(server) == []
