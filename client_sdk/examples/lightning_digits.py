"""PyTorch Lightning: one callback. Needs lightning (or pytorch-lightning), and scikit-learn for the data."""

from __future__ import annotations

import tempfile

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gradwatch.integrations.lightning import GradwatchCallback


class Digits(pl.LightningModule):
    def __init__(self, hidden: int = 64, lr: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(self.layers(inputs), labels)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        inputs, labels = batch
        self.log("val/loss", nn.functional.cross_entropy(self.layers(inputs), labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])


def main(epochs: int = 5) -> None:
    pl.seed_everything(0)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
    train, val = torch.utils.data.random_split(data, [1_500, len(data) - 1_500])
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=epochs,
            gradient_clip_val=1.0,
            callbacks=[GradwatchCallback(project="examples", name="lightning")],
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Digits(), DataLoader(train, batch_size=50, shuffle=True), DataLoader(val, batch_size=99))


if __name__ == "__main__":
    main()
