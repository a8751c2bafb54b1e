"""A store that was corrected is the store that would have been, had the right values come at once: at every zoom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store
from gradwatch_server.store.live import StreamHandle
from gradwatch_server.store.maintenance import check
from gradwatch_server.store.tail import Piece

from .helpers import NAMES, RUN, WAIT, batch, declared, opened

STEPS = 5_000
LATE = np.r_[40:60, 255:258, 1_500, 4_000:4_100, 4_990:4_995]


def fill(store: Store, values: npt.NDArray[Any]) -> StreamHandle:
    stream = opened(store).stream
    store.append(stream, [declared()]).done.result(WAIT)
    for n, first in enumerate(range(0, STEPS, 500)):
        store.append(stream, [batch(1 + n, first, values[first : first + 500])]).done.result(WAIT)
    return stream


def seen(store: Store, scope: str) -> list[Any]:
    found: list[Any] = []
    for points in (STEPS, 1_500, 400, 80, 5):
        series = store.series(RUN, SeriesQuery(statistic="grad_norm", scope=scope, points=points))
        found += [series.width, series.low, series.high, series.last, series.flags]
    return found


@pytest.mark.parametrize("compacted", [False, True])
def test_corrected_is_as_if_it_had_come_at_once(tmp_path: Path, compacted: bool) -> None:
    rng = np.random.default_rng(5)
    right = rng.uniform(0.5, 2.0, (STEPS, len(NAMES))).astype(np.float32)
    right[1_500, 1] = np.inf
    wrong = right.copy()
    wrong[LATE] *= 0.5
    address = str(tmp_path / "corrected.db")
    one, other = (
        Store.open(address, background=False),
        Store.open(str(tmp_path / "right.db"), background=False),
    )
    stream = fill(one, wrong)
    fill(other, right)
    if compacted:
        one.compact()
    series = stream.live.series[(0, "tensor", "grad_norm")]
    steps = LATE.astype(np.float64)
    one.correct(stream, [Piece(series.idx, steps, 100 + steps / 10, right[LATE])])
    more = right[:100] * 3
    for store in (one, other):
        handle = stream if store is one else opened(other).stream
        store.append(handle, [batch(11, STEPS, more)]).done.result(WAIT)
    for scope in ("tensor", "group"):
        for a, b in zip(seen(one, scope), seen(other, scope), strict=True):
            np.testing.assert_array_equal(a, b)
    one.compact()
    for scope in ("tensor", "group"):
        for a, b in zip(seen(one, scope), seen(other, scope), strict=True):
            np.testing.assert_array_equal(a, b)
        values = [store.values(RUN, "grad_norm", scope, limit=10_000).values for store in (one, other)]
        np.testing.assert_array_equal(*values)
    one.close()
    other.close()
    assert check(address) == []


def test_steps_that_were_never_stored_come_in_and_absent_rows_stay_absent(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "a.db"), background=False)
    stream = opened(store).stream
    first = np.ones((10, len(NAMES)), np.float32)
    store.append(stream, [declared(), batch(1, 0, first), batch(2, 20, first)]).done.result(WAIT)
    series = stream.live.series[(0, "tensor", "grad_norm")]
    there = np.array([[True, True, False, True]])
    piece = Piece(
        series.idx,
        np.array([15.0]),
        np.array([1.0]),
        np.where(there, np.float32(7.0), np.float32(np.nan)),
        there,
    )
    store.correct(stream, [piece])
    found = store.values(RUN, "grad_norm", limit=100)
    assert found.steps.tolist() == [*range(10), 15, *range(20, 30)]
    assert found.present[10].tolist() == [True, True, False, True]
    assert found.values[10][[0, 1, 3]].tolist() == [7.0] * 3 and np.isnan(found.values[10][2])
    store.close()
