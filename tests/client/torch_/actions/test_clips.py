"""Clipping: drop-in to the bit, adaptive by norm, adaptive per tensor; as plain functions and watched."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gradwatch
from gradwatch.errors import ConfigError
from gradwatch.torch_.actions import Action, AdaGC, AdaptiveClip
from gradwatch.torch_.actions.clip import total_norm

from ..conftest import Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


def backward(model: nn.Module, factor: float = 1.0) -> None:
    model.zero_grad()
    (factor * model(X).pow(2).mean()).backward()


def grads(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        (gradwatch.clip_grad_norm_, "clip_grad_norm_", (0.01,)),
        (gradwatch.clip_grad_norm_, "clip_grad_norm_", (0.01, 1.0, False, False)),
        (gradwatch.clip_grad_norm_, "clip_grad_norm_", (0.01, math.inf)),
        (gradwatch.clip_grad_value_, "clip_grad_value_", (1e-3,)),
    ],
)
def test_drop_in_to_the_bit(
    watch: Watch, watched: bool, ours: Any, theirs: str, arguments: tuple[Any, ...]
) -> None:
    original = getattr(nn.utils, theirs)
    model = mlp()
    backward(model)
    twin = copy.deepcopy(model)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.grad is not None
        b.grad = a.grad.clone()
    if watched:
        watch(model)
    mine, other = ours(model, *arguments), original(twin.parameters(), *arguments)
    assert (mine is None and other is None) or torch.equal(mine, other)
    assert all(torch.equal(a, b) for a, b in zip(grads(model), grads(twin), strict=True))


def test_the_total_norm_where_torch_has_no_function_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp()
    backward(model)
    monkeypatch.delattr(nn.utils, "get_total_norm", raising=False)
    expected = math.sqrt(sum(grad.double().pow(2).sum().item() for grad in grads(model)))
    assert float(total_norm(grads(model))) == pytest.approx(expected)
    assert float(total_norm([])) == 0
    assert float(AdaptiveClip()(model)) == pytest.approx(expected)


def test_adaptive_limits_a_spike_to_the_usual_and_tells_once() -> None:
    model, told = mlp(), []
    clip = AdaptiveClip(warmup=10)
    clip.on_action = told.append
    for k in range(60):
        backward(model, 1.0 + 0.1 * math.sin(k))
        clip(model)
    clip.settle()
    usual = clip.limit
    assert usual is not None and clip.touched == 0 and not told
    backward(model, 100.0)
    before = float(clip(model))
    after = sum(v**2 for v in reference(model).values()) ** 0.5
    clip.settle()
    assert before > 10 * usual and after == pytest.approx(usual, rel=1e-5)
    (action,) = told
    assert isinstance(action, Action)
    assert (action.kind, action.step, action.new) == ("clip", 60, usual)
    assert action.old == pytest.approx(before) and clip.touched == 1


def test_adaptive_keeps_to_its_bounds() -> None:
    model = mlp()
    clip = AdaptiveClip(warmup=5, floor=1e3, ceil=1e4)
    assert clip.limit == 1e4
    for _ in range(20):
        backward(model)
        clip(model)
    clip.settle()
    assert clip.limit == 1e3
    for arguments in ({"q": 0}, {"factor": -1}, {"window": 3}, {"floor": 0.0}, {"warmup": 1}):
        with pytest.raises(ConfigError, match="AdaptiveClip"):
            AdaptiveClip(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("clip", [AdaptiveClip(warmup=2), AdaGC(warmup=2)], ids=["adaptive", "adagc"])
def test_watched_norms_are_those_before_and_after(
    watch: Watch, clip: Callable[[nn.Module], torch.Tensor]
) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    _, seen = watch(model, optimizers=[optimizer])
    for k in range(8):
        backward(model, 50.0 if k == 6 else 1.0)
        before = reference(model)
        clip(model)
        after = reference(model)
        optimizer.step()
        frame = seen.frames[-1]
        close(seen.norms(frame), before)
        if k >= 3:
            total = sum(v**2 for v in after.values()) ** 0.5
            assert seen.number(frame, "global_grad_norm_clipped") == pytest.approx(total, rel=1e-5)


def test_adagc_is_its_formula() -> None:
    model = mlp()
    clip = AdaGC(beta=0.9, relative=1.05, absolute=0.5, warmup=5)
    means = [math.inf] * 6
    for k in range(20):
        factor = 30.0 if k in (8, 15) else 1.0 + 0.3 * math.sin(k)
        backward(model, factor)
        norms = [float(g.double().norm()) for g in grads(model)]
        total = sum(n**2 for n in norms) ** 0.5
        assert float(clip(model)) == pytest.approx(total, rel=1e-5)
        if k < 5:
            expected = [n * min(1.0, 0.5 / (total + 1e-6)) for n in norms]
            means = [min(m, n) for m, n in zip(means, expected, strict=True)]
        else:
            expected = [min(n, 1.05 * m) for n, m in zip(norms, means, strict=True)]
            means = [0.9 * m + 0.1 * n for m, n in zip(means, expected, strict=True)]
        assert [float(g.double().norm()) for g in grads(model)] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ConfigError, match="AdaGC"):
        AdaGC(beta=1.0)


def test_adagc_survives_what_is_not_finite() -> None:
    model = mlp()
    clip = AdaGC(warmup=3)
    for _ in range(6):
        backward(model)
        clip(model)
    assert clip._means is not None
    before = clip._means[1].clone()
    backward(model)
    grads(model)[0].fill_(math.nan)
    clip(model)
    assert torch.equal(clip._means[1][0], before[0]) and bool(clip._means[1].isfinite().all())
    assert all(bool(g.isfinite().all()) for g in grads(model)[1:])
