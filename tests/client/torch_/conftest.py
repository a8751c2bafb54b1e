"""A run's end as capture sees it: what it declares and hands out, and a shield that lets errors through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradwatch.frames import Frame, PendingFrame
from gradwatch.protocol import Statistic, Tensor
from gradwatch.torch_.capture import Capture


class OpenShield:
    """A shield that shields nothing: what goes wrong in a hook fails the test."""

    def wrap(self, fn: Callable[..., Any], where: str) -> Callable[..., Any]:
        assert where
        return fn


class Recorder:
    """Collects frames and declarations."""

    def __init__(self) -> None:
        self.pending: list[PendingFrame] = []
        self.schemas: list[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]] = []
        self._frames: list[Frame] = []

    @property
    def frames(self) -> list[Frame]:
        """All frames so far, resolved."""
        while len(self._frames) < len(self.pending):
            self._frames.append(self.pending[len(self._frames)].resolve())
        return self._frames

    def names(self, frame: Frame) -> list[str]:
        """Names of the tensors of a frame."""
        return [tensor.name for tensor in self.schemas[frame.schema - 1][0]]

    def norms(self, frame: Frame, statistic: str = "grad_norm") -> dict[str, float]:
        """Name to value, for the values that are present."""
        row = frame.values[statistic]
        there = frame.present.get(statistic, np.ones(len(row), bool))
        return {name: float(v) for name, v, ok in zip(self.names(frame), row, there, strict=True) if ok}

    def number(self, frame: Frame, name: str) -> float:
        """A number of the run."""
        (value,) = frame.values[name]
        return float(value)


class Watch:
    """Makes captures and detaches them at the end of the test."""

    def __init__(self) -> None:
        self.captures: list[Capture] = []

    def __call__(self, *models: nn.Module, **options: Any) -> tuple[Capture, Recorder]:
        recorder = Recorder()
        capture = Capture(
            list(models),
            shield=OpenShield(),  # type: ignore[arg-type]
            on_frame=recorder.pending.append,
            on_schema=lambda tensors, statistics: recorder.schemas.append((tensors, statistics)),
            **options,
        )
        self.captures.append(capture)
        capture.attach()
        return capture, recorder


@pytest.fixture
def watch() -> Iterator[Watch]:
    torch.manual_seed(0)
    made = Watch()
    yield made
    for capture in made.captures:
        capture.detach()


def mlp(sizes: Sequence[int] = (6, 8, 5, 3)) -> nn.Sequential:
    """Linear layers with ReLU between."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers += ([nn.ReLU()] if i else []) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def reference(model: nn.Module) -> dict[str, float]:
    """L2 norm of each gradient, by float64 arithmetic on plain copies."""
    return {
        name: float(p.grad.detach().to_dense().double().pow(2).sum().sqrt())
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def close(a: dict[str, float], b: dict[str, float], rel: float = 1e-5) -> None:
    """Same names, same values."""
    assert a == pytest.approx(b, rel=rel, nan_ok=True)
