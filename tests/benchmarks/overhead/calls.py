"""Time in our calls beside one ``torch.stack(torch._foreach_norm(grads))``, on the gradients of real backwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from gradwatch.frames import PendingFrame
from gradwatch.shield import Shield
from gradwatch.torch_.capture import Capture

from .models import Make, Still, loss_of
from .peers import Log, norms
from .timing import Times

__all__ = ["callbacks", "watching"]


def _refuse(trouble: str) -> None:
    raise SystemExit(trouble)


@contextmanager
def watching(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[list[PendingFrame]]:
    """A capture that throws its frames away once they are resolved elsewhere."""
    frames: list[PendingFrame] = []

    def keep(frame: PendingFrame) -> None:
        frames[:] = [frame]

    capture = Capture(
        [model],
        optimizers=[optimizer],
        shield=Shield(_refuse),
        on_frame=keep,
        on_schema=lambda tensors, statistics: None,
    )
    capture.attach()
    try:
        yield frames
    finally:
        capture.detach()


def callbacks(make: Make, steps: int, logs: Mapping[str, Log]) -> Times:
    """Time in our calls beside the reference, with and without clipping, on the gradients of real backwards; and in each
    of ``logs``, which get the norms of the same steps as a dict."""
    model, x = make()
    parameters = list(model.parameters())
    optimizer = Still(parameters)
    loss = loss_of(model, x)
    plain_clip = nn.utils.clip_grad_norm_
    times = Times(time.thread_time)

    def backward() -> None:
        optimizer.zero_grad()
        loss().backward()

    def reference() -> None:
        with times.of("foreach"):
            torch.stack(torch._foreach_norm([p.grad for p in parameters if p.grad is not None]))

    def watched() -> None:
        before, after = (
            list(_global_optimizer_pre_hooks.values()),
            list(_global_optimizer_post_hooks.values()),
        )
        with times.of("ours"):
            for hook in (*before, *after):
                hook(optimizer, (optimizer,), {})

    def logged(name: str, log: Log, step: int) -> None:
        with times.of(name):
            log(norms(model), step)

    with watching(model, optimizer):
        for step in range(steps):
            for name, log in logs.items():
                backward()
                logged(name, log, step)
            for part in (reference, watched) if step % 2 else (watched, reference):
                backward()
                part()
            for clip, name in ((plain_clip, "clip"), (nn.utils.clip_grad_norm_, "clip + ours"))[
                :: 1 if step % 2 else -1
            ]:
                backward()
                with times.of(name):
                    clip(parameters, 1e9)
                if name != "clip":
                    watched()
                    times.seconds["clip + ours"][-1] += times.seconds["ours"].pop()
    return times
