"""A training that goes on: the same run, a new segment, nothing overwritten, whatever the clocks say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.server.live_server import PATIENCE, Page, Running, Trainer, batch, hello, schema, serving

import gradwatch
from gradwatch.errors import ConfigError, ConnectionRefused
from gradwatch.identity import _seen

JOB = {"SLURM_JOB_ID": "99", "SLURM_RESTART_COUNT": "0"}


def norms(value: float, n: int) -> np.ndarray[Any, Any]:
    return np.full((n, 3), value, dtype=np.float32)


def shown(server: Running, run: str = "run-1", segment: int | None = None) -> dict[int, float]:
    """First column by step: of the joined run, or of one segment."""
    query: dict[str, Any] = {"statistic": "grad_norm", "scope": "tensor", "limit": 10_000}
    if segment is not None:
        query["segment"] = segment
    with server.owner() as api:
        reply = api.get(f"/api/v1/runs/{run}/values", params=query).json()
    return {int(step): row[0] for step, row in zip(reply["steps"], reply["values"], strict=True)}


def segments(server: Running, run: str = "run-1") -> list[dict[str, Any]]:
    with server.owner() as api:
        found: list[dict[str, Any]] = api.get(f"/api/v1/runs/{run}").json()["segments"]
    return found


def send(server: Running, first: int, n: int, value: float, **said: Any) -> None:
    """One process of the run: ``n`` steps from ``first`` on."""
    with Trainer(server, hello(start_step=first, **said)) as trainer:
        trainer.send(schema(), batch(1, range(first, first + n), norms(value, n)))
        trainer.wait_acked(2)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with serving(tmp_path / "server") as running:
        yield running


def test_steps_that_go_back_are_a_branch_and_what_they_replace_stays(server: Running) -> None:
    send(server, 0, 100, 1.0)
    send(server, 60, 30, 2.0, stream="s2", segment="g2", started_at=1_700_000_100.0)
    joined = {step: 1.0 if step < 60 else 2.0 for step in range(90)}
    assert shown(server) == joined
    assert shown(server, segment=0) == dict.fromkeys(range(100), 1.0)
    assert shown(server, segment=1) == dict.fromkeys(range(60, 90), 2.0)
    assert [(one["index"], one["start_step"]) for one in segments(server)] == [(0, 0), (1, 60)]


def test_a_computer_whose_clock_is_behind_goes_on_all_the_same(server: Running) -> None:
    send(server, 0, 100, 1.0, started_at=1_700_000_000.0)
    send(server, 60, 30, 2.0, stream="s2", segment="g2", started_at=1_600_000_000.0)
    assert shown(server)[89] == 2.0 and len(shown(server)) == 90


def test_what_an_earlier_process_had_spooled_takes_its_place_before_the_newer_one(server: Running) -> None:
    """Offline, then requeued while a server is there: the older stretch comes after the newer one has begun."""
    with Trainer(
        server, hello(stream="s2", segment="g2", start_step=60, started_at=1_700_000_100.0)
    ) as newer:
        newer.send(schema(), batch(1, range(60, 80), norms(2.0, 20)))
        newer.wait_acked(2)
        with Page(server) as page:
            page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm", points=1000)
            assert page.view(1).series.last_step == 79
            send(server, 0, 100, 1.0, late=True, started_at=1_700_000_000.0)
            newer.send(batch(2, range(80, 90), norms(2.0, 10)))
            newer.wait_acked(3)
            series = page.view(1).series
            while series.last_step < 89:
                series = page.view(1).series
    assert shown(server) == {step: 1.0 if step < 60 else 2.0 for step in range(90)}
    assert [one["start_step"] for one in segments(server)] == [0, 60]


def test_times_that_go_back_change_no_value_and_the_pace_recovers(server: Running) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        for part, at in enumerate((2e9, 1e9, 1e9 + 4)):
            steps = range(part * 40, part * 40 + 40)
            block = batch(part + 1, steps, norms(float(part), 40)).blocks[0]
            times = at + np.arange(40.0) / (1 if part == 0 else 10)
            trainer.send(gradwatch_batch(part + 1, block.steps, times, block.values))
            trainer.wait_acked(part + 2)
    assert shown(server) == {step: float(step // 40) for step in range(120)}
    with server.owner() as api:
        run = api.get("/api/v1/runs/run-1").json()["run"]
    assert 2 < run["steps_per_s"] < 20 and run["last_time"] == 1e9 + 4 + 3.9


def gradwatch_batch(seq: int, steps: Any, times: Any, values: Any) -> Any:
    from gradwatch.protocol import Batch, Block

    return Batch(seq=seq, schema=0, blocks=(Block(statistic=0, steps=steps, times=times, values=values),))


def test_a_requeued_job_goes_on_in_its_run_with_one_line(
    server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    connected = {"server": server.url, "token": server.services.token}
    ids = set()
    for attempt, first in enumerate((0, 30)):
        _seen.clear()  # a new process
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(attempt))
        with gradwatch.watch(resume="auto", start_step=first, **connected) as run:
            for step in range(first, first + 50):
                run.record(step, {"a": attempt + 1.0})
            ids.add(run.id)
    (run_id,) = ids
    assert shown(server, run_id) == {step: 1.0 if step < 30 else 2.0 for step in range(80)}
    assert [one["start_step"] for one in segments(server, run_id)] == [0, 30]
    assert f"Slurm job 99 is run {run_id}, from step 30 on" in capsys.readouterr().err


def test_where_the_optimizer_knows_its_steps_nobody_has_to_say_them(server: Running) -> None:
    connected = {"server": server.url, "token": server.services.token}
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters())

    def train(steps: int, run: gradwatch.Run) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(3, 4)).sum().backward()
            optimizer.step()
        run.finish()

    train(20, gradwatch.watch(model, optimizer, resume="my-run", **connected))
    train(10, gradwatch.watch(model, optimizer, resume="my-run", **connected))
    assert sorted(shown(server, "my-run")) == list(range(30))
    assert [one["start_step"] for one in segments(server, "my-run")] == [0, 20]


def test_only_who_has_the_key_goes_on(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connected = {"server": server.url, "token": server.services.token}
    with gradwatch.watch(resume="my-run", **connected) as run:
        run.record(0, {"a": 1.0})
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "stranger"))
    with gradwatch.watch(resume="my-run", **connected) as stranger:
        stranger.record(0, {"a": 666.0})
    assert shown(server, "my-run") == {0: 1.0}
    assert "already owns run 'my-run'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="letters, digits"):
        gradwatch.watch(resume="../etc", **connected)


def test_the_same_script_started_twice_at_once_is_one_run_and_the_newer_one_sends_it(server: Running) -> None:
    with Trainer(server, hello(stream="a", segment="a")) as first:
        first.send(schema(), batch(1, range(10), norms(1.0, 10)))
        first.wait_acked(2)
        with Trainer(server, hello(stream="b", segment="b")) as second:
            second.send(schema(), batch(1, range(5), norms(2.0, 5)))
            second.wait_acked(2)
            with pytest.raises(ConnectionRefused) as cut:
                first.wait_acked(3)
            assert cut.value.code == "fenced"
    assert shown(server, segment=0) == dict.fromkeys(range(10), 1.0)
    assert shown(server) == dict.fromkeys(range(5), 2.0)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_job_that_is_started_again_delivers_what_it_had_spooled(
    server: Running, home: Path, tmp_path: Path
) -> None:
    """The whole of it with real processes: offline and killed, then requeued with a server."""
    script = (
        "import gradwatch, sys, time\n"
        "first, n, value = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])\n"
        "sys.argv = ['train.py']\n"
        "run = gradwatch.watch(resume='auto', start_step=first)\n"
        "for step in range(first, first + n):\n"
        "    run.record(step, {'a': value})\n"
        "time.sleep(float(1.2)) if value == 1.0 else None\n"
        "print(run.id, flush=True)\n"
        "time.sleep(60) if value == 1.0 else run.finish()\n"
    )

    def start(*words: object, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, "x", *map(str, words)],
            env={**os.environ, **JOB, **environ},
            stdout=subprocess.PIPE,
            text=True,
        )

    connected = {"GRADWATCH_SERVER": server.url, "GRADWATCH_TOKEN": server.services.token}
    unreachable = {**connected, "GRADWATCH_SERVER": "http://127.0.0.1:9"}
    first = start(0, 50, 1.0, **unreachable)
    assert first.stdout is not None
    run_id = first.stdout.readline().strip()
    first.kill()
    first.communicate()
    for target in (home / "spool").glob("*/server"):
        target.write_text(server.url)  # the server has moved to another address meanwhile
    again, _ = start(30, 20, 2.0, **connected).communicate(timeout=PATIENCE * 3)
    assert again.strip() == run_id
    with gradwatch.watch(mode="online", server=server.url, token=server.services.token):
        while list((home / "spool").glob(f"{run_id}-*")):
            pass
    assert shown(server, run_id) == {step: 1.0 if step < 30 else 2.0 for step in range(50)}
