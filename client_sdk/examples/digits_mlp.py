"""Handwritten digits: clipping, a schedule, validation, a checkpoint mark. Needs scikit-learn for the data."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import gradwatch

CONFIG = {"lr": 3e-3, "batch": 64, "clip": 1.0, "epochs": 10}


def main(epochs: int = CONFIG["epochs"]) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    train, val = torch.arange(1_500), torch.arange(1_500, len(labels))

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)

    with gradwatch.watch(model, project="examples", name="digits", config=CONFIG) as run:
        for epoch in range(epochs):
            for rows in train[torch.randperm(len(train))].split(CONFIG["batch"]):
                loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CONFIG["clip"])
                optimizer.step()
                run.log(loss=loss)
            with torch.no_grad():
                outputs = model(inputs[val])
            run.log({"val/loss": nn.functional.cross_entropy(outputs, labels[val])})
            run.log({"val/accuracy": (outputs.argmax(1) == labels[val]).float().mean()})
            run.mark("epoch", number=epoch)
            schedule.step()


if __name__ == "__main__":
    main()
