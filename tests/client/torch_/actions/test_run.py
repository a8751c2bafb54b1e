"""A guard that follows a run: every action is told to the server, and the run tells the guard what it logs and hears."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gradwatch
from gradwatch.protocol import Bye, Mark
from gradwatch.protocol.messages import Incident
from gradwatch.testing import FakeServer, MemoryTransport

from ..conftest import mlp

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    for name in ("GRADWATCH_SERVER", "GRADWATCH_MODE"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
    yield


def test_actions_stand_on_the_timeline_at_their_step() -> None:
    fake, model = FakeServer(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    run = gradwatch.watch(model, optimizer, transport=MemoryTransport(fake), start_step=100)
    parts = [
        gradwatch.SkipNonFinite(),
        gradwatch.CutLR(hold=1),
        gradwatch.StopOn.metric("val/acc", 2, mode="max"),
    ]
    gradwatch.guard(optimizer, parts, run=run)
    with pytest.raises(gradwatch.GradwatchStop, match="val/acc has not improved on 0.5"), run:
        for k in range(20):
            optimizer.zero_grad()
            (model(X).pow(2).mean() * (math.nan if k == 4 else 1.0)).backward()
            run.log(loss=1.0, val={"acc": torch.tensor(0.5)} if k in (0, 9, 10) else {})
            if k == 6:
                found = {"sentence": "The loss diverges."}
                run.on_incident(Incident(id="a", kind="diverging", severity="critical", step=103, data=found))
            optimizer.step()
    stream = fake.stream
    told = [
        (m.step, m.data["action"], m.data["reason"])
        for m in stream.of(Mark)
        if isinstance(m, Mark) and m.kind == "action"
    ]
    assert told == [
        (104, "skip", "the gradients are not all finite"),
        (107, "lr_cut", "The loss diverges."),
        (110, "stop", "val/acc has not improved on 0.5 in 2 values"),
    ]
    assert {step for step, value in stream.scalar("skipped").items() if value} == {104}
    assert sorted(stream.series("grad_norm")) == list(range(100, 111))
    assert stream.series("lr")[107][0] == 0.005 and optimizer.param_groups[0]["lr"] == 0.01
    (bye,) = stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "finished"
    assert bye.reason == "training stops at step 110: val/acc has not improved on 0.5 in 2 values"


@pytest.mark.parametrize("mode", ["disabled", "offline"])
def test_actions_do_not_need_a_server(mode: str) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    run = gradwatch.watch(model, optimizer, mode=mode)
    guard = gradwatch.guard(optimizer, [gradwatch.StopOn.metric("loss", 1)], run=run)
    with pytest.raises(gradwatch.GradwatchStop), run:
        for _ in range(3):
            model(X).mean().backward()
            run.log(loss=1.0)
            optimizer.step()
    assert [action.kind for action in guard.actions] == ["stop"]


@pytest.mark.parametrize("kind", ["", "exploding"])
def test_incidents_of_a_local_run_stop_it(kind: str) -> None:
    """This one is told as a diverging loss: it is what the explosion ends in."""
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    saved: list[int] = []
    run = gradwatch.watch(model, optimizer, mode="local")
    # Far more bad steps in a row than there are: the rule of this process alone would never stop.
    stop = gradwatch.StopOn(kind, after=10_000, checkpoint=lambda: saved.append(1))
    guard = gradwatch.guard(optimizer, [stop], run=run)
    gen = torch.Generator().manual_seed(0)
    with pytest.raises(gradwatch.GradwatchStop, match="since step 20"), run:
        for k in range(230):
            if k == 200:
                optimizer.param_groups[0]["lr"] = 2.0
            x = torch.randn(32, 6, generator=gen)
            optimizer.zero_grad()
            loss = (model(x) - x[:, :1]).pow(2).mean()
            loss.backward()
            run.log(loss=loss)
            if k >= 200:
                # Asking has all that was measured judged, without waiting for a clock.
                assert run.health.sentence
            optimizer.step()
    (action,) = guard.actions
    assert saved == [1] and action.kind == "stop" and 200 < action.step < 215


def test_the_end_of_the_run_is_the_end_of_its_guard() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    run = gradwatch.watch(model, optimizer, transport=MemoryTransport(FakeServer()))
    guard = gradwatch.guard(optimizer, [gradwatch.SkipNonFinite()], run=run)
    run.finish()
    (math.nan * model(X).mean()).backward()
    optimizer.step()
    assert not guard.actions and not model[0].weight.isfinite().any()
