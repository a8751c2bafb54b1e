"""Two ranks under torchrun and a real server: both stop at the same step, both save, both tell which samples they saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.stop_trainer import CULPRIT, samples
from tests.client.test_ranks import launch
from tests.server.live_server import serving

TRAINER = Path(__file__).with_name("stop_trainer.py")


@pytest.mark.slow
def test_ranks_stop_together_and_each_tells_its_own_samples(tmp_path: Path) -> None:
    with serving(tmp_path / "server") as server:
        launch(server, tmp_path, TRAINER)
        told = [json.loads((tmp_path / f"stopped{rank}.json").read_text()) for rank in (0, 1)]
        with server.owner() as api:
            query = {"from": CULPRIT, "to": CULPRIT + 1}
            batches = api.get(f"/api/v1/runs/{told[0]['run']}/batches", params=query).json()["batches"]
    assert told[0]["run"] == told[1]["run"]
    assert told[0]["stopped"] == told[1]["stopped"] > CULPRIT
    assert [one["saved"] for one in told] == [[0], [1]]
    assert all("training stops at step" in one["reason"] for one in told)
    by_rank = {one["rank"]: one for one in batches}
    assert {rank: one["ids"] for rank, one in by_rank.items()} == {r: samples(r, CULPRIT) for r in (0, 1)}
