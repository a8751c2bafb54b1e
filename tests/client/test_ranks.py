"""Real ranks under torchrun, a real server: what it stores is the norm of the whole gradient, and one rank speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.rank_trainer import BROKEN_AT, LIMIT, SETTINGS
from tests.server.live_server import PATIENCE, Page, Running, serving

TRAINER = Path(__file__).with_name("rank_trainer.py")
pytestmark = pytest.mark.slow


TROUBLED = ("ddp", "one is broken")
"""Settings that end in an incident."""

STATISTICS = (
    ("grad_norm", "tensor"),
    ("global_grad_norm", "run"),
    ("global_grad_norm_clipped", "run"),
    ("loss", "run"),
    ("ranks_present", "run"),
    ("rank_grad_norm", "run"),
    ("replica_gap", "run"),
)


@dataclass
class Stored:
    """What the server has of a run."""

    run: dict[str, Any]
    tensors: list[str]
    incidents: list[dict[str, Any]]
    values: dict[str, Any]
    own_steps: list[int]
    """Of the ranks' own norms."""


@dataclass
class Trained:
    """What each rank told, by setting; what was printed; what the server has."""

    told: list[dict[str, Any]]
    printed: str
    stored: dict[str, Stored]


def launch(server: Running, folder: Path, trainer: Path = TRAINER) -> str:
    """Trains on two ranks; what was printed."""
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GRADWATCH")},
        "GRADWATCH_DIR": str(folder / "home"),
        "GRADWATCH_TOKEN": server.services.token,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(trainer), server.url, str(folder)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def stored(server: Running, run_id: str, incidents: bool) -> Stored:
    """Everything about a run once it has ended, and an incident is there if one is expected."""
    with server.owner() as api, Page(server) as page:

        def get(path: str, **params: Any) -> Any:
            reply = api.get(f"/api/v1/runs/{run_id}{path}", params=params)
            return reply.json() if reply.status_code == 200 else {}

        def complete() -> bool:
            ended = get("")["run"]["state"] != "running"
            return ended and (bool(get("/incidents")["incidents"]) or not incidents)

        while not complete():
            page.socket.recv(timeout=PATIENCE)
        return Stored(
            get("")["run"],
            [tensor["name"] for tensor in get("/tensors")["tensors"]],
            get("/incidents")["incidents"],
            {
                name: np.array(
                    get("/values", statistic=name, scope=scope, limit=10_000).get("values", []), np.float64
                )
                for name, scope in STATISTICS
            },
            [int(n) for n in get("/values", statistic="rank_grad_norm", scope="run").get("steps", [])],
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("ranks")
    with serving(folder / "server") as server:
        printed = launch(server, folder)
        told = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
        found = {name: stored(server, told[0][name]["run"], name in TROUBLED) for name in SETTINGS}
    return Trained(told, printed, found)


@pytest.mark.parametrize("setting", [name for name in SETTINGS if name != "one is broken"])
def test_the_run_has_the_norms_of_the_whole_gradient(trained: Trained, setting: str) -> None:
    found, expected = trained.stored[setting], trained.told[0][setting]["whole"]
    run = found.run
    assert trained.told[1][setting]["run"] == run["id"]
    assert (run["state"], run["steps"], run["lost_frames"]) == ("finished", len(expected), 0)
    rows = np.array([[step[name] for name in found.tensors] for step in expected])
    assert rows.shape[1] == 4 and np.isfinite(rows).all()
    np.testing.assert_allclose(found.values["grad_norm"], rows, rtol=1e-4, atol=1e-9)
    totals = np.sqrt((rows**2).sum(axis=1))
    np.testing.assert_allclose(found.values["global_grad_norm"][:, 0], totals, rtol=1e-4)
    clipped = found.values["global_grad_norm_clipped"][:, 0]
    np.testing.assert_allclose(clipped, np.minimum(totals[1::2], LIMIT), rtol=1e-3)
    assert set(found.values["loss"][:, 0]) == {0.0}


@pytest.mark.parametrize("setting", ["fsdp2", "tensor parallel", "every rank"])
def test_all_ranks_are_in_every_frame(trained: Trained, setting: str) -> None:
    present = trained.stored[setting].values["ranks_present"][:, 0]
    assert len(present) == SETTINGS[setting][2] and set(present) == {2.0}


@pytest.mark.parametrize("setting", ["tensor parallel", "every rank", "ddp"])
def test_copies_agree(trained: Trained, setting: str) -> None:
    gaps = trained.stored[setting].values["replica_gap"]
    assert len(gaps) and gaps[:, 0].max() < 1e-5


def test_the_ranks_own_norms_are_those_before_the_reduction(trained: Trained) -> None:
    found = trained.stored["ddp"]
    steps, norms = found.own_steps, found.values["rank_grad_norm"]
    # Every 50 steps, and at every step for a while after the incident.
    assert {50, 100, 150} <= set(steps) and len(steps) == len(norms)
    expected = np.array([[told["ddp"]["own"][str(step)] for told in trained.told] for step in steps])
    there = ~np.isnan(norms)
    assert there[[steps.index(step) for step in (50, 100, 150)]].all()
    np.testing.assert_allclose(norms[there], expected[there], rtol=1e-4)


def test_the_rank_that_stands_out_is_an_incident(trained: Trained) -> None:
    found = trained.stored["ddp"].incidents
    assert ("bad_rank", "rank 1") in [(one["kind"], one["group"]) for one in found]


def test_a_rank_that_alone_turns_nan_is_told_by_its_copies(trained: Trained) -> None:
    found = trained.stored["one is broken"]
    gaps = found.values["replica_gap"]
    assert gaps[:BROKEN_AT, 0].max() < 1e-5
    told = [one for one in found.incidents if one["kind"] == "bad_rank"]
    assert [(one["group"], one["first_step"]) for one in told] == [("rank 1", BROKEN_AT)]


def test_one_rank_speaks(trained: Trained) -> None:
    assert "rank 0 has trained" in trained.printed and "rank 1 has trained" in trained.printed
    links = [line for line in trained.printed.splitlines() if "gradwatch: http" in line]
    assert len(links) == len(SETTINGS)
