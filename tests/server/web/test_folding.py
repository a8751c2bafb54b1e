"""Deltas against a plain reduction of everything that was sent, at any zoom and however it is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch_server.models import FLAG_INF, FLAG_NAN, FLAG_PRESENT, FLAG_ZERO, Series, StoredBlock
from gradwatch_server.web.folding import Fold, Unfoldable

ROWS = 3


def empty(width: int, rows: int = ROWS) -> Series:
    nothing = np.zeros((rows, 0), np.float32)
    return Series(
        width=width,
        first_bucket=0,
        low=nothing,
        high=nothing,
        last=nothing,
        flags=np.zeros((rows, 0), np.uint8),
    )


def block(
    steps: Sequence[int],
    values: npt.NDArray[np.float32],
    present: npt.NDArray[np.bool_] | None = None,
    rows: Sequence[int] | None = None,
) -> StoredBlock:
    return StoredBlock(
        statistic="grad_norm",
        scope="tensor",
        steps=np.array(steps, dtype=np.float64),
        times=np.array(steps, dtype=np.float64) + 0.5,
        values=values,
        rows=np.arange(values.shape[1], dtype=np.int32) if rows is None else np.array(rows, dtype=np.int32),
        present=present,
    )


Cell = tuple[float, float, float, int]


def plain_cells(
    steps: Sequence[int], values: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], width: int
) -> dict[tuple[int, int], Cell]:
    """(row, bucket) -> (low, high, last, flags), in plain Python."""
    cells: dict[tuple[int, int], Cell] = {}
    for i, step in enumerate(steps):
        for row in range(values.shape[1]):
            if not present[i, row]:
                continue
            value = float(values[i, row])
            low, high, _, flags = cells.get((row, step // width), (math.nan, math.nan, math.nan, 0))
            flags |= FLAG_PRESENT
            if math.isnan(value):
                flags |= FLAG_NAN
            elif math.isinf(value):
                flags |= FLAG_INF
            else:
                low = value if math.isnan(low) else min(low, value)
                high = value if math.isnan(high) else max(high, value)
                flags |= FLAG_ZERO if value == 0 else 0
            cells[row, step // width] = low, high, value, flags
    return cells


def read(series: Series, into: dict[tuple[int, int], Cell]) -> None:
    """What a browser does with a delta: whole buckets replace."""
    for row in range(series.last.shape[0]):
        for column in range(series.last.shape[1]):
            key = row, series.first_bucket + column
            if series.flags[row, column] & FLAG_PRESENT:
                into[key] = (
                    float(series.low[row, column]),
                    float(series.high[row, column]),
                    float(series.last[row, column]),
                    int(series.flags[row, column]),
                )
            else:
                assert math.isnan(series.last[row, column])
                assert series.flags[row, column] == 0
                into.pop(key, None)


def assert_same(found: dict[tuple[int, int], Cell], wanted: dict[tuple[int, int], Cell]) -> None:
    assert found.keys() == wanted.keys()
    for key, cell in wanted.items():
        assert found[key] == pytest.approx(cell, nan_ok=True, rel=0, abs=0), key


value = st.sampled_from([0.0, 1.0, -2.0, 5e-30, 3e30, math.nan, math.inf, -math.inf])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), width=st.sampled_from([1, 4, 16]), n=st.integers(1, 40))
def test_deltas_are_what_a_plain_reduction_says(data: st.DataObject, width: int, n: int) -> None:
    gaps = data.draw(st.lists(st.integers(1, 20), min_size=n, max_size=n))
    steps = [int(s) for s in np.cumsum(gaps)]
    cells = st.lists(st.lists(value, min_size=ROWS, max_size=ROWS), min_size=n, max_size=n)
    values = np.array(data.draw(cells), dtype=np.float32)
    holes = st.lists(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), min_size=n, max_size=n)
    present = np.array(data.draw(holes), dtype=np.bool_)
    fold = Fold(empty(width))
    found: dict[tuple[int, int], Cell] = {}
    at = 0
    while at < n:
        blocks = []
        for _ in range(data.draw(st.integers(1, 3))):
            end = min(n, at + data.draw(st.integers(1, 7)))
            if end > at:
                blocks.append(block(steps[at:end], values[at:end], present[at:end]))
            at = end
        delta = fold.add(blocks)
        assert delta is not None
        read(delta, found)
    assert_same(found, plain_cells(steps, values, present, width))
    assert fold.last_step == steps[-1]


def test_goes_on_from_the_open_bucket_of_a_snapshot() -> None:
    snapshot = Series(
        width=4,
        first_bucket=2,
        low=np.array([[1.0, 5.0]], np.float32),
        high=np.array([[2.0, 6.0]], np.float32),
        last=np.array([[2.0, 5.5]], np.float32),
        flags=np.array([[FLAG_PRESENT, FLAG_PRESENT | FLAG_NAN]], np.uint8),
        last_step=13,
        last_time=13.5,
    )
    fold = Fold(snapshot)
    delta = fold.add([block([12, 13, 14, 17], np.array([[99.0], [99.0], [0.0], [7.0]], np.float32))])
    assert delta is not None
    assert (delta.first_bucket, delta.last_step, delta.last_time) == (3, 17, 17.5)
    assert delta.low.tolist() == [[0.0, 7.0]]
    assert delta.high.tolist() == [[6.0, 7.0]]
    assert delta.last.tolist() == [[0.0, 7.0]]
    assert delta.flags.tolist() == [[FLAG_PRESENT | FLAG_NAN | FLAG_ZERO, FLAG_PRESENT]]


def test_what_is_already_in_the_view_gives_nothing() -> None:
    fold = Fold(empty(1))
    one = block([3], np.ones((1, ROWS), np.float32))
    assert fold.add([one]) is not None
    assert fold.add([one]) is None


def test_chosen_rows_come_in_their_order_and_missing_ones_are_absent() -> None:
    fold = Fold(empty(1, rows=3), rows=[5, 0, 2])
    delta = fold.add([block([0], np.array([[10.0, 20.0]], np.float32), rows=[0, 5])])
    assert delta is not None
    assert delta.last[:2].tolist() == [[20.0], [10.0]]
    assert delta.flags.tolist() == [[FLAG_PRESENT], [FLAG_PRESENT], [0]]


def test_the_end_of_a_view_is_kept() -> None:
    fold = Fold(empty(1), to_step=5)
    delta = fold.add([block([4, 5, 6], np.ones((3, ROWS), np.float32))])
    assert delta is not None
    assert delta.last.shape == (ROWS, 1)
    assert fold.add([block([7], np.ones((1, ROWS), np.float32))]) is None


def test_new_tensors_ask_for_a_snapshot() -> None:
    with pytest.raises(Unfoldable):
        Fold(empty(1)).add([block([0], np.ones((1, ROWS + 1), np.float32))])


def test_a_jump_in_steps_asks_for_a_snapshot() -> None:
    with pytest.raises(Unfoldable):
        Fold(empty(1)).add([block([0, 10_000_000], np.ones((2, ROWS), np.float32))])
