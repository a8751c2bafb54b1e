"""The Hugging Face callbacks with the published packages: the true loss, marks, and nothing changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from gradwatch.integrations.accelerate import watch
from gradwatch.integrations.transformers import GradwatchCallback
from gradwatch.protocol import Bye, Mark
from gradwatch.testing import FakeServer, MemoryTransport

BAD_STEP, STEPS, MICRO = 5, 8, 2


class Regression(nn.Module):
    """A line through points. The loss at one point is not finite."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(3, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.mse_loss(self.line(x), labels)}


class Points(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __init__(self, bad: bool) -> None:
        self.x = torch.randn(STEPS * MICRO, 3, generator=torch.Generator().manual_seed(2))
        self.y = self.x.sum(1, keepdim=True)
        if bad:
            self.y[BAD_STEP * MICRO + 1] = math.inf

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.y[index]}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "state"))
    return FakeServer()


def train(folder: Path, callbacks: list[Any], *, bad: bool = False, **more: Any) -> tuple[Any, nn.Module]:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": MICRO,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "max_grad_norm": 0.0,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        **more,
    }
    model = Regression()
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(output_dir=str(folder), **settings),
        train_dataset=Points(bad),
        eval_dataset=Points(False),
        callbacks=callbacks,
    )
    # In the order of the data set, so that the reference sees the same batches.
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(trainer.train_dataset)
    trainer.train()
    return trainer, model


def true_losses() -> list[float]:
    """Of the first steps with the same optimizer settings, in plain PyTorch."""
    model, points = Regression(), Points(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (STEPS - step) / STEPS)
    losses = []
    for step in range(STEPS):
        parts = [
            model(points.x[i : i + 1], points.y[i : i + 1])["loss"]
            for i in range(step * MICRO, (step + 1) * MICRO)
        ]
        loss = torch.stack(parts).mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return losses


def test_the_true_loss_is_logged_where_the_trainer_filters_it(fake: FakeServer, tmp_path: Path) -> None:
    original = accelerate.Accelerator.backward
    trainer, _ = train(tmp_path, [GradwatchCallback(transport=MemoryTransport(fake))], bad=True)
    assert accelerate.Accelerator.backward is original
    told = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert math.isfinite(told[BAD_STEP]), "the trainer's own filter is off: the test shows nothing"
    loss = fake.stream.scalar("loss")
    assert sorted(loss) == list(range(STEPS))
    want = true_losses()
    np.testing.assert_allclose([loss[step] for step in range(BAD_STEP)], want[:BAD_STEP], rtol=1e-5)
    assert math.isinf(loss[BAD_STEP]) and math.isinf(want[BAD_STEP])
    assert math.isnan(loss[STEPS - 1]) and math.isnan(want[STEPS - 1])
    assert not np.isfinite(fake.stream.series("grad_norm")[BAD_STEP]).all()


def test_weights_are_the_same_without_it(fake: FakeServer, tmp_path: Path) -> None:
    _, watched = train(tmp_path / "a", [GradwatchCallback(transport=MemoryTransport(fake))])
    _, plain = train(tmp_path / "b", [])
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), plain.parameters(), strict=True))


def test_names_marks_metrics_and_configuration(fake: FakeServer, tmp_path: Path) -> None:
    callback = GradwatchCallback(transport=MemoryTransport(fake), project="p")
    train(
        tmp_path,
        [callback],
        run_name="points",
        save_strategy="steps",
        save_steps=4,
        eval_strategy="steps",
        eval_steps=4,
    )
    stream = fake.stream
    assert (stream.hello.project, stream.hello.name) == ("p", "points")
    assert stream.hello.context["config"]["learning_rate"] == 1e-2
    logged = {s.name for schema in stream.schemas.values() for s in schema.statistics if s.logged}
    assert logged == {"loss", "eval/loss"}
    assert sorted(stream.scalar("eval/loss")) == [3, 7]
    marks = [mark for mark in stream.of(Mark) if isinstance(mark, Mark) and mark.kind == "checkpoint"]
    assert [mark.step for mark in marks] == [3, 7]
    assert {Path(mark.data["path"]) for mark in marks} == set(tmp_path.glob("checkpoint-*"))
    (bye,) = stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "finished" and callback.run.over


def test_accelerate(fake: FakeServer, tmp_path: Path) -> None:
    model: Any = Regression()
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    run = watch(accelerator, model, transport=MemoryTransport(fake), config={"lr": 0.1})
    norms = []
    for step in range(3):
        loss = model(torch.ones(4, 3), torch.full((4, 1), float(step)))["loss"]
        accelerator.backward(loss)
        norms.append([float(p.grad.double().norm()) for p in model.parameters()])
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"train/loss": loss}, step=1_000 + step)
    accelerator.save_state(str(tmp_path / "saved"))
    assert accelerator.get_tracker("gradwatch").tracker is run
    accelerator.end_training()
    assert run.over
    seen = fake.stream.series("grad_norm")
    np.testing.assert_allclose([seen[step] for step in range(3)], norms, rtol=1e-6)
    assert sorted(fake.stream.scalar("train/loss")) == [0, 1, 2]
    (mark,) = [mark for mark in fake.stream.of(Mark) if isinstance(mark, Mark) and mark.kind == "checkpoint"]
    assert mark.data == {"path": str(tmp_path / "saved")} and mark.step == 2


def test_what_is_not_installed_is_a_sentence() -> None:
    from gradwatch.integrations.session import require

    with pytest.raises(ImportError, match="needs no_such_framework: pip install nosuch"):
        require("no_such_framework", "nosuch")
