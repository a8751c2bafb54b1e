"""Ordinary steps are taken in one go: their frames must be those of the long way, whatever comes between them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradwatch.frames import Frame
from gradwatch.torch_.draft import Draft

from .conftest import Watch, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(3))
Event = Callable[[nn.Module, torch.optim.Optimizer, random.Random], None]


def clip(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), chance.choice([1e-3, 0.1, 1e9]))


def clip_some(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    nn.utils.clip_grad_norm_(list(model.parameters())[: chance.randint(1, 5)], 0.01)


def clip_those_there(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    nn.utils.clip_grad_norm_(parameters, chance.choice([1e-3, 1e9]))


def clip_values(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 0.002)


def clip_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    total = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(min(1.0, 0.01 / float(total)))


def ask(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def scale(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(chance.choice([0.0, 1e-25, 1e25, float("inf"), float("nan")]))


def lose(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    chance.choice(list(model.parameters())).grad = None


def other_rate(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    rate: Any = chance.choice([1e-3, 0, torch.tensor(0.01)])
    optimizer.param_groups[0]["lr"] = rate


def replace(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    """Another storage, or another layout of it, of one gradient."""
    parameter = chance.choice(list(model.parameters()))
    if parameter.grad is not None:
        other = parameter.grad.t().contiguous().t() if parameter.ndim == 2 else parameter.grad.clone()
        parameter.grad = chance.choice([parameter.grad.clone(), other])


def more(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    layer = nn.Linear(2, 2)
    model.add_module(f"more{len(list(model.children()))}", nn.Sequential())
    optimizer.add_param_group({"params": list(layer.parameters())})


def twice(model: nn.Module, optimizer: torch.optim.Optimizer, chance: random.Random) -> None:
    """A second step with the same gradients."""
    optimizer.step()


EVENTS: tuple[Event, ...] = (
    clip, clip, clip_some, clip_those_there, clip_values, clip_by_hand, ask, scale, lose, other_rate, replace, more, twice,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.filterwarnings("ignore:grad and param do not obey the gradient layout contract")
def test_frames_are_those_of_the_long_way(watch: Watch, seed: int) -> None:
    chance = random.Random(seed)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    idle = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    one, quick = watch(model, optimizers=[optimizer], budget=0.0)
    two, slow = watch(model, optimizers=[optimizer, idle], budget=0.0)
    for _ in range(40):
        if chance.random() < 0.5:
            optimizer.param_groups[0]["lr"] = 1e-3
        optimizer.zero_grad(set_to_none=chance.random() < 0.7)
        model(X).pow(2).mean().backward()
        while chance.random() < 0.4:
            chance.choice(EVENTS)(model, optimizer, chance)
        optimizer.step()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.nan_to_num_(0.01, 0.01, 0.01).clamp_(-1, 1)
    one.detach()
    two.detach()
    ordinary = sum(not isinstance(frame, Draft) for frame in quick.pending)
    assert ordinary >= 10 and all(isinstance(frame, Draft) for frame in slow.pending)
    assert len(quick.frames) == len(slow.frames) >= 40
    for a, b in zip(quick.frames, slow.frames, strict=True):
        _same(a, b)


def _same(a: Frame, b: Frame) -> None:
    assert a.step == b.step
    assert set(a.values) == set(b.values) and set(a.present) == set(b.present)
    for name in set(a.values) - {"lr", "step_time"}:
        np.testing.assert_allclose(
            a.values[name], b.values[name], rtol=1e-6, err_msg=f"{name} at step {a.step}"
        )
    for name in a.present:
        assert (a.present[name] == b.present[name]).all()
    assert a.values["lr"].tolist() == b.values["lr"][: len(a.values["lr"])].tolist()


def test_an_ordinary_step_is_taken_in_one_go_and_is_right(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    capture, seen = watch(model, optimizers=[optimizer], budget=0.0)
    expected = []
    for step in range(8):
        optimizer.zero_grad()
        model(X).pow(2).mean().backward()
        assert capture.scalar_step() == step
        expected.append(reference(model))
        if step % 2:
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        assert capture.scalar_step() == step
        assert capture.next_step == step + 1
    assert [isinstance(frame, Draft) for frame in seen.pending] == [True] + [False] * 7
    for frame, norms in zip(seen.frames, expected, strict=True):
        assert seen.norms(frame) == pytest.approx(norms, rel=1e-6)
        assert ("clip_coef" in frame.values) == bool(frame.step % 2)
        assert ("step_time" in frame.values) == (frame.step > 0)
