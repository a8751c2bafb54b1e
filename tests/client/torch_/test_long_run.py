"""Watching for long and in whole: the same numbers in every way of training, no cycles, flat memory, and an end to our errors.

``GRADWATCH_LONG=1`` makes the memory test take 100,000 steps.
"""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import gradwatch
from gradwatch.shield import Shield
from gradwatch.testing import FakeServer, MemoryTransport
from gradwatch.torch_.capture import Capture

from .conftest import Watch, mlp

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
STEPS = 100_000 if os.environ.get("GRADWATCH_LONG") else 1_200

Loop = Callable[[list[nn.Module], list[torch.optim.Optimizer]], list[float]]


def scaled(models: list[nn.Module], optimizers: list[torch.optim.Optimizer]) -> list[float]:
    """A GradScaler that overflows at one step, with a clip after unscaling."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    losses = []
    for k in range(12):
        optimizers[0].zero_grad()
        loss = models[0](X).pow(2).mean() * (float("inf") if k == 5 else 1.0)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizers[0])
        nn.utils.clip_grad_norm_(models[0].parameters(), 0.05)
        scaler.step(optimizers[0])
        scaler.update()
        losses.append(float(loss.detach()))
    return losses


def accumulated(models: list[nn.Module], optimizers: list[torch.optim.Optimizer]) -> list[float]:
    """Three micro-batches a step, gradients kept and zeroed in place."""
    losses = []
    for _ in range(12):
        optimizers[0].zero_grad(set_to_none=False)
        for part in X.split(6):
            loss = models[0](part).pow(2).mean() / 3
            loss.backward()
            losses.append(float(loss.detach()))
        nn.utils.clip_grad_value_(models[0].parameters(), 0.01)
        optimizers[0].step()
    return losses


def adversarial(models: list[nn.Module], optimizers: list[torch.optim.Optimizer]) -> list[float]:
    """Two models take turns."""
    losses = []
    for _ in range(12):
        for mine, other in ((0, 1), (1, 0)):
            optimizers[mine].zero_grad()
            loss = (models[mine](X) - models[other](X).detach()).pow(2).mean()
            loss.backward()
            optimizers[mine].step()
            losses.append(float(loss.detach()))
    return losses


def closures(models: list[nn.Module], optimizers: list[torch.optim.Optimizer]) -> list[float]:
    """Steps that compute their gradients themselves."""

    def closure() -> float:
        optimizers[0].zero_grad()
        loss = models[0](X).pow(2).mean()
        loss.backward()
        return float(loss.detach())

    return [float(optimizers[0].step(closure)) for _ in range(12)]  # type: ignore[arg-type]


@pytest.mark.parametrize("loop", [scaled, accumulated, adversarial, closures])
@pytest.mark.parametrize("fused", [False, True])
def test_a_whole_run_changes_no_bit(
    loop: Loop, fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    monkeypatch.delenv("GRADWATCH_SERVER", raising=False)

    def train(watched: bool) -> tuple[list[float], list[torch.Tensor]]:
        torch.manual_seed(7)
        models: list[nn.Module] = [mlp(), mlp()]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused) for model in models
        ]
        fake = FakeServer()
        run = gradwatch.watch(models, transport=MemoryTransport(fake)) if watched else None
        losses = loop(models, optimizers)
        if run is not None:
            run.finish()
            assert len(fake.stream.series("grad_norm")) == 12
        numbers = [v for o in optimizers for s in o.state.values() for v in s.values()]
        return losses, [*(p.detach() for model in models for p in model.parameters()), *numbers]

    losses, numbers = train(watched=False)
    watched_losses, watched_numbers = train(watched=True)
    assert losses == watched_losses
    assert all(torch.equal(a, b) for a, b in zip(numbers, watched_numbers, strict=True))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X).pow(2).mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()


def test_no_reference_cycles(watch: Watch) -> None:
    def garbage(watched: bool) -> int:
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        seen = watch(model)[1] if watched else None
        for _ in range(5):
            step(model, optimizer)
        gc.collect()
        gc.disable()
        try:
            for _ in range(40):
                step(model, optimizer)
                if seen is not None:
                    assert seen.frames
                    seen.pending.clear()
                    seen._frames.clear()
            return gc.collect()
        finally:
            gc.enable()

    assert garbage(watched=True) <= garbage(watched=False)


@pytest.mark.slow
@pytest.mark.timeout(180 if STEPS < 10_000 else 3600)
def test_memory_is_flat_whoever_takes_the_frames(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    capture, _ = watch(model)
    capture._on_frame = lambda frame: frame.resolve()

    def steps(n: int) -> tuple[int, int]:
        for _ in range(n):
            step(model, optimizer)
        gc.collect()
        return len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    objects, peak = steps(STEPS // 3)
    more_objects, more_peak = steps(STEPS - STEPS // 3)
    assert more_objects - objects < 100
    assert more_peak - peak < 4096, "kilobytes"


@pytest.mark.parametrize("place", ["_optimizers.read_rates", "_optimizers.columns", "_costs.lap"])
def test_errors_of_ours_are_told_once_and_end_the_watch_but_not_the_training(
    place: str, swallowed: list[Exception]
) -> None:
    def train(watched: bool) -> tuple[list[torch.Tensor], list[str], int]:
        torch.manual_seed(7)
        model, told = mlp(), list[str]()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        frames: list[object] = []
        if watched:
            shield = Shield(told.append, limit=4, on_trip=lambda: capture.detach())
            capture = Capture(
                [model],
                shield=shield,
                on_frame=frames.append,
                on_schema=lambda tensors, statistics: None,
            )
            capture.attach()
        for k in range(12):
            if watched and k == 3:
                part, _, name = place.partition(".")
                setattr(getattr(capture, part), name, lambda *_: 1 / 0)
                if part == "_optimizers":
                    capture.look_closely(12)  # so that no step is an ordinary one
            step(model, optimizer)
        return [p.detach() for p in model.parameters()], told, len(frames)

    weights, _, _ = train(watched=False)
    watched, told, frames = train(watched=True)
    assert all(torch.equal(a, b) for a, b in zip(weights, watched, strict=True))
    assert len(told) == 2 and "measuring gradients (ZeroDivisionError" in told[0]
    assert "stops watching this run; training goes on" in told[1]
    assert len(swallowed) == 4 and frames <= 8
    swallowed.clear()
