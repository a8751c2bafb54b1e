"""Torch's clip by norm, done in few operations where gradients are plain: to the bit what torch does, and left to torch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradwatch.torch_ import straight
from gradwatch.torch_.draft import Draft

from .conftest import Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(5))
ORIGINAL = nn.utils.clip_grad_norm_


def made(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Parameters with random gradients, the same ones at each call."""
    generator = torch.Generator().manual_seed(7)
    parameters = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, dtype=dtype, generator=generator)
    return parameters


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each clip that was not left to torch: how many gradients it had."""
    counts: list[int] = []
    multiply = straight.multiply

    def counting(grads: list[torch.Tensor], limit: float, total: torch.Tensor) -> None:
        counts.append(len(grads))
        multiply(grads, limit, total)

    monkeypatch.setattr(straight, "multiply", counting)
    return counts


def test_the_torch_that_is_installed_does_the_same() -> None:
    assert straight.agrees(ORIGINAL)


@pytest.mark.parametrize(
    "other",
    [
        lambda parameters, limit: ORIGINAL(parameters, limit, 1.0),
        lambda parameters, limit: ORIGINAL(parameters, limit * (1 + 1e-6)),
        lambda parameters, limit: ORIGINAL(parameters, limit) + 1e-3,
        lambda parameters, limit: ORIGINAL(parameters, limit, error_if_nonfinite=True),
        lambda parameters, limit: ORIGINAL(parameters, limit, no_such_argument=True),
    ],
    ids=["other norm", "other limit", "other result", "raises", "cannot be called so"],
)
def test_a_torch_that_does_otherwise_is_told(other: Callable[..., torch.Tensor]) -> None:
    assert not straight.agrees(other)


def test_nothing_random_is_drawn_to_find_out() -> None:
    before = torch.get_rng_state()
    straight.agrees(ORIGINAL)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("limit", [0, 1e-4, 3, 1e9, float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize("missing", [(), (1,), (0, 3, 4)])
def test_to_the_bit(
    watch: Watch, counted: list[int], dtype: torch.dtype, limit: float, missing: tuple[int, ...]
) -> None:
    """Also where some of the parameters have no gradient, and one is very small, very large or not finite."""
    watch(mlp())
    for factor in (1.0, 0.0, 1e-25, 1e25, float("inf"), float("nan")):
        theirs, ours = (_awkward(dtype, factor, missing) for _ in range(2))
        expected = ORIGINAL(theirs, limit)
        counted.clear()
        got = nn.utils.clip_grad_norm_(ours, limit)
        assert counted == [5 - len(missing)]
        assert got.dtype == expected.dtype and got.shape == expected.shape and not got.requires_grad
        np.testing.assert_array_equal(got.numpy(), expected.numpy(), f"a gradient times {factor}")
        for a, b in zip(ours, theirs, strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None and b.grad is not None:
                assert a.grad.numpy().tobytes() == b.grad.numpy().tobytes(), f"a gradient times {factor}"


def _awkward(dtype: torch.dtype, factor: float, missing: tuple[int, ...]) -> list[nn.Parameter]:
    """A gradient that isn't contiguous, a scalar, one times ``factor``, an empty and a long one; none for those of ``missing``."""
    parameters = made((70, 90), (), (3,), (0, 4), (5000,), dtype=dtype)
    transposed, multiplied = parameters[0].grad, parameters[2].grad
    assert transposed is not None and multiplied is not None
    multiplied *= factor
    parameters[0].grad = transposed.t().contiguous().t()
    for k in missing:
        parameters[k].grad = None
    return parameters


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((2.0,), {}, 2.0),
        ((2,), {}, 2.0),
        ((), {"max_norm": 2.0}, 2.0),
        ((2.0,), {"norm_type": 2}, 2.0),
        ((2.0,), {"norm_type": 1.0}, None),
        ((2.0, 2.0), {}, None),
        ((2.0,), {"error_if_nonfinite": True}, None),
        ((2.0,), {"foreach": False}, None),
        ((), {"max_norm": 2.0, "foreach": True}, None),
        ((np.float64(2.0),), {}, None),
        ((torch.tensor(2.0),), {}, None),
        ((), {}, None),
    ],
)
def test_calls_that_ask_for_nothing_else(
    args: tuple[Any, ...], kwargs: dict[str, Any], expected: float | None
) -> None:
    assert straight.limit_of(([], *args), kwargs) == expected


def _all_missing(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _half(parameters: list[nn.Parameter]) -> None:
    parameters[:] = made((4, 3), (3,), dtype=torch.bfloat16)


def _mixed(parameters: list[nn.Parameter]) -> None:
    parameters += made((2,), dtype=torch.float64)


def _a_subclass(parameters: list[nn.Parameter]) -> None:
    parameters[0].grad = nn.Parameter(torch.ones(4, 3))


def _with_a_graph(parameters: list[nn.Parameter]) -> None:
    parameters[1].grad = torch.ones(3).requires_grad_()


@pytest.mark.parametrize("change", [_all_missing, _half, _mixed, _a_subclass, _with_a_graph, list.clear])
def test_what_is_not_plain_is_left_to_torch(
    watch: Watch, counted: list[int], change: Callable[[list[nn.Parameter]], None]
) -> None:
    theirs, ours = made((4, 3), (3,)), made((4, 3), (3,))
    change(theirs)
    change(ours)
    expected = ORIGINAL(theirs, 0.25)
    watch(mlp())
    counted.clear()
    assert torch.equal(nn.utils.clip_grad_norm_(ours, 0.25), expected)
    assert not counted
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None and b.grad is not None:
            assert torch.equal(a.grad, b.grad)


def test_a_torch_that_does_otherwise_clips_by_itself(
    watch: Watch, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(straight, "agrees", lambda original: False)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])
    for _ in range(3):
        optimizer.zero_grad()
        model(X).pow(2).mean().backward()
        before = reference(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        close(seen.norms(seen.frames[-1]), before)
    assert not counted


def named(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("chosen", [lambda model: list(model.parameters()), named, lambda m: named(m)[::-1]])
def test_frozen_and_unused_parameters_do_not_stand_in_the_way(
    watch: Watch, counted: list[int], chosen: Callable[[nn.Module], list[nn.Parameter]]
) -> None:
    """A frozen layer and an unused one: from the second step on all is known from the clip and taken in one go."""
    model = mlp()
    model.add_module("unused", nn.Linear(2, 2))
    next(model.parameters()).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer], budget=0.0)
    for _ in range(6):
        optimizer.zero_grad()
        list(model.children())[0](X).pow(2).mean().backward()
        before = reference(model)
        there = sum(parameter.grad is not None for parameter in model.parameters())
        nn.utils.clip_grad_norm_(chosen(model), 1e-3)
        after = reference(model)
        optimizer.step()
        frame = seen.frames[-1]
        close(seen.norms(frame), before)
        total = sum(norm**2 for norm in after.values()) ** 0.5
        assert seen.number(frame, "global_grad_norm_clipped") == pytest.approx(total, rel=1e-5)
        assert counted.pop() == there == len(before) < len(list(model.parameters()))
    assert [isinstance(frame, Draft) for frame in seen.pending] == [True] + [False] * 5


def test_a_gradient_that_comes_after_the_clip_is_measured(watch: Watch) -> None:
    model = nn.ParameterList(made((4, 3), (3,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer], budget=0.0)
    for step in range(4):
        for parameter, fresh in zip(model, made((4, 3), (3,)), strict=True):
            parameter.grad = fresh.grad
        model[1].grad = None
        before = reference(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        if step > 1:
            model[1].grad = torch.ones(3)
            before["1"] = 3**0.5
        optimizer.step()
        close(seen.norms(seen.frames[-1]), before)


def test_an_empty_gradient_has_norm_zero(watch: Watch) -> None:
    model = nn.ParameterList(made((4, 3), (0,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])
    before = reference(model)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    close(seen.norms(seen.frames[0]), before)


def test_a_gradient_given_twice_is_multiplied_twice_as_torch_does(watch: Watch, counted: list[int]) -> None:
    theirs, ours = made((4, 3), (3,)), made((4, 3), (3,))
    expected = ORIGINAL([*theirs, theirs[0]], 0.25)
    watch(nn.ParameterList(ours))
    counted.clear()
    assert torch.equal(nn.utils.clip_grad_norm_([*ours, ours[0]], 0.25), expected)
    assert counted == [3]
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)
