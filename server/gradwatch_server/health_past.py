"""What is stored of a run, for a health monitor that takes it up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from gradwatch.health import FRAME_STATISTICS, MarkPoint, Monitor, Observation, Series
from gradwatch.protocol import Tensor

from .models import Run, TensorInfo
from .store import Store
from .store import health_queries as sql

__all__ = ["declared", "monitor_of", "replay", "unfed"]

WINDOW_STEPS: Final = 1_024
MOST_STEPS: Final = 20_000
"""A run that was never judged is taken up this many steps before its end: long enough to learn what is normal."""

SCALARS: Final = (
    "loss",
    "val/loss",
    "val_loss",
    "valid/loss",
    "eval/loss",
    "eval_loss",
    "validation/loss",
    "test/loss",
)


def declared(tensors: Sequence[TensorInfo]) -> list[Tensor]:
    """A run's tensors as the engine wants them."""
    return [
        Tensor(
            name=one.name,
            shape=one.shape,
            numel=one.numel,
            dtype=one.dtype,
            depth=one.depth,
            module=one.module,
            kind=one.kind,  # type: ignore[arg-type]
            fan_in=one.fan_in,
            init_std=one.init_std,
            optimizer=one.optimizer,
            group=one.param_group,
            sparse=one.sparse,
            trainable=one.trainable,
        )
        for one in tensors
    ]


def monitor_of(run: Run, segment: int, tensors: Sequence[TensorInfo], store: Store) -> Monitor:
    """A fresh monitor of one segment of a run."""
    name = run.id if segment == 0 else f"{run.id}/{segment}"
    optimizers = store.database.read(lambda conn: sql.load_optimizers(conn, run.id))
    for mark in store.marks(run.id):
        if mark.kind == "optimizers":
            optimizers = list(mark.data.get("optimizers", optimizers))
    return Monitor(declared(tensors), optimizers=optimizers, run=name)


def unfed(observation: Observation, fed: dict[str, int]) -> Observation:
    """What of ``observation`` is newer than ``fed``, the newest step by name ("" for all that belongs to frames), which is
    brought forward: what is read back from the store and what comes in may overlap."""
    newest = dict(fed)
    kept = []
    for series in observation.series:
        key = _key(series.name, series.scope)
        start = int(np.searchsorted(series.steps, fed.get(key, -1), side="right"))
        if start == len(series.steps):
            continue
        newest[key] = max(newest.get(key, -1), int(series.steps[-1]))
        kept.append(_from(series, start) if start else series)
    fed.update(newest)
    return Observation(tuple(kept), observation.marks)


def _key(name: str, scope: str) -> str:
    return "" if scope == "tensor" or name in FRAME_STATISTICS else name


def _from(series: Series, start: int) -> Series:
    return Series(
        series.name,
        series.scope,
        series.steps[start:],
        series.times[start:],
        series.values[start:],
        None if series.present is None else series.present[start:],
        series.rows,
    )


def replay(store: Store, run_id: str, fed: Mapping[str, int], *, before: int) -> Iterator[Observation]:
    """Everything stored after ``fed`` and before step ``before``, in windows of steps. Blocks."""
    frames_from = fed.get("", -1) + 1
    start = max(0, before - MOST_STEPS, min([frames_from, *(step + 1 for step in fed.values())]))
    known = store.statistics(run_id)
    wanted = [
        info
        for info in known
        if info.scope == "tensor" or (info.scope == "run" and info.name in (*FRAME_STATISTICS, *SCALARS))
    ]
    marks = [mark for mark in store.marks(run_id) if frames_from <= mark.step < before]
    for at in range(start, before, WINDOW_STEPS):
        end = min(at + WINDOW_STEPS, before)
        series = []
        for info in wanted:
            first = max(at, fed.get(_key(info.name, info.scope), frames_from - 1) + 1)
            if first < end:
                values = store.values(
                    run_id, info.name, info.scope, from_step=first, to_step=end, limit=WINDOW_STEPS
                )
                if len(values.steps):
                    series.append(
                        Series(
                            info.name, info.scope, values.steps, values.times, values.values, values.present
                        )
                    )
        yield Observation(
            tuple(series),
            tuple(MarkPoint(mark.step, mark.kind, mark.data) for mark in marks if at <= mark.step < end),
        )
