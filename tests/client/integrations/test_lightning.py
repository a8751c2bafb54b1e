"""The Lightning callback with the published packages, by both names: right numbers, marks, ends, and nothing changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gradwatch.integrations.lightning import GradwatchCallback
from gradwatch.protocol import Bye, Mark
from gradwatch.testing import FakeServer, MemoryTransport

pytestmark = [
    pytest.mark.filterwarnings("ignore:::pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]

CLIP, BATCH, MICRO = 0.5, 8, 2
INPUTS = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
TARGETS = torch.sin(INPUTS.sum(1, keepdim=True))


class _Line:
    """A module of either framework."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.fail_at = -1

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if index == self.fail_at:
            raise RuntimeError("a batch went wrong")
        loss = nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val/loss", nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


LINES = {
    framework: type("Line", (_Line, framework.LightningModule), {})
    for framework in (pytorch_lightning, lightning.pytorch)
}


@pytest.fixture(params=LINES, ids=lambda framework: framework.__name__)
def pl(request: pytest.FixtureRequest) -> Any:
    """Either framework."""
    return request.param


def loader() -> Any:
    return DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=BATCH)


def trainer(pl: Any, folder: Path, *callbacks: Any, **more: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"max_epochs": 2, "gradient_clip_val": CLIP, "accumulate_grad_batches": MICRO, **more}
    return pl.Trainer(
        accelerator="cpu", callbacks=list(callbacks), default_root_dir=folder, **quiet, **settings
    )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "state"))
    return FakeServer()


def by_hand() -> tuple[list[list[float]], list[float], dict[str, Tensor]]:
    """The same training in plain PyTorch: norms by tensor and losses of each step, and the weights at the end."""
    model: Any = LINES[pytorch_lightning]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    norms, losses = [], []
    for _ in range(2):
        for begin in range(0, len(INPUTS), BATCH * MICRO):
            parts = []
            for start in range(begin, begin + BATCH * MICRO, BATCH):
                rows = slice(start, start + BATCH)
                loss = nn.functional.mse_loss(model.layers(INPUTS[rows]), TARGETS[rows])
                (loss / MICRO).backward()
                parts.append(loss.item())
            norms.append([float(p.grad.double().norm()) for p in model.parameters() if p.grad is not None])
            losses.append(sum(parts) / MICRO)
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
    return norms, losses, model.state_dict()


def test_norms_losses_and_weights_are_those_of_plain_training(
    pl: Any, fake: FakeServer, tmp_path: Path
) -> None:
    norms, losses, weights = by_hand()
    callback = GradwatchCallback(transport=MemoryTransport(fake), project="p", name="n")
    model = LINES[pl]()
    trainer(pl, tmp_path, callback, enable_checkpointing=False).fit(model, loader(), loader())
    stream = fake.stream
    assert [t.name for t in stream.tensors] == [name for name, _ in model.named_parameters()]
    seen = stream.series("grad_norm")
    np.testing.assert_allclose([seen[step] for step in sorted(seen)], norms, rtol=1e-6)
    assert min(stream.scalar("clip_coef").values()) < 1, "nothing was clipped: the test shows nothing"
    np.testing.assert_allclose([stream.scalar("loss")[step] for step in range(8)], losses, rtol=1e-6)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert sorted(stream.scalar("val/loss")) == [3, 7]
    logged = {s.name for schema in stream.schemas.values() for s in schema.statistics if s.logged}
    assert logged == {"loss", "val/loss"}
    assert stream.hello.context["config"] == {"lr": 0.05}
    (bye,) = stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "finished" and callback.run.over


def test_checkpoints_become_marks_and_training_resumes_at_its_step(
    pl: Any, fake: FakeServer, tmp_path: Path
) -> None:
    saving = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "kept", save_top_k=-1, every_n_epochs=1)
    fit = trainer(pl, tmp_path, GradwatchCallback(transport=MemoryTransport(fake)), saving)
    fit.fit(LINES[pl](), loader())
    assert "save_checkpoint" not in vars(fit)
    marks = [mark for mark in fake.stream.of(Mark) if isinstance(mark, Mark) and mark.kind == "checkpoint"]
    assert [mark.step for mark in marks] == [3, 7]
    assert {Path(mark.data["path"]) for mark in marks} == set((tmp_path / "kept").iterdir())

    later = FakeServer()
    again = trainer(pl, tmp_path, GradwatchCallback(transport=MemoryTransport(later)), max_epochs=3)
    again.fit(LINES[pl](), loader(), ckpt_path=marks[-1].data["path"])
    assert sorted(later.stream.series("grad_norm")) == [8, 9, 10, 11]


def test_an_exception_is_the_runs_end(pl: Any, fake: FakeServer, tmp_path: Path) -> None:
    model = LINES[pl]()
    model.fail_at = 5
    fit = trainer(
        pl, tmp_path, GradwatchCallback(transport=MemoryTransport(fake)), enable_checkpointing=False
    )
    with pytest.raises(RuntimeError, match="a batch went wrong"):
        fit.fit(model, loader())
    (bye,) = fake.stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "failed"
    assert bye.error is not None and bye.error["message"] == "a batch went wrong"
    assert "save_checkpoint" not in vars(fit)


ALONE = """
import sys
import lightning as L
from gradwatch.integrations.lightning import GradwatchCallback
assert issubclass(GradwatchCallback, L.Callback)
assert "pytorch_lightning" not in sys.modules
"""


@pytest.mark.slow
def test_the_newer_name_alone_is_enough() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE], check=True)


def test_the_model_is_the_frameworks_business() -> None:
    with pytest.raises(ValueError, match="leave model= out"):
        GradwatchCallback(model=nn.Linear(1, 1))
