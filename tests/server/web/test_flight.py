"""The flight recorder, from a real training with one bad batch to the API: whose samples were in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.server.live_server import Running

import gradwatch

CULPRIT = 120


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """Unlike elsewhere: the server's pool keeps its threads until it is asked no more."""


def test_the_batch_of_a_spike_is_found_beside_its_incident(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "client"))
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    run = gradwatch.watch(model, optimizer, server=server.url, token=server.services.token)
    base = f"/api/v1/runs/{run.id}"
    with run, server.owner() as api:
        # So many steps at most until the server has judged and said so, and the answer has come.
        for step in range(20_000):
            x = torch.randn(32, 6, generator=gen)
            y = x[:, :1] * (1e4 if step == CULPRIT else 1.0)
            run.batch(ids=torch.arange(32) + 32 * step)
            optimizer.zero_grad()
            loss = (model(x) - y).pow(2).mean()
            loss.backward()
            optimizer.step()
            run.log(loss=loss)
            if step > CULPRIT and step % 20 == 0 and api.get(f"{base}/batches").json()["batches"]:
                break
        incidents = {one["id"]: one for one in api.get(f"{base}/incidents").json()["incidents"]}
        told = api.get(f"{base}/batches", params={"from": CULPRIT, "to": CULPRIT + 1}).json()["batches"]
        culprit = told[0]
        assert (culprit["step"], culprit["count"]) == (CULPRIT, 32)
        assert culprit["ids"] == [32 * CULPRIT + one for one in range(32)]
        assert incidents[culprit["incident"]]["first_step"] == CULPRIT
        assert api.get(f"{base}/batches", params={"incident": "another"}).json() == {"batches": []}
        assert "flight" not in {mark["kind"] for mark in api.get(f"{base}/marks").json()["marks"]}
        link = api.post("/api/v1/shares", json={"run": run.id}).json()["token"]
        with server.client(**{"X-Gradwatch-Share": link}) as viewer:
            assert viewer.get(f"{base}/incidents").status_code == 200
            assert viewer.get(f"{base}/batches").status_code == 403
