"""The two lines: watch a model, log the loss."""

from __future__ import annotations

import torch
from torch import nn

import gradwatch


def main(steps: int = 200) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    inputs = torch.randn(512, 16)
    targets = inputs[:, :1] * inputs[:, 1:2]

    run = gradwatch.watch(model, project="examples", name="minimal")
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)
    run.finish()


if __name__ == "__main__":
    main()
