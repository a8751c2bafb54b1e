"""Hugging Face Accelerate: one call after `prepare`; `accelerator.log` reaches the run too. Needs accelerate."""

from __future__ import annotations

import tempfile

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradwatch.integrations.accelerate import watch


def main(epochs: int = 5) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(640, 16)
    data = TensorDataset(inputs, inputs[:, :1] * inputs[:, 1:2])
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, batch_size=32))

    watch(accelerator, model, project="examples", name="accelerate", config={"lr": 1e-2, "epochs": epochs})
    for _ in range(epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            accelerator.log({"loss": loss})
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
    accelerator.end_training()


if __name__ == "__main__":
    main()
