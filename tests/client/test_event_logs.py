"""TensorBoard logs as runs, value by value: of PyTorch's writer, of another's, growing ones, and broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.tensorboard.writer import SummaryWriter

from gradwatch.errors import GradwatchError
from gradwatch.event_logs import LogRun, Point, import_logs
from gradwatch.run import NullRun
from gradwatch.testing import FakeServer, MemoryTransport

LAYERS = ("fc1.weight", "fc2.weight")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "state"))
    return FakeServer()


def options(fake: FakeServer) -> dict[str, Any]:
    return {"transport": MemoryTransport(fake), "project": "old"}


def write(folder: Path, first: int, last: int) -> None:
    with SummaryWriter(str(folder)) as writer:
        for step in range(first, last):
            for i, layer in enumerate(LAYERS):
                writer.add_scalar(f"grad_norm/{layer}", norm(step, i), step, walltime=1.6e9 + step)
            writer.add_scalar(
                "train/loss", 1 / (step + 1), step, walltime=1.6e9 + step, new_style=step % 2 == 0
            )
        writer.add_text("note", "not a number", 0)
        writer.add_histogram("weights", np.arange(10.0), 0)


def norm(step: int, layer: int) -> float:
    """Some are not finite."""
    return float("nan") if step == 7 else float("inf") if step == 8 and layer else (step + 1) / (layer + 3)


def test_every_value_arrives(fake: FakeServer, tmp_path: Path) -> None:
    write(tmp_path / "logs" / "wide", 0, 300)
    said: list[str] = []
    assert import_logs(tmp_path / "logs", options=options(fake), tell=said.append) == 1
    assert "wide: 900 values." in said[0]
    stream = fake.stream
    assert (stream.hello.project, stream.hello.name) == ("old", "wide")
    assert stream.hello.started_at == 1.6e9
    assert tuple(tensor.name for tensor in stream.tensors) == LAYERS
    norms = stream.series("grad_norm")
    want = np.array([[norm(step, i) for i in range(2)] for step in range(300)], dtype=np.float32)
    np.testing.assert_array_equal(np.array([norms[step] for step in range(300)], dtype=np.float32), want)
    loss = stream.scalar("train/loss")
    assert loss == {step: float(np.float32(1 / (step + 1))) for step in range(300)}
    logged = {s.name for schema in stream.schemas.values() for s in schema.statistics if s.logged}
    assert logged == {"train/loss"}


def test_a_growing_log_is_followed_until_it_is_interrupted(fake: FakeServer, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    rounds = iter([lambda: write(logs / "a", 0, 50), lambda: write(logs / "a", 50, 80), lambda: None])

    def sleep(seconds: float) -> None:
        grow = next(rounds, None)
        if grow is None:
            raise KeyboardInterrupt
        grow()

    assert import_logs(logs, options=options(fake), follow=True, tell=lambda text: None, sleep=sleep) == 1
    assert sorted(fake.stream.series("grad_norm")) == list(range(80))
    assert sorted(fake.stream.scalar("train/loss")) == list(range(80))


def test_steps_that_go_back_are_counted() -> None:
    told = LogRun("grad_norm/", lambda began: NullRun())
    for step in (0, 1, 2, 1, 2, 3):
        told.tell(Point("loss", step, 0.0, 1.0))
    assert (told.values, told.earlier) == (4, 2)
    for tag in ("grad_norm/a", "grad_norm/b"):
        for step in (4, 5):
            told.tell(Point(tag, step, 0.0, 1.0))
    assert (told.values, told.earlier) == (7, 3), "norms of a step that is told already come too late"


def test_reading_waits_while_the_sender_is_behind() -> None:
    class Slow(NullRun):
        behind = 20_003

        @property
        def waiting(self) -> int:
            return self.behind

    run, pauses = Slow(), []

    def pause() -> None:
        pauses.append(run.behind)
        run.behind -= 1

    LogRun("", lambda began: run, pause).tell(Point("loss", 0, 0.0, 1.0))
    assert pauses == [20_003, 20_002, 20_001]


def test_no_log_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(GradwatchError, match="no TensorBoard event files"):
        import_logs(tmp_path, options={})
