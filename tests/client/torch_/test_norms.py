"""Norms of every form of gradient, against float64 arithmetic."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gradwatch.torch_ import norms as module
from gradwatch.torch_.catalog import Catalog
from gradwatch.torch_.measured import Norms
from gradwatch.torch_.norms import Measurer, norms_of
from gradwatch.torch_.scalars import HostCopy

SIZES = (1, 7, 4096, 4097, 16_384, 16_385, 50_000, 262_145, 300_000)


def parameters_with(grads: list[Tensor | None]) -> list[nn.Parameter]:
    made = []
    for grad in grads:
        parameter = nn.Parameter(
            torch.empty(1 if grad is None else grad.shape, dtype=None if grad is None else grad.dtype)
        )
        parameter.grad = grad
        made.append(parameter)
    return made


def measurer(parameters: list[nn.Parameter]) -> Measurer:
    return Measurer([weakref.ref(p) for p in parameters], np.arange(len(parameters)))


def measured(grads: list[Tensor | None]) -> Norms:
    parameters = parameters_with(grads)
    return measurer(parameters).measure()


def exact(grad: Tensor) -> float:
    grad = grad.detach().resolve_conj()
    numbers = torch.view_as_real(grad) if grad.is_complex() else grad.to_dense()
    return float(np.sqrt(np.sum(np.square(numbers.to(torch.float64).numpy().astype(np.longdouble)))))


def check(grads: list[Tensor | None], rel: float = 1e-6) -> None:
    parameters = parameters_with(grads)
    there = [k for k, grad in enumerate(grads) if grad is not None]
    for result in (
        measurer(parameters).measure(),
        norms_of([grads[k] for k in there], np.array(there, np.intp)),
    ):  # type: ignore[misc]
        assert list(result.columns) == there
        expected = [exact(grads[k]) for k in there]  # type: ignore[arg-type]
        assert list(result.values()[0]) == pytest.approx(expected, rel=rel, nan_ok=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_size_and_dtype(dtype: torch.dtype) -> None:
    check([torch.randn(size).to(dtype) for size in SIZES])


def test_mixed_dtypes_layouts_and_absences() -> None:
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[1, 1, 3]]), torch.randn(3, 40), (5, 40), check_invariants=True
    )
    check(
        [
            torch.randn(10, 3, dtype=torch.complex64),
            None,
            torch.randn(8, 9).t(),
            torch.randn(300, 200).t(),
            torch.randn(3, 5, 7, 2).to(memory_format=torch.channels_last),
            sparse,
            torch.empty(0, 4),
            torch.tensor(3.0),
            torch.randn(70, 70, dtype=torch.bfloat16),
            torch.randn(4, requires_grad=True),
            torch.randn(100, 100, requires_grad=True),
        ]
    )


def test_all_absent() -> None:
    assert len(measured([None, None]).columns) == 0


@pytest.mark.parametrize("size", [5, 5000, 40_000, 300_000])
@pytest.mark.parametrize("magnitude", [1e-40, 1e-30, 1e-23, 1e-16, 1e19, 1e30, 3e36])
def test_squares_neither_overflow_nor_underflow(size: int, magnitude: float) -> None:
    check([torch.full((size,), magnitude), torch.randn(100), torch.randn(5000)], rel=1e-5)


@pytest.mark.parametrize("size", [5, 5000, 40_000, 300_000])
def test_half_precision_squares_do_not_overflow(size: int) -> None:
    check(
        [torch.full((size,), 6e4, dtype=torch.float16), torch.full((size,), 1e-7, dtype=torch.float16)],
        rel=1e-5,
    )
    check([torch.full((size,), 1e30, dtype=torch.bfloat16)], rel=1e-5)


@pytest.mark.parametrize("size", [5, 5000, 40_000, 300_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_not_finite_is_counted_and_told_apart(size: int, dtype: torch.dtype) -> None:
    nan, inf, fine = (torch.ones(size, dtype=dtype) for _ in range(3))
    nan[1] = float("nan")
    nan[2] = float("-inf")
    inf[3:5] = float("inf")
    values, largest, bad = measured([nan, fine, inf]).values()
    assert values == pytest.approx([float("nan"), size**0.5, float("inf")], nan_ok=True)
    assert largest == pytest.approx([float("nan"), float("nan"), float("inf")], nan_ok=True)
    assert bad == pytest.approx([2, float("nan"), 2], nan_ok=True)


def test_zeros_are_zero() -> None:
    values, largest, _ = measured([torch.zeros(5), torch.zeros(9000)]).values()
    assert list(values) == [0.0, 0.0] and np.isnan(largest).all()


def test_a_gradient_may_change_its_form_between_steps() -> None:
    parameters = parameters_with([torch.randn(5), torch.randn(5), torch.randn(9000), None])
    measure = measurer(parameters)
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.randn(2), (5,), check_invariants=True)
    for at, grad in [
        (0, None), (0, torch.randn(5)), (1, sparse), (1, torch.randn(5, dtype=torch.bfloat16)), (3, torch.randn(1)),
        (2, torch.randn(9000, dtype=torch.float64)), (2, torch.randn(9000)), (2, torch.randn(9000).half()),
        (2, torch.randn(90_000)), (2, torch.randn(90_000).half()), (2, torch.randn(90_000, dtype=torch.float64)),
        (2, torch.randn(9000).half()), (2, torch.randn(9000)), (2, torch.randn(9000, dtype=torch.complex64)),
        (2, torch.randn(9000)), (2, torch.randn(9000, requires_grad=True)), (2, None),
    ]:  # fmt: skip
        parameters[at].data = torch.empty(()) if grad is None else torch.empty(grad.shape, dtype=grad.dtype)
        parameters[at].grad = grad
        result = measure.measure()
        there = [k for k, p in enumerate(parameters) if p.grad is not None]
        assert list(result.columns) == there
        assert list(result.values()[0]) == pytest.approx([exact(parameters[k].grad) for k in there])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [6, 5000, 50_000, 300_000])
def test_a_gradient_may_change_under_its_plan(size: int) -> None:
    """Other storage, other size, other object, changes in place: what is read is what is there."""
    parameters = parameters_with([torch.randn(size), torch.randn(7)])
    measure = measurer(parameters)
    grad = parameters[0].grad
    assert grad is not None

    def look() -> None:
        there = [k for k, p in enumerate(parameters) if p.grad is not None]
        result = measure.measure()
        assert list(result.columns) == there
        expected = [exact(parameters[k].grad) for k in there]  # type: ignore[arg-type]
        assert list(result.values()[0]) == pytest.approx(expected, rel=1e-5)

    look()
    grad.mul_(3.0)
    look()
    grad.set_(torch.randn(size).untyped_storage(), 0, (size,))  # type: ignore[call-overload]
    look()
    grad.data = torch.randn(size)
    look()
    grad.set_(torch.randn(2 * size).untyped_storage(), 1, (size,), (2,))  # type: ignore[call-overload]
    look()
    grad.resize_(size // 2).normal_()
    look()
    grad.zero_()
    look()
    parameters[0].grad = None
    look()
    parameters[0].data = parameters[0].data.double()
    parameters[0].grad = torch.randn(size, dtype=torch.float64)
    look()


def test_gradients_are_read_not_written() -> None:
    grads = [torch.randn(size) for size in SIZES]
    copies = [grad.clone() for grad in grads]
    measured(list(grads))
    measured([grads[0]])
    measured([grads[0].double()])
    assert all(torch.equal(a, b) for a, b in zip(grads, copies, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, width=32, allow_subnormal=True), min_size=1, max_size=9),
        min_size=1,
        max_size=6,
    )
)
def test_any_finite_numbers(rows: list[list[float]]) -> None:
    check([torch.tensor(row, dtype=torch.float32) for row in rows], rel=1e-6)


def test_what_a_device_computes_is_what_the_host_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic of the device path, run on the CPU."""
    grads = [torch.randn(50), torch.randn(9, 9), torch.randn(40).bfloat16(), torch.full((5,), 6e4).half()]
    rows = HostCopy(module._device_rows(grads)).numpy()
    assert rows[0] == pytest.approx([exact(grad) for grad in grads], rel=1e-3)
    assert rows[1] == pytest.approx([float(grad.abs().max()) for grad in grads])
    bad = HostCopy(
        module._device_rows([torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("inf")])])
    ).numpy()
    assert bad[1] == pytest.approx([float("nan"), float("inf")], nan_ok=True)


@pytest.mark.parametrize("size", [7, 300_000])
def test_signs_and_conjugates_that_are_only_noted(size: int) -> None:
    numbers = torch.randn(size, dtype=torch.complex64)
    negative = numbers.conj().imag
    assert negative.is_neg() and numbers.conj().is_conj()
    check([negative, numbers.conj(), torch.randn(size)])
    check([negative] * 80)


def test_a_sign_may_be_noted_later() -> None:
    parameters = parameters_with([torch.randn(30), torch.randn(50_000)])
    measure = measurer(parameters)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.numel(), dtype=torch.complex64).conj().imag
        expected = [float(p.grad.double().norm()) for p in parameters if p.grad is not None]
        assert list(measure.measure().values()[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_compressed_rows() -> None:
    rows = (torch.rand(20, 30) * (torch.rand(20, 30) > 0.7)).to_sparse_csr()
    parameter = nn.Parameter(rows)
    parameter.grad = rows * 2
    expected = float(rows.to_dense().double().norm()) * 2
    assert list(measurer([parameter]).measure().values()[0]) == pytest.approx([expected], rel=1e-6)
    assert len(Catalog([nn.ParameterList([parameter])])) == 1
