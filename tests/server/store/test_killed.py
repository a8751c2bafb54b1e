"""The process that writes is killed, again and again: what it said is durable is there, once, and nothing else is harmed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.server.store.helpers import RUN, opened
from tests.server.store.writer_process import first_step, values

from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store
from gradwatch_server.store.maintenance import check as doctor

ROUNDS = int(os.environ.get("GRADWATCH_KILLS", "5"))
"""The long form has 200."""


def write_until_killed(address: str, batches: int) -> int:
    """Kills a writer when it has said that ``batches`` more are durable; gives the next sequence number it told."""
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.store.writer_process", address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert process.stdout is not None
    told = [int(line) for line, _ in zip(process.stdout, range(batches), strict=False)]
    process.kill()
    told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.stdout.close()
    process.wait()
    return max(told)


def check(address: str, told: int) -> None:
    """Compares what is stored with what was sent, value by value, and the pyramid with the values."""
    store = Store.open(address, background=False)
    try:
        next_seq = opened(store).next_seq
        assert next_seq >= told, "something that was durable is gone"
        sent = np.concatenate([values(seq) for seq in range(1, next_seq)])
        stored = store.values(RUN, "grad_norm", limit=10**7)
        np.testing.assert_array_equal(stored.steps, np.arange(first_step(next_seq)))
        np.testing.assert_array_equal(stored.values, sent.astype(np.float64))
        for points in (3, 50, 700):
            series = store.series(RUN, SeriesQuery(statistic="grad_norm", points=points))
            for bucket in (0, series.last.shape[1] // 2, series.last.shape[1] - 1):
                inside = sent[bucket * series.width : (bucket + 1) * series.width]
                np.testing.assert_array_equal(series.last[:, bucket], inside[-1])
                np.testing.assert_array_equal((series.flags[:, bucket] & 2) > 0, np.isnan(inside).any(axis=0))
                finite = np.where(np.isnan(inside), -np.inf, inside).max(axis=0)
                expected = np.where(np.isinf(finite), np.nan, finite)
                np.testing.assert_array_equal(series.high[:, bucket], expected)
    finally:
        store.close()


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_doubled(address: str) -> None:
    chance = random.Random(11)
    for _ in range(ROUNDS):
        check(address, write_until_killed(address, chance.randint(1, 120)))
    assert doctor(address) == []
