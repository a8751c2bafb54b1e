"""Feeds a recorded run to the Monitor in batches, as the server would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradwatch.health import Incident, MarkPoint, Monitor, Observation, Series
from gradwatch.protocol import Tensor

BATCH = 20


@dataclass
class Run:
    """A recorded run."""

    tensors: list[Tensor]
    optimizers: list[dict[str, Any]]
    data: dict[str, np.ndarray]
    phases: tuple[int, ...] = ()
    """Steps at which the script said ``run.phase``."""

    @property
    def steps(self) -> int:
        return len(self.data["grad_norm"])

    @property
    def loss(self) -> np.ndarray:
        return self.data["run/loss"]

    @property
    def total(self) -> np.ndarray:
        norms = self.data["grad_norm"].astype(np.float64)
        bad = np.isinf(norms).any(axis=1)
        total = np.sqrt(np.nansum(norms**2, axis=1))
        return np.where(bad, np.inf, total)


def load(path: Path) -> Run:
    with np.load(path) as stored:
        data = {k: stored[k] for k in stored.files if k != "meta"}
        meta = json.loads(stored["meta"].tobytes())
    tensors = [Tensor(**{**row, "shape": tuple(row["shape"])}) for row in meta["tensors"]]
    return Run(tensors, meta["optimizers"], data)


def observations(run: Run, batch: int = BATCH) -> Iterator[Observation]:
    """The run in batches of ``batch`` steps. A NaN norm of a tensor that others lack is absent, not NaN."""
    data, n = run.data, run.steps
    absent = _absent(run)
    times = np.arange(n) * 0.1
    steps = np.arange(n, dtype=np.float64)
    for a in range(0, n, batch):
        b = min(a + batch, n)
        part = slice(a, b)
        present = None if not absent[part].any() else ~absent[part]
        found = [Series("grad_norm", "tensor", steps[part], times[part], data["grad_norm"][part], present)]
        for key, values in data.items():
            if key.startswith("run/"):
                found.append(Series(key[4:], "run", steps[part], times[part], values[part, None]))
            elif key.startswith("tensor/"):
                at = data["at/" + key[7:]]
                pick = (at >= a) & (at < b)
                if pick.any():
                    when = at[pick].astype(np.float64)
                    found.append(Series(key[7:], "tensor", when, when * 0.1, values[pick]))
        marks = tuple(MarkPoint(at, "phase") for at in run.phases if a <= at < b)
        yield Observation(tuple(found), marks)


def _absent(run: Run) -> np.ndarray:
    """Cells without a gradient: NaN while the loss scaler is silent and most of the row is finite and it is so for long."""
    nan = np.isnan(run.data["grad_norm"])
    first = nan[: min(5, len(nan))].all(axis=0)
    gone = np.zeros_like(nan)
    for i in np.flatnonzero(first):
        alive = np.flatnonzero(~nan[:, i])
        gone[: alive[0] if len(alive) else len(nan), i] = True
    return gone


def watch(run: Run, batch: int = BATCH, profile: str = "default") -> tuple[Monitor, list[Incident]]:
    """All snapshots in the order in which they came, and the monitor."""
    monitor = Monitor(run.tensors, optimizers=run.optimizers, run="bench", profile=profile)
    seen = [incident for o in observations(run, batch) for incident in monitor.observe(o)]
    return monitor, seen
