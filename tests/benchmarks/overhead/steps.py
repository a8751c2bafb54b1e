"""Time of whole training steps, with what runs in the background: plain, watched, and recorded by other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import nn

import gradwatch
from gradwatch.testing import FakeServer, MemoryTransport

from .models import Make
from .timing import Times

__all__ = ["Recording", "ours", "whole_steps"]

Recording: TypeAlias = "Callable[[nn.Module, torch.optim.Optimizer], _Made]"
_Made: TypeAlias = "tuple[Callable[[], object], Callable[[], object]]"
"""What to call after each step, and at the end."""


def ours(model: nn.Module, optimizer: torch.optim.Optimizer) -> _Made:
    """A whole run, with its sender and a server in memory."""
    run = gradwatch.watch(model, optimizer, transport=MemoryTransport(FakeServer()), autostart=False)
    return (lambda: run.log(loss=0.5)), run.finish


def whole_steps(make: Make, recordings: Mapping[str, Recording], blocks: int, block: int = 5) -> Times:
    """Each recording in turn for ``block`` steps, after one that is not counted; as many ``plain`` ones before it."""
    times = Times()
    model, x = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(variant: str, record: Callable[[], object] = lambda: None) -> None:
        with times.of(variant):
            optimizer.zero_grad()
            model(x).float().pow(2).mean().backward()
            optimizer.step()
            record()

    for _ in range(2):
        step("warm-up")
    for _ in range(blocks):
        for name, recording in recordings.items():
            for _ in range(block):
                step("plain")
            record, end = recording(model, optimizer)
            try:
                step("first", record)
                for _ in range(block):
                    step(name, record)
            finally:
                end()
    return times
