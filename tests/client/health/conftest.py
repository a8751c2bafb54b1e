"""Synthetic runs with known numbers: what each detector must see, and what it must not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gradwatch.health import Incident, MarkPoint, Monitor, Observation, Series
from gradwatch.protocol import Tensor

SAMPLED = ("update_ratio", "weight_norm", "grad_cosine", "zero_fraction", "adam_ratio", "saturated_fraction")


def network(layers: int = 4, width: int = 64, gain: float = math.sqrt(2.0), **more: Any) -> list[Tensor]:
    """A plain stack of linear layers, weight and bias each, as the client would declare it."""
    found = []
    for n in range(layers):
        common = {"module": f"layers.{n}", "optimizer": 0, "group": 0, **more}
        std = gain / math.sqrt(width)
        found.append(
            Tensor(
                name=f"layers.{n}.weight",
                shape=(width, width),
                numel=width * width,
                depth=2 * n,
                kind="weight",
                fan_in=width,
                init_std=std,
                **common,
            )
        )
        found.append(
            Tensor(
                name=f"layers.{n}.bias", shape=(width,), numel=width, depth=2 * n + 1, kind="bias", **common
            )
        )
    return found


@dataclass
class Story:
    """A run of ``n`` steps that is healthy until a test changes it: log-normal norms, a loss that falls."""

    n: int
    tensors: list[Tensor] = field(default_factory=network)
    seed: int = 0
    lr: float = 1e-3

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        steps = np.arange(self.n)
        scale = np.exp2(rng.normal(0.0, 1.0, len(self.tensors)) * 0.5)
        noise = np.exp2(rng.normal(0.0, 0.2, (self.n, 1)) + rng.normal(0.0, 0.1, (self.n, len(self.tensors))))
        self.norms: npt.NDArray[np.float64] = noise * scale * (0.3 + 0.7 * np.exp(-steps / 200))[:, None]
        self.loss: npt.NDArray[np.float64] = (0.5 + 1.8 * np.exp(-steps / 150)) * np.exp2(
            rng.normal(0.0, 0.08, self.n)
        )
        self.run: dict[str, npt.NDArray[np.float64]] = {"lr": np.full(self.n, self.lr)}
        self.sampled: dict[str, npt.NDArray[np.float64]] = {
            "update_ratio": 1e-3 * np.exp2(rng.normal(0.0, 0.2, (self.n, len(self.tensors))))
        }
        self.present: npt.NDArray[np.bool_] | None = None
        self.marks: list[MarkPoint] = []
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.has_loss = True
        self.lag = 0

    def observe(self, start: int, stop: int) -> Observation:
        """What frames ``start``..``stop`` bring: their gradients, and the losses of ``lag`` frames before."""
        steps = np.arange(start, stop, dtype=np.float64)
        part = slice(start, stop)
        present = None if self.present is None else self.present[part]
        found = [Series("grad_norm", "tensor", steps, steps, self.norms[part], present)]
        for name, values in self.run.items():
            found.append(Series(name, "run", steps, steps, values[part].reshape(len(steps), -1)))
        at = steps[steps % 10 == 0]
        for name, values in self.sampled.items():
            if len(at):
                found.append(Series(name, "tensor", at, at, values[at.astype(int)]))
        if self.has_loss:
            late = np.arange(start - self.lag, stop - self.lag)
            late = late[late >= 0]
            if stop == self.n:
                late = np.append(late, np.arange(max(stop - self.lag, 0), stop)) if self.lag else late
            at = late.astype(np.float64)
            if len(at):
                found.append(Series("loss", "run", at, at, self.loss[late][:, None]))
        for name, pairs in self.scalars.items():
            kept = [(s, v) for s, v in pairs if start <= s < stop]
            if kept:
                at = np.array([s for s, _ in kept], dtype=np.float64)
                found.append(Series(name, "run", at, at, np.array([[v] for _, v in kept])))
        marks = tuple(m for m in self.marks if start <= m.step < stop)
        return Observation(tuple(found), marks)

    def monitor(self, **more: Any) -> Monitor:
        """A fresh Monitor for this run."""
        more.setdefault("optimizers", [{"class": "AdamW", "lr": self.lr, "betas": [0.9, 0.999]}])
        return Monitor(self.tensors, run="story", **more)

    def watch(self, cuts: Sequence[int] = (), **more: Any) -> Monitor:
        """The monitor after the whole run, observed in the pieces between ``cuts`` (or in twenties)."""
        monitor = self.monitor(**more)
        inner = sorted(set(cuts)) if len(cuts) else list(range(20, self.n, 20))
        edges = [0, *(c for c in inner if 0 < c < self.n), self.n]
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            monitor.observe(self.observe(start, stop))
        return monitor


def told(monitor: Monitor) -> list[Incident]:
    """What people are shown: not what was merged into another incident."""
    return [i for i in monitor.incidents if not i.merged_into]


def loud(monitor: Monitor) -> list[Incident]:
    """Warnings and criticals."""
    return [i for i in told(monitor) if i.severity != "info"]


@pytest.fixture
def story() -> Callable[..., Story]:
    """Makes a :class:`Story`."""
    return Story


@pytest.fixture
def stack() -> Callable[..., list[Tensor]]:
    """Makes the tensors of a stack of linear layers."""
    return network


@pytest.fixture
def shown() -> Callable[[Monitor], list[Incident]]:
    """Incidents that people are shown."""
    return told


@pytest.fixture
def warned() -> Callable[[Monitor], list[Incident]]:
    """Incidents above info."""
    return loud
