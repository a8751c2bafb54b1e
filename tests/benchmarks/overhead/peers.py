"""Other tools recording the same norms, installed into a folder that is thrown away; none of them reaches the network.

Each is told what its users tell it: ``log`` of a dict made by a loop of ``norm().item()``, or its own watching of a model.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .steps import Recording

__all__ = ["PACKAGES", "Log", "installed", "logs", "recordings", "watches"]

PACKAGES = ("wandb", "trackio", "tensorboard")
Log = Callable[[dict[str, float], int], object]


@contextmanager
def installed() -> Iterator[Path]:
    """A folder for their files, while they can be imported."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "packages"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *PACKAGES]
        subprocess.run(command, check=True)
        sys.path.append(str(target))
        os.environ.update(
            WANDB_MODE="offline",
            WANDB_SILENT="true",
            WANDB_DIR=folder,
            TRACKIO_DIR=f"{folder}/trackio",
            HF_HUB_OFFLINE="1",
            GRADWATCH_DIR=f"{folder}/gradwatch",
            PYTHONPATH=str(target),
        )
        yield Path(folder)


def norms(model: nn.Module) -> dict[str, float]:
    """The loop that users write."""
    return {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def logs(folder: Path) -> dict[str, Log]:
    """By name: a call that records a dict of norms at a step."""
    wandb, trackio, boards = map(importlib.import_module, ("wandb", "trackio", "torch.utils.tensorboard"))
    run = wandb.init(project="overhead", dir=str(folder))
    trackio.init(project="overhead", name="run")
    writer = boards.SummaryWriter(str(folder / "tb"))

    def scalars(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return {
        "trackio.log": lambda values, step: trackio.log(values),
        "wandb.log": lambda values, step: run.log(values),
        "TensorBoard add_scalar": scalars,
    }


def recordings(logs: Mapping[str, Log]) -> dict[str, Recording]:
    """Whole training steps whose norms are logged."""
    steps = iter(range(10**6, 10**9))

    def logging(log: Log) -> Recording:
        def record(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
            return (lambda: log(norms(model), next(steps))), (lambda: None)

        return record

    return {name: logging(log) for name, log in logs.items()}


def watches() -> dict[str, Recording]:
    """Whole training steps that another tool watches by itself. After :func:`logs`."""
    run: Any = importlib.import_module("wandb").run

    def watching(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
        run.watch(model, log="gradients", log_freq=1)
        return (lambda: run.log({"loss": 0.5})), (lambda: run.unwatch(model))

    return {"wandb.watch(log_freq=1)": watching}
