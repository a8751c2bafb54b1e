"""A comparison frozen into one file: what a link to it shows, nothing more, and it opens from a disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.server.live_server import CONTEXT, Running, Trainer, hello, serving
from tests.server.offline import data_of, zoom_offline

from gradwatch.protocol import Batch, Block, Schema, Statistic, Tensor

NASTY = "</script><b>b</b>\u202e'\"&"
STEPS = {"run-1": 3_000, "run-2": 500, "empty": 0}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server and the browser's driver outlive a test."""


def numbers(steps: int, bad: int | None) -> tuple[Schema, Batch]:
    """A loss, and a norm over one tensor that is NaN from step ``bad`` on. A step takes two seconds, later ones four."""
    axis = np.arange(steps, dtype=np.float64)
    times = 1.7e9 + axis * 2 + np.maximum(axis - steps // 2, 0) * 2
    norms = np.linspace(1, 2, steps)[:, None]
    if bad is not None:
        norms[bad:] = np.nan
    statistics = (
        Statistic(name="global_grad_norm", scope="run", dtype="f8"),
        Statistic(name="loss", scope="run", dtype="f8", logged=True),
    )
    blocks = tuple(
        Block(statistic=i, steps=axis, times=times, values=norms if i == 0 else np.ones((steps, 1)))
        for i in (0, 1)
    )
    tensors = (Tensor(name="a", shape=(1,), numel=1, depth=0, module=""),)
    return Schema(seq=0, id=0, tensors=tensors, statistics=statistics), Batch(seq=1, schema=0, blocks=blocks)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("comparison")) as running:
        for run, bad, lr in (("run-1", 2_347, 0.125), ("run-2", None, 0.25), ("empty", None, 0.25)):
            context = {
                **CONTEXT,
                "config": {**CONTEXT["config"], "lr": lr, "cache": f"/secret-{run}", "opt": "Adam"},
            }
            with Trainer(
                running, hello(run, name=NASTY if run == "run-1" else run, context=context)
            ) as trainer:
                if STEPS[run]:
                    trainer.send(*numbers(STEPS[run], bad))
                    trainer.wait_acked(2)
        with running.owner() as api:
            api.patch("/api/v1/runs/run-1", json={"notes": "among us"})
        yield running


def ask(server: Running, *runs: str, x: str = "step", **headers: str) -> httpx.Response:
    with server.client(**(headers or {"Authorization": f"Bearer {server.services.token}"})) as client:
        return client.get("/api/v1/compare/snapshot", params={"run": list(runs), "x": x})


def lines_of(text: str, name: str) -> list[dict[str, Any]]:
    (chart,) = (chart for chart in data_of(text)["compared"]["charts"] if chart["name"] == name)
    lines: list[dict[str, Any]] = chart["lines"]
    return lines


def test_each_run_is_drawn_over_its_own_steps(server: Running) -> None:
    reply = ask(server, "run-1", "run-2")
    assert reply.status_code == 200
    assert re.fullmatch(
        r'attachment; filename="comparison-[A-Za-z0-9_.-]+\.html"', reply.headers["content-disposition"]
    )
    first, second = lines_of(reply.text, "global_grad_norm")
    assert (first["run"], second["run"]) == (0, 1)
    assert second["x"] == list(range(500)) and second["last"][-1] == 2
    assert first["x"][-1] + (first["x"][1] - first["x"][0]) >= 3_000 and len(first["x"]) <= 800
    assert first["odd"] and not second["odd"]


def test_what_went_wrong_and_what_was_set_differently_is_told(server: Running) -> None:
    text = ask(server, "run-1", "run-2").text
    assert "<th>First NaN or Inf</th><td>step 2,347</td><td>none</td>" in text
    assert "<th>Steps</th><td>3,000</td><td>500</td>" in text
    assert "<th>lr</th><td>0.125</td><td>0.25</td>" in text
    assert "<th>opt</th>" not in text and "<b>b</b>" not in text


def test_over_time_each_run_begins_at_zero(server: Running) -> None:
    text = ask(server, "run-1", "run-2", x="time").text
    assert data_of(text)["compared"]["x"] == "hours since each run's first step"
    _, second = lines_of(text, "loss")
    assert second["x"][0] == 0
    assert second["x"][250] == pytest.approx(500 / 3600, rel=0.05)
    assert second["x"][-1] == pytest.approx((499 * 2 + 249 * 2) / 3600, rel=0.01)


@pytest.mark.parametrize("x", ["step", "time"])
def test_a_run_without_steps_has_a_column_and_no_line(server: Running, x: str) -> None:
    text = ask(server, "empty", "run-2", x=x).text
    assert [line["run"] for line in lines_of(text, "loss")] == [1]
    assert "<th>Steps</th><td>0</td><td>500</td>" in text


def test_it_holds_no_more_than_a_link_to_it_shows(server: Running) -> None:
    for x in ("step", "time"):
        text = ask(server, "run-1", "run-2", x=x).text
        for secret in ("secret-", "train.py", "among us", "api_key", "cache</th>", server.services.token):
            assert secret not in text


def test_only_owners_save_it_and_only_of_runs_that_are_there(server: Running) -> None:
    with server.owner() as api:
        token = api.post("/api/v1/shares", json={"run": "run-1", "others": ["run-2"]}).json()["token"]
    assert ask(server, "run-1", "run-2", **{"X-Gradwatch-Share": token}).status_code == 403
    assert ask(server, "run-1", "run-2", **{"X-Nobody": "1"}).status_code == 401
    assert ask(server, "run-1", "none").status_code == 404
    assert ask(server, "run-1", "run-1").status_code == ask(server, *"abcdef").status_code == 422
    assert ask(server, "run-1", "run-2", x="colour").status_code == 422


@pytest.mark.e2e
def test_it_opens_from_a_file_without_network_and_zooms(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    path.write_text(ask(server, "run-1", "run-2", x="time").text, encoding="utf-8")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(zoom_offline, path, plots=2, title="run-2").result() == []
