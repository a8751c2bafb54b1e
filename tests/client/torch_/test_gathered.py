"""Samples of tensors: which elements they hold, and that they are copies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gradwatch.torch_.gathered import ELEMENTS, gather

SHAPES = [
    (),
    (1,),
    (3, 5),
    (1024,),
    (1025,),
    (2048,),
    (513, 2),
    (64, 64),
    (30, 30030),
    (7, 11, 13, 17),
    (1, 4099),
]


def taken(*tensors: torch.Tensor) -> dict[int, np.ndarray]:
    columns = np.arange(len(tensors))
    return {
        column: values for part in gather(columns, tensors) for column, values in part.per_column().items()
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_small_tensors_are_taken_whole_and_of_large_ones_different_elements_from_all_over(
    shape: tuple[int, ...],
) -> None:
    tensor = torch.arange(float(np.prod(shape))).reshape(shape)
    found = taken(tensor, torch.zeros(2))[0]
    assert len(found) == min(tensor.numel(), ELEMENTS) == len(set(found))
    if tensor.numel() <= ELEMENTS:
        assert found.tolist() == tensor.reshape(-1).tolist()
        return
    assert found.max() < tensor.numel() and found.max() >= min(0.8 * tensor.numel(), 1023)
    columns = found.astype(int) % shape[-1]
    assert len(set(columns)) >= min(shape[-1], ELEMENTS) // 4


@pytest.mark.parametrize("turn", [lambda t: t.T.contiguous().T, lambda t: t], ids=["transposed", "plain"])
def test_of_one_shape_always_the_same_elements_whatever_the_strides(
    turn: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    for shape in ((40, 50), (4, 5)):
        tensor = torch.randn(shape)
        other = turn(tensor)
        assert (
            taken(other, tensor)[0].tolist() == taken(tensor, other)[0].tolist() == taken(other)[0].tolist()
        )


@pytest.mark.parametrize("size", [5, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_a_sample_does_not_change_with_its_tensor(size: int, dtype: torch.dtype, count: int) -> None:
    tensors = [torch.ones(size, dtype=dtype) for _ in range(count)]
    (part,) = gather(np.arange(count), tensors)
    for tensor in tensors:
        tensor.zero_()
    assert part.values().tolist() == [1.0] * (count * min(size, ELEMENTS))


def test_views_into_a_larger_storage_are_read_where_they_begin() -> None:
    whole = torch.arange(20_000.0)
    assert taken(whole[5000:])[0].min() == 5000.0 and taken(whole[7:10])[0].tolist() == [7.0, 8.0, 9.0]


def test_what_is_absent_sparse_complex_or_empty_is_left_out() -> None:
    odd = [
        None,
        torch.eye(3).to_sparse(),
        torch.ones(3, dtype=torch.complex64),
        torch.empty(0),
        torch.ones(2, requires_grad=True),
    ]
    (part,) = gather(np.arange(10, 15), odd)
    assert part.columns.tolist() == [14] and part.values().tolist() == [1.0, 1.0]
