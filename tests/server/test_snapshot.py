"""A frozen snapshot: everything in one file, nothing in it that a link wouldn't show, and it opens from a disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import Page, Running, Trainer, batch, hello, schema, serving
from tests.server.offline import data_of, zoom_offline
from tests.server.web.events import hear

NASTY = "</script><script>alert(1)</script><!-- \u202e'\"&"
CLEAN = NASTY.replace("\u202e", "\ufffd")
STEPS = 5_000


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server and the browser's driver outlive a test."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("snapshot")) as running:
        rng = np.random.default_rng(3)
        norms = np.exp(rng.normal(0, 0.2, (STEPS, 3))).astype(np.float32)
        norms[4321, 1] = 500.0
        losses = np.exp(rng.normal(0, 0.1, STEPS))
        losses[1234] = np.nan
        with running.owner() as api, Trainer(running, hello(name=NASTY)) as trainer, Page(running) as page:
            page.say(type="follow", run="run-1")
            rule = {
                "name": NASTY,
                "statistic": "grad_norm",
                "tensors": "*",
                "threshold": 100,
                "recover_steps": 1,
            }
            api.post("/api/v1/rules", json=rule)
            trainer.send(
                schema(("a.weight", NASTY, "b.weight")), batch(1, range(STEPS), norms, losses.tolist())
            )
            trainer.wait_acked(2)
            alert = hear(page, "alert")
            api.post(f"/api/v1/alerts/{alert['id']}/acknowledge", json={"note": "among us"})
        yield running


def snapshot(server: Running, **params: Any) -> str:
    with server.owner() as api:
        reply = api.get("/api/v1/runs/run-1/snapshot", params=params)
    assert reply.status_code == 200, reply.text
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9_.-]+\.html"', reply.headers["content-disposition"])
    return reply.text


def test_a_spike_of_one_step_and_a_nan_are_in_it(server: Running) -> None:
    data = data_of(snapshot(server))
    width = data["steps"][1] - data["steps"][0]
    assert len(data["steps"]) <= 800 and data["steps"][-1] + width >= STEPS
    place = 4321 // width
    assert data["heat"]["names"][1] == CLEAN
    assert data["heat"]["z"][1][place] == 6
    (loss,) = (line for line in data["lines"] if line["name"] == "loss")
    assert loss["odd"] == [1234 // width * width]
    assert any(CLEAN in alert["text"] for alert in data["alerts"])


def test_a_range_is_shown_at_its_own_width(server: Running) -> None:
    data = data_of(snapshot(server, **{"from": 4300, "to": 4400}))
    assert data["steps"] == list(range(4300, 4400))
    assert data["heat"]["z"][1][21] == 6
    with server.owner() as api:
        assert api.get("/api/v1/runs/run-1/snapshot", params={"from": 9000}).status_code == 422
        assert api.get("/api/v1/runs/none/snapshot").status_code == 404


def test_it_holds_no_more_than_a_link_shows(server: Running) -> None:
    text = snapshot(server)
    for secret in ("secret-", "train.py", "among us", server.services.token):
        assert secret not in text
    assert data_of(text)["settings"] == [["lr", "0.125"], ["data.seed", "7"]]
    with server.owner() as api:
        token = api.post("/api/v1/shares", json={"run": "run-1"}).json()["token"]
    with server.client(**{"X-Gradwatch-Share": token}) as viewer:
        assert viewer.get("/api/v1/runs/run-1/snapshot").status_code == 403


@pytest.mark.e2e
def test_it_opens_from_a_file_without_network_and_zooms(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.html"
    path.write_text(snapshot(server), encoding="utf-8")
    # A thread of its own: another test's browser driver may be running in this one.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(zoom_offline, path, plots=2, title=CLEAN).result() == []
