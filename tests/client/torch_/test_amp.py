"""Loss scaling: norms are those of the true gradients, and overflow steps are seen as such."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from .conftest import Recorder, Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
Clip = Callable[[nn.Module, GradScaler, torch.optim.Optimizer], object]


def no_clip(model: nn.Module, scaler: GradScaler, optimizer: torch.optim.Optimizer) -> None:
    return None


def unscale_and_clip(model: nn.Module, scaler: GradScaler, optimizer: torch.optim.Optimizer) -> None:
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)


def clip_scaled(model: nn.Module, scaler: GradScaler, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 64.0)


def clip_scaled_by_value(model: nn.Module, scaler: GradScaler, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 64.0)


def clip_and_then_unscale(model: nn.Module, scaler: GradScaler, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 64.0)
    scaler.unscale_(optimizer)


def train(
    watch: Watch, clip: Clip, *, fused: bool, overflow: int = -1, steps: int = 4
) -> tuple[Recorder, list[dict[str, float]]]:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    scaler = GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    _, seen = watch(model)
    expected = []
    for step in range(steps):
        optimizer.zero_grad()
        plain = mlp()
        plain.load_state_dict(model.state_dict())
        x = X * (float("inf") if step == overflow else 1.0)
        plain(x).pow(2).mean().backward()
        expected.append(reference(plain))
        scaler.scale(model(x).pow(2).mean()).backward()
        clip(model, scaler, optimizer)
        scaler.step(optimizer)
        scaler.update()
    watch.captures[0].detach()
    return seen, expected


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "clip", [no_clip, unscale_and_clip, clip_scaled, clip_scaled_by_value, clip_and_then_unscale]
)
def test_norms_are_those_of_the_unscaled_gradients(watch: Watch, clip: Clip, fused: bool) -> None:
    seen, expected = train(watch, clip, fused=fused)
    assert [seen.number(frame, "loss_scale") for frame in seen.frames] == [1024.0, 1024.0, 2048.0, 2048.0]
    assert [seen.number(frame, "skipped") for frame in seen.frames] == [0.0] * 4
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms, rel=1e-4)
        total = sum(v**2 for v in norms.values()) ** 0.5
        if clip is unscale_and_clip:
            assert seen.number(frame, "clip_limit") == 1e-3
            assert seen.number(frame, "global_grad_norm_clipped") == pytest.approx(1e-3, rel=1e-2)
        elif clip in (clip_scaled, clip_and_then_unscale):
            limit = 64.0 / seen.number(frame, "loss_scale")
            assert seen.number(frame, "clip_limit") == pytest.approx(limit)
            assert seen.number(frame, "global_grad_norm_clipped") == pytest.approx(
                min(limit, total), rel=1e-4
            )
        elif clip is clip_scaled_by_value:
            assert seen.number(frame, "global_grad_norm_clipped") <= total * (1 + 1e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clip", [no_clip, unscale_and_clip])
def test_an_overflow_step_is_a_frame_that_says_so(watch: Watch, clip: Clip, fused: bool) -> None:
    seen, expected = train(watch, clip, fused=fused, overflow=2)
    assert [frame.step for frame in seen.frames] == [0, 1, 2, 3]
    assert [seen.number(frame, "skipped") for frame in seen.frames] == [0.0, 0.0, 1.0, 0.0]
    assert [seen.number(frame, "loss_scale") for frame in seen.frames] == [1024.0, 1024.0, 2048.0, 1024.0]
    bad = seen.norms(seen.frames[2])
    assert {name for name, v in bad.items() if v - v != 0.0} == {
        name for name, v in expected[2].items() if v - v != 0.0
    }
    close(seen.norms(seen.frames[3]), expected[3], rel=1e-4)


def test_a_disabled_scaler_says_nothing(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cpu", enabled=False)
    _, seen = watch(model, optimizers=[optimizer])
    scaler.scale(model(X).pow(2).mean()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert len(seen.frames) == 1
    assert "skipped" not in seen.frames[0].values and "loss_scale" not in seen.frames[0].values


def test_the_scaler_is_left_as_it_was(watch: Watch) -> None:
    before = GradScaler.step, GradScaler.unscale_
    capture, _ = watch(mlp())
    assert GradScaler.step is not before[0]
    capture.detach()
    assert (GradScaler.step, GradScaler.unscale_) == before
