"""What counts as a number, and that it is read when it should be."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from gradwatch.torch_.scalars import Flag, Later, Now, defer


@pytest.mark.parametrize(
    "value",
    [1.5, np.float32(1.5), np.array(1.5), np.array([[1.5]]), torch.tensor(1.5), torch.tensor([1.5]), Fraction(3, 2),
     torch.tensor(1.5, dtype=torch.bfloat16), torch.tensor(1.5, requires_grad=True), torch.nn.Parameter(torch.tensor([1.5]))],
)  # fmt: skip
def test_one_real_number_in_any_dress(value: object) -> None:
    number = defer(value)
    assert number is not None and number.ready() and number() == 1.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, 1.0), (7, 7.0), (np.int64(3), 3.0), (np.bool_(False), 0.0), (torch.tensor(2), 2.0), (10**400, math.inf),
     (-(10**400), -math.inf)],
)  # fmt: skip
def test_integers_and_truth(value: object, expected: float) -> None:
    number = defer(value)
    assert number is not None and number() == expected


@pytest.mark.parametrize(
    "value",
    [None, "1.5", [1.0], 1j, torch.ones(2), torch.empty(0), torch.tensor(1j), torch.tensor(1.0, device="meta"),
     np.array([1, 2]), np.array("a"), object(), Decimal("1.5")],
)  # fmt: skip
def test_anything_else_is_none(value: object) -> None:
    assert defer(value) is None


def test_not_finite_stays_as_it_is() -> None:
    number = defer(torch.tensor(float("nan")))
    assert number is not None and math.isnan(number())


def test_a_later_change_in_place_does_no_harm() -> None:
    loss = torch.tensor(1.0)
    number = defer(loss)
    loss.add_(1)
    assert number is not None and number() == 1.0


def test_later_reads_when_it_is_called() -> None:
    number = Later(torch.tensor([2.0]))
    assert number.ready() and number() == 2.0


def test_a_flag_is_zero_or_one() -> None:
    assert Flag(Now(0.0))() == 0.0 and Flag(Now(2.0))() == 1.0 and Flag(Now(0.0)).ready()
