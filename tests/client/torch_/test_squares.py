"""Sums of squares, against long double arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradwatch.torch_ import squares
from gradwatch.torch_.squares import Numbers

RANDOM = np.random.default_rng(11)


def expected(view: Numbers) -> float:
    return float(np.sum(np.square(view.astype(np.longdouble))))


def of_size(size: int, dtype: str = "f4") -> Numbers:
    numbers: Numbers = RANDOM.standard_normal(size).astype(dtype)
    return numbers


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 16_384, 70_001])
@pytest.mark.parametrize("way", [squares.by_rows, squares.sum_of_squares])
def test_any_size(size: int, dtype: str, way: object) -> None:
    view = of_size(size, dtype)
    assert callable(way)
    assert way(view) == pytest.approx(expected(view), rel=1e-6)


@pytest.mark.parametrize(
    "view",
    [
        of_size(60_000).reshape(200, 300).T,
        of_size(60_000).reshape(20, 30, 100).transpose(2, 0, 1),
        of_size(60_000).reshape(200, 300)[:, ::2],
        of_size(60_000)[::-1],
        np.broadcast_to(of_size(300), (200, 300)),
        of_size(1).reshape(()),
    ],
    ids=["transposed", "turned", "every other", "backwards", "expanded", "a number"],
)
def test_any_layout(view: Numbers) -> None:
    for way in (squares.by_rows, squares.sum_of_squares):
        assert way(view) == pytest.approx(expected(view), rel=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.37, 3e-7, 1 / 3])
def test_equal_numbers_are_the_worst_that_float32_sums_can_meet(value: float) -> None:
    """All roundings go the same way; ``numpy.vdot`` is asked for no more than it does well."""
    view = np.full(1_000_000, value, np.float32)
    assert math.sqrt(squares.by_rows(view)) == pytest.approx(math.sqrt(expected(view)), rel=3e-6)
    whole = view[: squares.WHOLE]
    assert math.sqrt(float(squares.vdot(whole, whole))) == pytest.approx(math.sqrt(expected(whole)), rel=2e-5)


def test_rows_without_a_numpy_that_multiplies_them() -> None:
    rows = of_size(6 * 50).reshape(6, 50)
    np.testing.assert_allclose(squares._products(rows, rows), np.square(rows).sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [1, 9000])
@pytest.mark.parametrize("magnitude", [1e-45, 1e-38, 1e-20, 1.0, 1e20, 3e38])
def test_a_second_look_is_exact(dtype: str, size: int, magnitude: float) -> None:
    view = np.full(size, magnitude, dtype)
    norm, _, bad = squares.exact(view)
    assert norm == pytest.approx(float(view[0]) * math.sqrt(size), rel=1e-6) and bad == 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [1, 9000, 1_000_000])
@pytest.mark.parametrize("magnitude", [0.0, 1e-45, 1e-41, 1e-38, 1e-30, 1e-20, 1e-14])
def test_tiny_ones_do_not_underflow(dtype: str, size: int, magnitude: float) -> None:
    view = of_size(size, dtype)
    view *= magnitude / math.sqrt(expected(view))
    assert squares.tiny_norm(view) == pytest.approx(math.sqrt(expected(view)), rel=1e-6)


@pytest.mark.parametrize("magnitude", [1e-300, 1e-160, 1e160, 1e300])
def test_a_second_look_at_what_even_float64_cannot_square(magnitude: float) -> None:
    norm, largest, bad = squares.exact(np.full(9000, magnitude))
    assert norm == pytest.approx(magnitude * math.sqrt(9000), rel=1e-9)
    assert (largest, bad) == (magnitude, 0)


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_nothing_but_zeros(size: int) -> None:
    norm, _, bad = squares.exact(np.zeros(size, np.float32))
    assert (norm, bad) == (0.0, 0)


def test_what_is_not_finite_is_counted() -> None:
    view = of_size(9000)
    view[3] = math.inf
    assert squares.exact(view) == (math.inf, math.inf, 1)
    view[4:6] = math.nan
    norm, largest, bad = squares.exact(view)
    assert math.isnan(norm) and math.isnan(largest) and bad == 3


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([], True),
        ([1.0, 1e-28], True),
        ([1.0, 9e-29], False),
        ([1.0, 0.0], False),
        ([math.inf, 1.0], False),
        ([math.nan, 1.0], False),
        ([1.0, math.nan], False),
    ],
)
def test_what_needs_a_second_look(sums: list[float], expected: bool) -> None:
    assert squares.usual(sums) is expected
