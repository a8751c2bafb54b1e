"""``watch()`` against the fake server over a real WebSocket."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.client.serving import serving

import gradwatch
from gradwatch.protocol import Bye, Mark
from gradwatch.testing import FakeServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    monkeypatch.setenv("GRADWATCH_AUTOSTART", "0")
    for name in (
        "GRADWATCH_SERVER",
        "GRADWATCH_TOKEN",
        "GRADWATCH_MODE",
        "GRADWATCH_PROJECT",
        "GRADWATCH_PUBLIC_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def server() -> Iterator[tuple[FakeServer, str]]:
    fake = FakeServer()
    with serving(fake) as port:
        yield fake, f"http://127.0.0.1:{port}"


def test_steps_of_any_framework(server: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]) -> None:
    fake, url = server
    with gradwatch.watch(server=url, project="p", name="n", config={"lr": 0.1, "api_key": "s3cret"}) as run:
        for step in range(50):
            run.record(step, {"a": step, "b": 1.0} if step != 7 else {"b": 1.0}, loss=1 / (step + 1))
        run.mark("checkpoint", path=Path("last.pt"))
        run.log({"val": {"loss": 3.0}})
        assert run.url == f"{url}/runs/{run.id}"
    stream = fake.stream
    assert stream.hello.context["config"] == {"lr": 0.1, "api_key": "***"}
    assert (stream.hello.project, stream.hello.name) == ("p", "n")
    rows = stream.series("grad_norm")
    assert [t.name for t in stream.tensors] == ["a", "b"]
    assert sorted(rows) == list(range(50)) and rows[49].tolist() == [49.0, 1.0]
    assert str(rows[7].tolist()) == "[nan, 1.0]"
    assert stream.scalar("loss") == {step: 1 / (step + 1) for step in range(50)}
    assert stream.scalar("val/loss") == {49: 3.0}
    (mark,), (bye,) = stream.of(Mark), stream.of(Bye)
    assert isinstance(mark, Mark) and mark.data == {"path": "last.pt"} and mark.step == 49
    assert isinstance(bye, Bye) and bye.state == "finished"
    assert run.url in capsys.readouterr().err


def test_a_batch_belongs_to_the_coming_step(server: tuple[FakeServer, str]) -> None:
    fake, url = server
    weight = torch.nn.Parameter(torch.ones(2))
    model = torch.nn.ParameterList([weight])
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with gradwatch.watch(model, optimizer, server=url, start_step=7) as run:
        for step in range(3):
            for part in (1, 2):
                run.batch(ids=[step, part], size=10 * step + part, tokens=100 * part if step else None)
                (weight**2).sum().backward()
            optimizer.step()
    assert fake.stream.scalar("batch/size") == {7: 3.0, 8: 23.0, 9: 43.0}
    assert fake.stream.scalar("batch/tokens") == {8: 300.0, 9: 300.0}


def test_sizes_of_micro_batches_are_added_up_and_losses_averaged(server: tuple[FakeServer, str]) -> None:
    """Uneven micro-batches, the last step cut short, a step that the scaler skips."""
    fake, url = server
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    sizes = [(3, 5, 8, 2), (4, 4, 4, 4), (1, 6, 2, 9), (7, 7)]
    losses: dict[int, list[float]] = {}
    with gradwatch.watch(model, optimizer, server=url) as run:
        for step, parts in enumerate(sizes):
            for size in parts:
                run.batch(size=size, tokens=torch.tensor(10 * size))
                loss = model(torch.randn(size, 4)).square().mean() * (math.inf if step == 1 else 1)
                scaler.scale(loss / len(parts)).backward()
                run.log(loss=loss)
                losses.setdefault(step, []).append(float(loss.detach()))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    stream = fake.stream
    assert stream.scalar("batch/size") == {step: sum(parts) for step, parts in enumerate(sizes)}
    assert stream.scalar("batch/tokens") == {step: 10 * sum(parts) for step, parts in enumerate(sizes)}
    means = {step: sum(parts) / len(parts) for step, parts in losses.items()}
    assert stream.scalar("loss") == pytest.approx(means, nan_ok=True)
    assert math.isinf(means[1]) and stream.scalar("skipped")[1] == 1


def test_a_batch_of_any_framework_belongs_to_the_step_recorded_next(server: tuple[FakeServer, str]) -> None:
    fake, url = server
    with gradwatch.watch(server=url) as run:
        for step in range(3):
            run.batch(size=8 + step)
            run.record(step, {"a": 1.0})
    assert fake.stream.scalar("batch/size") == {0: 8.0, 1: 9.0, 2: 10.0}


def test_an_exception_in_the_block_is_the_runs_end(server: tuple[FakeServer, str]) -> None:
    fake, url = server
    with pytest.raises(ZeroDivisionError), gradwatch.watch(server=url):
        1 / 0  # noqa: B018
    (bye,) = fake.stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "failed"
    assert bye.error is not None and bye.error["type"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "onlin"}, "use online, offline, local or disabled"),
        ({"server": "ftp://x"}, "http://127.0.0.1:8642"),
        ({"server": "http://a:b:c"}, "http://127.0.0.1:8642"),
        ({"project": "x" * 600}, "at most 512"),
        ({"start_step": -1}, "from 0 on"),
        ({"every": 0}, "every= must be a whole number of steps from 1 on, not 0"),
        ({"every": "2"}, "every= must be a whole number of steps from 1 on, not '2'"),
        ({"every": 0.5}, "every= must be a whole number of steps from 1 on, not 0.5"),
        ({"budget": "a lot"}, "budget= must be a share of the step time, such as 0.01, not 'a lot'"),
        ({"budget": -0.1}, "budget= must be a share of the step time"),
        ({"budget": math.nan}, "budget= must be a share of the step time"),
        ({"resume": True}, "resume= must be text, not bool"),
        ({"server": 8642}, "server= must be text, not int"),
        ({"token": b"secret"}, "token= must be text, not bytes"),
        ({"private": 5}, "private takes up to 64 names"),
        ({"model": torch.nn.Linear(2, 2), "include": 5}, "include= takes patterns over names of tensors"),
        ({"model": torch.nn.Linear(2, 2), "exclude": [5]}, "exclude= takes patterns over names of tensors"),
    ],
)
def test_bad_arguments_raise_before_step_0(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gradwatch.watch(**arguments)


def test_an_optimizer_of_another_model_is_told_and_so_is_that_nothing_steps(
    server: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = server
    model, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    with gradwatch.watch(model, optimizer, server=url) as run:
        assert "the given optimizer holds no parameter of the given model" in capsys.readouterr().err
        for _ in range(1_000):
            assert not capsys.readouterr().err
            run.log(loss=1.0)
        assert capsys.readouterr().err.count("no step was measured") == 1
        run.log(loss=1.0)
    assert not capsys.readouterr().err


def test_one_pattern_may_stand_alone(server: tuple[FakeServer, str]) -> None:
    fake, url = server
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradwatch.watch(model, server=url, include="*t", exclude="b*"):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert [tensor.name for tensor in fake.stream.tensors] == ["weight"]


def test_disabled_does_nothing(home: Path) -> None:
    run = gradwatch.watch(mode="disabled")
    run.log(loss=1.0)
    run.record(0, {"a": 1.0})
    run.mark("x")
    run.phase("y")
    run.batch(ids=[1])
    run.show()
    run.finish()
    assert run.url == "" and not list(home.iterdir())


def test_no_server_records_to_disk_and_says_how_to_see_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gradwatch.watch() as run:
        run.record(0, {"a": 1.0}, loss=2.0)
    words = capsys.readouterr().err
    assert f"gradwatch sync {home / 'spool'}" in words and "gradwatch serve" in words
    (folder,) = (home / "spool").iterdir()
    assert folder.name.startswith(run.id) and list(folder.glob("*.gws"))


def test_a_server_that_accepts_and_never_answers_delays_nothing(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        run = gradwatch.watch(server=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        for step in range(1000):
            run.record(step, {"a": 1.0})
        run._finish_timeout = 0.2
        run.finish()
    assert list((home / "spool").glob("*/*.gws"))


def test_what_is_no_number_is_left_out_and_said_once(
    server: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    fake, url = server
    with gradwatch.watch(server=url) as run:
        for step in range(3):
            run.record(step, {"a": 1.0})
            run.log(loss=1.0, text="hello", nothing=None)
    assert capsys.readouterr().err.count("text=str is not a number") == 1
    assert len(fake.stream.scalar("loss")) == 3


def test_arguments_that_are_of_another_kind_are_said_once_and_end_nothing(
    server: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    fake, url = server
    with gradwatch.watch(server=url) as run:
        for step in range(10):
            run.record(step, {"a": 1.0})
            run.record("x", {"a": 1.0})  # type: ignore[arg-type]
            run.log([1.0], loss=2.0)  # type: ignore[arg-type]
            run.log(loss=3.0, step="x")  # type: ignore[arg-type]
            run.log(torch.ones(2))  # type: ignore[arg-type]
        run.record(10, [1.0])  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert told.count("run.log() takes numbers with names, such as run.log(loss=loss), not list") == 1
    assert told.count("run.log() takes numbers with names, such as run.log(loss=loss), not Tensor") == 1
    assert told.count("run.log(step=) takes a whole number from 0 on, not 'x'") == 1
    assert told.count("run.record() needs a step from 0 on, not 'x'; it was left out") == 1
    assert fake.stream.scalar("loss") == dict.fromkeys(range(10), 2.0)
    assert sorted(fake.stream.series("grad_norm")) == list(range(10))


def test_what_acts_on_a_run_hears_what_has_names(server: tuple[FakeServer, str]) -> None:
    class Ears:
        def __init__(self) -> None:
            self.heard: list[dict[str, Any]] = []

        def log(self, values: Any, /) -> None:
            self.heard.append(dict(values))

        def incident(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError

        def remove(self) -> None:
            self.heard.append({})

    _, url = server
    ears = Ears()
    with gradwatch.watch(server=url) as run:
        run.join(ears)
        run.log([1.0], loss=2.0)  # type: ignore[arg-type]
        run.log({"val/loss": 1.0})
    assert ears.heard == [{"loss": 2.0}, {"val/loss": 1.0}, {}]


def test_after_finish_every_verb_does_nothing(server: tuple[FakeServer, str]) -> None:
    fake, url = server
    run = gradwatch.watch(server=url)
    run.finish()
    run.finish("failed")
    run.log(loss=1.0)
    run.record(0, {"a": 1.0})
    (bye,) = fake.stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "finished"
    with pytest.raises(ValueError, match="finish\\(\\) takes one of"):
        run.finish("done")  # type: ignore[arg-type]


def test_two_runs_at_once(server: tuple[FakeServer, str]) -> None:
    fake, url = server
    with gradwatch.watch(server=url, name="one") as one, gradwatch.watch(server=url, name="two") as two:
        one.record(0, {"a": 1.0})
        two.record(0, {"a": 2.0})
    norms = {s.hello.name: s.scalar("global_grad_norm") for s in fake.streams.values()}
    assert norms == {"one": {0: 1.0}, "two": {0: 2.0}}
    assert one.id != two.id


@pytest.mark.parametrize("steps", [0, 1])
def test_a_model_that_no_optimizer_steps_is_said(
    server: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradwatch.watch(model, server=server[1]) as run:
        model(torch.ones(2)).sum().backward()
        for _ in range(steps):
            optimizer.step()
        run.log({"loss": 1.0})
    assert ("no step was measured" in capsys.readouterr().err) == (steps == 0)
