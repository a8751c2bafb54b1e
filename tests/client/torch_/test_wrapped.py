"""Optimizers around others and one optimizer for each tensor, as published ones are built, against plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from .conftest import Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
RATE = 0.02


class Lookahead(Optimizer):
    """Shares the groups of the one inside, and pulls back what that has done (arXiv:1907.08610)."""

    def __init__(self, inside: Optimizer) -> None:
        super().__init__(inside.param_groups[0]["params"], {})
        self.inside, self.param_groups = inside, inside.param_groups
        self.slow = [p.detach().clone() for p in inside.param_groups[0]["params"]]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inside.step()
        with torch.no_grad():
            for slow, parameter in zip(self.slow, self.param_groups[0]["params"], strict=True):
                slow.lerp_(parameter, 0.5)
                parameter.copy_(slow)


class Sharded(Optimizer):
    """The one inside steps a part of the parameters, the rest comes from elsewhere: as ZeroRedundancyOptimizer does it."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": RATE})
        self.optim = Adam(self.param_groups[0]["params"][:2], lr=RATE)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optim.step()
        for parameter in self.param_groups[0]["params"][2:]:
            parameter.mul_(0.99)


class Sam(Optimizer):
    """Climbs to where the loss is higher, and descends by the gradient from there (arXiv:2010.01412)."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = SGD(self.param_groups, lr=RATE)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def climb(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            assert parameter.grad is not None
            self.state[parameter]["up"] = parameter.grad * 0.05
            parameter.add_(self.state[parameter]["up"])
        self.zero_grad()

    @torch.no_grad()
    def descend(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.sub_(self.state[parameter]["up"])
        self.base_optimizer.step()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.climb()
        with torch.enable_grad():
            closure()
        self.descend()


def loss_of(model: nn.Module) -> torch.Tensor:
    loss: torch.Tensor = model(X).pow(2).mean()
    return loss


@pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
@pytest.mark.parametrize("kind", [Lookahead, Sharded])
def test_one_around_another_makes_one_step_with_all_that_both_do(
    watch: Watch, kind: type[Optimizer], given: bool
) -> None:
    model = mlp()
    optimizer: Optimizer = (
        Lookahead(Adam(model.parameters(), lr=RATE)) if kind is Lookahead else Sharded(model.parameters())
    )
    capture, seen = watch(model, optimizers=[optimizer] if given else None, budget=1e9)
    capture._on_frame = lambda frame: (seen.pending.append(frame), frame.resolve())
    for step in range(23):
        optimizer.zero_grad()
        loss_of(model).backward()
        expected = reference(model)
        assert capture.scalar_step() == step
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        if step == 20:
            pairs = zip(model.parameters(), before, strict=True)
            moved = [float((p.detach() - q).norm() / q.norm()) for p, q in pairs]
    capture.detach()
    assert [frame.step for frame in seen.frames] == list(range(23))
    assert "grad_cosine" in seen.frames[20].values
    close(seen.norms(seen.frames[22]), expected)
    assert list(seen.norms(seen.frames[20], "update_ratio").values()) == pytest.approx(moved, rel=1e-4)
    assert list(seen.frames[5].values["lr"]) == [RATE]


@pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
@pytest.mark.parametrize("by", ["hand", "closure"])
def test_two_backwards_for_one_step_give_the_gradient_that_is_used(
    watch: Watch, given: bool, by: str
) -> None:
    model = mlp()
    optimizer = Sam(model.parameters())
    capture, seen = watch(model, optimizers=[optimizer] if given else None)
    expected = []
    for step in range(6):
        loss_of(model).backward()
        assert capture.scalar_step() == step

        def again() -> None:
            loss_of(model).backward()
            expected.append(reference(model))

        if by == "closure":
            optimizer.step(again)
        else:
            optimizer.climb()
            again()
            optimizer.descend()
        optimizer.zero_grad()
    capture.detach()
    assert [frame.step for frame in seen.frames] == list(range(6))
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms)
        assert list(frame.values["lr"]) == [RATE]


@pytest.mark.parametrize("first", ["watch", "hooks"])
def test_an_optimizer_for_each_tensor_that_steps_in_the_backward(watch: Watch, first: str) -> None:
    model = mlp((6, 8, 8, 8, 3))
    each = {p: SGD([p], lr=RATE) for p in model.parameters()}
    norms: dict[str, float] = {}
    names = {id(p): name for name, p in model.named_parameters()}

    def use(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        norms[names[id(parameter)]] = float(parameter.grad.double().norm())
        each[parameter].step()  # type: ignore[index]
        each[parameter].zero_grad()  # type: ignore[index]

    def hook() -> None:
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(use)

    hook() if first == "hooks" else None
    capture, seen = watch(model)
    hook() if first == "watch" else None
    expected = []
    for step in range(5):
        loss_of(model).backward()
        expected.append(dict(norms))
        assert capture.scalar_step() == step, "a loss that is logged after it"
    capture.detach()
    assert len(seen.schemas) <= 3, "not one for each optimizer"
    for frame, wanted in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), wanted)


def test_the_second_of_two_optimizers_that_are_found_does_not_measure_what_was_clipped(watch: Watch) -> None:
    model = mlp()
    matrices, vectors = ([p for p in model.parameters() if (p.ndim == 2) == flag] for flag in (True, False))
    optimizers = [SGD(matrices, lr=RATE), Adam(vectors, lr=RATE)]
    _, seen = watch(model)
    expected = []
    for _ in range(4):
        model.zero_grad()
        loss_of(model).backward()
        expected.append(reference(model))
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        for optimizer in optimizers:
            optimizer.step()
    for frame, norms in zip(seen.frames, expected, strict=False):
        close(seen.norms(frame), norms)
        assert seen.number(frame, "global_grad_norm_clipped") == pytest.approx(0.01, rel=1e-3)
    assert len(seen.frames) >= 3


def test_the_successor_of_an_optimizer_that_is_gone_is_found(watch: Watch) -> None:
    model = mlp()
    optimizer: Optimizer = SGD(model.parameters(), lr=RATE)
    capture, seen = watch(model, optimizers=[optimizer])
    for k in range(4):
        if k == 2:
            optimizer = Adam(model.parameters(), lr=3 * RATE)
        model.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    capture.detach()
    assert [frame.step for frame in seen.frames] == [0, 1, 2, 3]
    assert seen.frames[-1].values["lr"][-1] == 3 * RATE


def test_a_wrapper_that_is_no_optimizer_is_looked_into(watch: Watch) -> None:
    class Wrapper:
        def __init__(self, base: Optimizer) -> None:
            self.base = base

    model = mlp()
    optimizer = SGD(model.parameters(), lr=RATE)
    _, seen = watch(model, optimizers=[Wrapper(optimizer)])
    loss_of(model).backward()
    optimizer.step()
    assert len(seen.frames) == 1


@pytest.mark.parametrize("how", ["grad", "func"])
def test_gradients_that_no_backward_wrote(watch: Watch, how: str) -> None:
    model = mlp()
    parameters = dict(model.named_parameters())
    optimizer = Adam(model.parameters(), lr=RATE)
    capture, seen = watch(model, optimizers=[optimizer])

    def loss(given: dict[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = torch.func.functional_call(model, given, (X,))
        return out.pow(2).mean()

    write: Callable[[], Any] = {
        "grad": lambda: dict(
            zip(parameters, torch.autograd.grad(loss_of(model), list(parameters.values())), strict=True)
        ),
        "func": lambda: torch.func.grad(loss)({name: p.detach() for name, p in parameters.items()}),
    }[how]
    expected: list[dict[str, float]] = []
    for k in range(12):
        for name, grad in write().items():
            parameters[name].grad = grad * (k + 1)
        assert capture.scalar_step() == len(expected), "a loss that is logged now"
        norms = reference(model)
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        if k % 4 != 2:
            optimizer.step()
            assert capture.scalar_step() == len(expected)
            expected.append(norms)
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms)
    assert np.isfinite([seen.number(frame, "clip_coef") for frame in seen.frames]).all()
