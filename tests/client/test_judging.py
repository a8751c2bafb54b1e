"""``mode="local"``: incidents without a server, from numbers and from a live model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradwatch
from gradwatch.frames import Frame
from gradwatch.judging import Judge
from gradwatch.outbox import MarkPoint, Outbox, ReadyFrame, ScalarPoint
from gradwatch.packer import Packer
from gradwatch.protocol import Statistic, Tensor
from gradwatch.sender import Ending
from gradwatch.testing import FakeClock


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    monkeypatch.delenv("GRADWATCH_MODE", raising=False)
    return tmp_path


class Desk:
    """A judge pumped by hand, and the lines that it prints."""

    def __init__(self) -> None:
        self.outbox, self.lines, self.clock = Outbox(), list[str](), FakeClock()
        self.judge = Judge(
            outbox=self.outbox,
            packer=Packer(),
            optimizers=lambda: [{"class": "SGD", "lr": 0.1}],
            run="r",
            tell=self.lines.append,
            clock=self.clock,
        )

    def declare(self, *names: str) -> None:
        tensors = tuple(
            Tensor(name=n, shape=(8, 8), numel=64, depth=d, module=n, optimizer=0)
            for d, n in enumerate(names)
        )
        self.outbox.declare(tensors, (Statistic(name="grad_norm", scope="tensor", width=len(names)),))

    def step(self, step: int, norms: list[float], loss: float | None = None) -> None:
        values = {"grad_norm": np.array(norms, np.float32)}
        frame = Frame(step=step, time=self.clock(), values=values, schema=len(self.outbox.declarations))
        self.outbox.put(ReadyFrame(frame))
        if loss is not None:
            self.outbox.put_scalar(ScalarPoint("loss", step, self.clock(), loss))


def test_a_nan_is_said_in_one_line_and_once() -> None:
    desk = Desk()
    desk.declare("a", "b", "c")
    for step in range(60):
        desk.step(step, [1.0, math.nan if step >= 50 else 1.0, 1.0], loss=1.0)
        desk.judge.turn(float(step))
    (line,) = desk.lines
    assert line.startswith("critical: NaN or Inf since step 50: began in b.") and "\n" not in line
    (incident,) = desk.judge.incidents()
    assert (incident.kind, incident.first_step, incident.origin.tensor) == ("nonfinite", 50, "b")
    assert desk.judge.health().state == "critical"


def test_a_tensor_that_joins_later_keeps_the_rows_of_the_others() -> None:
    desk = Desk()
    desk.declare("a", "b")
    for step in range(50):
        desk.step(step, [1.0, 2.0])
    desk.declare("b", "new", "a")
    for step in range(50, 120):
        desk.step(step, [2.0, 1.0, math.nan if step == 119 else 1.0])
    (incident,) = desk.judge.incidents()
    assert incident.origin.tensor == "a"


def test_what_waits_is_judged_when_asked_and_at_the_end() -> None:
    desk = Desk()
    desk.declare("a")
    desk.step(0, [math.inf])
    assert [i.kind for i in desk.judge.incidents()] == ["nonfinite"]
    desk.step(1, [1.0], loss=math.nan)
    desk.judge.end(Ending("finished", 0.0))
    desk.judge.turn(0.0)
    assert desk.judge.ended.is_set() and desk.judge.health().numbers["frames"] == 2


def test_a_phase_mark_is_a_new_normal() -> None:
    desk = Desk()
    desk.declare("a")
    for step in range(300):
        if step == 200:
            desk.outbox.put_mark(MarkPoint(200, 0.0, "phase", {"name": "finetune"}))
        desk.step(step, [50.0 if step >= 200 else 1.0], loss=5.0 if step >= 200 else 1.0)
        desk.judge.turn(float(step))
    assert desk.lines == []


def test_silence_of_the_script_is_told_by_the_clock() -> None:
    desk = Desk()
    desk.declare("a")
    desk.step(0, [1.0])
    desk.judge.turn(0.0)
    desk.clock.advance(3600)
    desk.judge.turn(100.0)
    assert desk.lines and desk.lines[0].startswith("warning: No step since step 0")


def test_before_the_first_step_nothing_is_known() -> None:
    assert Desk().judge.health().state == "learning" and Desk().judge.incidents() == []


def train(run: gradwatch.Run, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    gen = torch.Generator().manual_seed(0)
    target = torch.randn(16, 4, generator=gen)
    for _ in range(steps):
        x = torch.randn(32, 16, generator=gen)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), x @ target)
        loss.backward()
        optimizer.step()
        run.log(loss=loss)


def test_from_a_live_model_to_an_incident_without_a_server(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with gradwatch.watch(model, optimizer, mode="local") as run:
        train(run, model, optimizer, 200)
        assert run.incidents == [] and run.health.state == "healthy"
        optimizer.param_groups[0]["lr"] = 2.0
        train(run, model, optimizer, 20)
        first = run.incidents[0]
        assert 200 <= first.first_step <= 210 and first.causes[0].key == "lr_too_high"
        assert first.remedies[0].value == pytest.approx(0.02)
        assert run.health.state == "critical" and run.url == ""
    assert "gradwatch: critical: " in capsys.readouterr().err
    assert run.incidents and not list(home.iterdir())


def test_elsewhere_the_server_judges() -> None:
    run = gradwatch.watch(mode="disabled")
    assert run.incidents == [] and run.health.state == "unknown"
