"""Time of whole training steps, with what runs in the background: plain, watched, and recorded by other tools."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import gradwatch
from gradwatch.testing import FakeServer, MemoryTransport

from .models import Make, loss_of

__all__ = ["Recording", "Steps", "ours", "whole_steps"]

Recording: TypeAlias = "Callable[[nn.Module, torch.optim.Optimizer], _Made]"
_Made: TypeAlias = "tuple[Callable[[], object], Callable[[], object]]"
"""What to call after each step, and at the end."""


def ours(model: nn.Module, optimizer: torch.optim.Optimizer) -> _Made:
    """A whole run, with its sender and a server in memory."""
    run = gradwatch.watch(model, optimizer, transport=MemoryTransport(FakeServer()), autostart=False)
    return (lambda: run.log(loss=0.5)), run.finish


@dataclass
class Steps:
    """Seconds of whole steps: of each plain one and, by recording, of blocks of recorded ones.

    Medians of steps hide what is done once in a while (a batch sent, a sample taken), so blocks are compared by their means,
    each with the plain block before it.
    """

    plain: list[float] = field(default_factory=list)
    recorded: dict[str, list[float]] = field(default_factory=dict)
    extra: dict[str, list[float]] = field(default_factory=dict)
    """Mean of a block above that of the plain block before it."""

    thread: dict[str, list[float]] = field(default_factory=dict)
    """The same in processor time of the training thread, in whatever it does: calls, autograd hooks, colder caches."""

    calls: dict[str, list[float]] = field(default_factory=dict)
    """Of those, processor time in the training thread's calls: hooks of optimizer steps, and what the script calls after each step."""

    background: dict[str, list[float]] = field(default_factory=dict)
    """Processor time of the process's other threads, per step of a block."""


class _Calls:
    """Adds up the processor time in what it wraps; waiting for the interpreter's lock is the doing of other threads."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begun = time.thread_time()
            result = call(*args)
            self.seconds += time.thread_time() - begun
            return result

        return timed

    def time_hooks(self) -> None:
        """Wraps the hooks that optimizers have by now."""
        for hooks in (_global_optimizer_pre_hooks, _global_optimizer_post_hooks):
            for key, hook in hooks.items():
                hooks[key] = self.timed(hook)


def whole_steps(
    make: Make, recordings: Mapping[str, Recording], blocks: int, block: int = 40, warm: int = 12
) -> Steps:
    """Each recording in turn for ``block`` steps, after ``warm`` that are not counted; as many plain ones before it."""
    steps = Steps()
    model, x = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loss = loss_of(model, x)

    def seconds(record: Callable[[], object] | None = None) -> float:
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        if record is not None:
            record()
        return time.perf_counter() - begun

    def timed_block(record: Callable[[], object] | None = None) -> tuple[list[float], float]:
        begun = time.thread_time()
        taken = [seconds(record) for _ in range(block)]
        return taken, (time.thread_time() - begun) / block

    def plain_block() -> tuple[float, float]:
        for _ in range(warm):
            seconds()
        taken, thread = timed_block()
        steps.plain += taken
        return statistics.fmean(taken), thread

    def recorded_block(name: str, recording: Recording, beside: float, thread_beside: float) -> None:
        calls = _Calls()
        record, end = recording(model, optimizer)
        calls.time_hooks()
        record = calls.timed(record)
        try:
            for _ in range(warm):
                seconds(record)
            calls.seconds = 0.0
            others = time.process_time() - time.thread_time()
            taken, thread = timed_block(record)
            others = time.process_time() - time.thread_time() - others
        finally:
            end()
        steps.recorded.setdefault(name, []).extend(taken)
        steps.extra.setdefault(name, []).append(statistics.fmean(taken) - beside)
        steps.thread.setdefault(name, []).append(thread - thread_beside)
        steps.calls.setdefault(name, []).append(calls.seconds / block)
        steps.background.setdefault(name, []).append(others / block)

    for _ in range(blocks):
        for name, recording in recordings.items():
            recorded_block(name, recording, *plain_block())
    return steps
