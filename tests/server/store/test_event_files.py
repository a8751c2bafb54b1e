"""A run as TensorBoard log, read back by TensorBoard's own reader, value by value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.server.store.helpers import RUN, WAIT, opened

from gradwatch.protocol import Batch, Block, Schema, Statistic, Tensor
from gradwatch_server.store import Store
from gradwatch_server.store.schema import open_reader
from gradwatch_server.store.table_export import export_tables

TENSORS = ("blocks.0.weight", "blocks.0.bias", "head.weight")
STEPS = 700


def stored(path: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """A run with norms (some absent, some not finite), learning rates of two groups, and a loss that is logged now and then."""
    store = Store.open(path, clock=lambda: 1000.0, background=False)
    stream = opened(store).stream
    statistics = (
        Statistic(name="grad_norm", scope="tensor", width=3),
        Statistic(name="lr", scope="run", width=2, dtype="f8"),
        Statistic(name="val/loss", scope="run", dtype="f8", logged=True),
    )
    schema = Schema(seq=0, id=0, statistics=statistics, tensors=tuple(Tensor(name=name) for name in TENSORS))
    random = np.random.default_rng(3)
    steps = np.arange(float(STEPS))
    norms = random.random((STEPS, 3), dtype=np.float32)
    norms[5], norms[6, 0], norms[7] = np.nan, -np.inf, 0.0
    present = random.random(norms.shape) < 0.9
    rates = np.stack([steps / 7, steps / 11], axis=1)
    blocks = (
        Block(statistic=0, steps=steps, times=1.7e9 + steps, values=norms, present=present),
        Block(statistic=1, steps=steps, times=1.7e9 + steps, values=rates),
        Block(statistic=2, steps=steps[::100], times=1.7e9 + steps[::100], values=rates[::100, :1]),
    )
    store.append(stream, [schema, Batch(seq=1, schema=0, blocks=blocks)]).done.result(WAIT)
    store.compact()
    store.close()
    return norms, present


def test_tensorboard_reads_what_was_stored(tmp_path: Path) -> None:
    path = str(tmp_path / "gradwatch.db")
    norms, present = stored(path)
    reader = open_reader(path)
    told: list[tuple[str, int, int]] = []
    written = export_tables(
        reader, RUN, tmp_path / "log", "tensorboard", lambda what, step, last: told.append((what, step, last))
    )
    reader.close()
    assert all(one.parent == tmp_path / "log" and "tfevents" in one.name for one in written)
    assert ("grad_norm", STEPS - 1, STEPS - 1) in told

    log = EventAccumulator(str(tmp_path / "log"), size_guidance={"scalars": 0})
    log.Reload()
    shown = set(log.Tags()["scalars"])
    assert {f"grad_norm/{name}" for name in TENSORS} | {"lr/0", "lr/1", "val/loss"} <= shown
    assert "group_grad_norm/(all)" in shown
    for i, name in enumerate(TENSORS):
        events = log.Scalars(f"grad_norm/{name}")
        assert [event.step for event in events] == np.flatnonzero(present[:, i]).tolist()
        got = np.array([event.value for event in events], dtype=np.float32)
        np.testing.assert_array_equal(got, norms[present[:, i], i])
        assert [event.wall_time for event in events] == [1.7e9 + event.step for event in events]
    rates = np.array([event.value for event in log.Scalars("lr/1")], dtype=np.float32)
    np.testing.assert_array_equal(rates, (np.arange(STEPS) / 11).astype(np.float32))
    assert [event.step for event in log.Scalars("val/loss")] == list(range(0, STEPS, 100))
