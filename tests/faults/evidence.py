"""What was sent and what is stored, compared value by value. What a step holds follows from run and step alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradwatch import Run
from gradwatch_server.store import Store
from gradwatch_server.store.maintenance import check as doctor

NAMES = tuple(f"layer.{i}.weight" for i in range(6))


def row(run_id: str, step: int) -> npt.NDArray[np.float32]:
    """Norms of one step, float32 ``[6]``: all different, now and then not finite or zero."""
    random = np.random.default_rng((zlib.crc32(run_id.encode()), step))
    values = random.random(len(NAMES), dtype=np.float32)
    special = random.integers(0, 200)
    if special < 3:
        values[special] = (np.nan, np.inf, 0.0)[special]
    return values


def record(run: Run, step: int) -> None:
    """The training loop takes one step."""
    norms = dict(zip(NAMES, row(run.id, step).tolist(), strict=True))
    run.record(step, norms, loss=loss(step))


def loss(step: int) -> float:
    """The scalar logged at a step."""
    return 10.0 / (1 + step)


def compare(
    address: str | Path, taken: Mapping[str, int], *, lost: Mapping[str, set[int]] | None = None
) -> None:
    """Every run must hold its steps 0 up to ``taken``, once, with the values that were sent; but those in ``lost``. And the
    database must be whole."""
    store = Store.open(str(address), background=False)
    try:
        for run_id, steps in taken.items():
            gone = (lost or {}).get(run_id, set())
            expected = [step for step in range(steps) if step not in gone]
            found = store.values(run_id, "grad_norm", limit=10**7)
            np.testing.assert_array_equal(found.steps, expected)
            sent = np.array([row(run_id, step) for step in expected], np.float32)
            np.testing.assert_array_equal(found.values, sent.astype(np.float64))
            losses = store.values(run_id, "loss", "run", limit=10**7)
            np.testing.assert_array_equal(losses.steps, range(steps))
            np.testing.assert_array_equal(losses.values[:, 0], [loss(step) for step in range(steps)])
    finally:
        store.close()
    assert doctor(str(address)) == []
