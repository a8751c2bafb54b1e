"""The health engine on a running server gives what it gives on plain arrays: through restarts, and when it falls behind."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.server.live_server import PATIENCE, Page, Running, Trainer, batch, hello, schema, serving

from gradwatch.health import Monitor, Observation
from gradwatch.protocol import Tensor
from gradwatch.protocol.codec import to_plain

STEPS = 420
BAD = 300
NAMES = ("a.weight", "a.bias", "b.weight")


def training() -> tuple[npt.NDArray[Any], list[float]]:
    """Quiet norms and a falling loss, until one tensor becomes NaN and the loss with it."""
    random = np.random.default_rng(0)
    norms = np.exp(random.normal(0, 0.1, (STEPS, len(NAMES)))).astype(np.float32)
    losses = 2.0 * np.exp(-np.arange(STEPS) / 200) + random.normal(0, 0.01, STEPS)
    norms[BAD:, 1] = np.nan
    losses[BAD + 1 :] = np.nan
    return norms, losses.tolist()


def expected() -> list[dict[str, Any]]:
    """The incidents of a monitor that is given everything at once, with no server."""
    norms, losses = training()
    monitor = Monitor(
        [Tensor(name=n, shape=(2, 2), numel=4, depth=i, module=n[0]) for i, n in enumerate(NAMES)],
        run="run-1",
    )
    steps = np.arange(STEPS)
    whole = Observation.of_arrays(
        steps, tensor={"grad_norm": norms}, run={"loss": losses}, times=steps + 1_700_000_000.0
    )
    found = {incident.id: incident for incident in monitor.observe(whole)}
    return [to_plain(dataclasses.asdict(one)) for one in found.values() if not one.merged_into]


def send(trainer: Trainer, first: int, last: int, seq: int, size: int = 20) -> int:
    """Sends steps first..last (exclusive) in batches; the next sequence number."""
    norms, losses = training()
    for start in range(first, last, size):
        end = min(start + size, last)
        trainer.send(batch(seq, range(start, end), norms[start:end], losses[start:end]))
        seq += 1
    trainer.wait_acked(seq)
    return seq


def judged(server: Running, step: int) -> dict[str, Any]:
    """The API's incidents and health, once everything up to ``step`` is judged."""
    deadline = time.monotonic() + PATIENCE
    with server.owner() as api:
        while time.monotonic() < deadline:
            reply = api.get("/api/v1/runs/run-1/incidents").raise_for_status().json()
            if reply["health"] and reply["health"].get("step", -1) >= step:
                return dict(reply)
            time.sleep(0.05)
    raise AssertionError("the engine did not get that far")


def clock() -> float:
    """A second after the newest frame: nothing has stopped."""
    return 1_700_000_000.0 + STEPS


def by_id(incidents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in incidents}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, clock=clock) as running:
        yield running


def test_incidents_are_stored_told_and_asked_for(server: Running) -> None:
    with Page(server) as page, Trainer(server, hello()) as trainer:
        page.say(type="follow", run="run-1")
        trainer.send(schema(NAMES))
        trainer.finish(send(trainer, 0, STEPS, 1))
        told = page.hear("event", kind="incident")
        assert told["run"] == "run-1"
    reply = judged(server, STEPS - 1)
    assert by_id(reply["incidents"]) == by_id(expected())
    nonfinite = next(one for one in reply["incidents"] if one["kind"] == "nonfinite")
    assert nonfinite["severity"] == "critical"
    assert nonfinite["first_step"] == BAD
    assert reply["health"]["state"] == "critical"
    spreading = ["accumulating", "bad_init", "diverging", "exploding", "nonfinite", "spike", "vanishing"]
    assert reply["normal"] == {"spreading": spreading, "least_steps": 16}
    with server.owner() as api:
        health = api.get("/api/v1/health", params={"run": ["run-1", "no-such-run"]}).json()["health"]
    assert list(health) == ["run-1"]


@pytest.mark.parametrize("cut", [130, BAD + 1])
def test_a_restart_changes_nothing_about_what_is_found(tmp_path: Path, cut: int) -> None:
    with serving(tmp_path, clock=clock) as first, Trainer(first, hello()) as trainer:
        trainer.send(schema(NAMES))
        seq = send(trainer, 0, cut, 1)
    with serving(tmp_path, clock=clock) as second, Trainer(second, hello()) as trainer:
        trainer.finish(send(trainer, cut, STEPS, seq))
        assert by_id(judged(second, STEPS - 1)["incidents"]) == by_id(expected())


def test_an_engine_that_falls_behind_reads_what_it_missed(server: Running) -> None:
    server.services.health.most_cells = 50
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(NAMES))
        trainer.finish(send(trainer, 0, STEPS, 1, size=100))
    assert by_id(judged(server, STEPS - 1)["incidents"]) == by_id(expected())


def test_a_run_taken_up_without_a_stored_state_is_read_from_the_store(tmp_path: Path) -> None:
    from gradwatch_server.store import health_tables

    with serving(tmp_path, clock=clock) as first, Trainer(first, hello()) as trainer:
        trainer.send(schema(NAMES))
        seq = send(trainer, 0, 200, 1)
        first.services.store.database.write(lambda conn: conn.execute(health_tables.health.delete())).result()
    with serving(tmp_path, clock=clock) as second, Trainer(second, hello()) as trainer:
        second.services.store.database.write(
            lambda conn: conn.execute(health_tables.health.delete())
        ).result()
        trainer.finish(send(trainer, 200, STEPS, seq))
        assert by_id(judged(second, STEPS - 1)["incidents"]) == by_id(expected())


@pytest.mark.parametrize("restart", [False, True])
def test_a_run_that_gains_tensors_is_watched_on(tmp_path: Path, restart: bool) -> None:
    norms, losses = training()
    wider = np.concatenate([norms, np.ones((STEPS, 1), np.float32)], axis=1)
    with serving(tmp_path, clock=clock) as first, Trainer(first, hello()) as trainer:
        trainer.send(schema(NAMES))
        seq = send(trainer, 0, 200, 1)
        if not restart:
            gain(trainer, seq, wider, losses)
            assert_nonfinite(judged(first, STEPS - 1))
    if restart:
        with serving(tmp_path, clock=clock) as second, Trainer(second, hello()) as trainer:
            gain(trainer, seq, wider, losses)
            assert_nonfinite(judged(second, STEPS - 1))


def gain(trainer: Trainer, seq: int, norms: npt.NDArray[Any], losses: list[float]) -> None:
    """Declares a fourth tensor and sends the rest of the run."""
    trainer.send(schema((*NAMES, "b.bias"), seq=seq, id=1))
    trainer.send(batch(seq + 1, range(200, STEPS), norms[200:], losses[200:], schema=1))
    trainer.finish(seq + 2)


def assert_nonfinite(reply: dict[str, Any]) -> None:
    found = [one for one in reply["incidents"] if one["kind"] == "nonfinite"]
    assert [one["first_step"] for one in found] == [BAD]
    assert found[0]["origin"]["tensor"] == "a.bias"


def test_what_if_clipping_counts_the_steps_it_would_have_touched(server: Running) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(NAMES))
        trainer.finish(send(trainer, 0, 100, 1))
    with server.owner() as api:
        reply = api.get("/api/v1/runs/run-1/what-if", params={"max_norm": 1.0})
        assert reply.status_code == 404, "no global norm was sent"
        assert api.get("/api/v1/runs/none/what-if").status_code == 404


def test_the_kinds_are_listed_with_their_detectors(server: Running) -> None:
    with server.owner() as api:
        kinds = {one["key"]: one for one in api.get("/api/v1/health/kinds").json()["kinds"]}
    assert {"exploding", "vanishing", "nonfinite", "diverging"} <= set(kinds)
    assert all(one["detectors"] for one in kinds.values())


def test_without_the_engine_nothing_is_judged_and_all_is_stored(tmp_path: Path) -> None:
    with serving(tmp_path, health=False) as server, Trainer(server, hello()) as trainer:
        trainer.send(schema(NAMES))
        trainer.finish(send(trainer, 0, STEPS, 1))
        with server.owner() as api:
            assert api.get("/api/v1/runs/run-1/incidents").json()["incidents"] == []
            assert api.get("/api/v1/runs/run-1").json()["run"]["last_step"] == STEPS - 1
        assert server.services.health.judged_frames == 0
