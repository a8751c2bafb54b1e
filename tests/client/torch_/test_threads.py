"""Several threads that train: none looks at the gradients of another, and hooks come and go while others step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradwatch.torch_.step_hooks import after_steps, before_steps

from .conftest import Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


class Told(nn.Parameter):
    """Tells in which threads its gradient is read. A backward in one thread and that in another end the process."""

    readers: set[int]

    @property
    def grad(self) -> torch.Tensor | None:  # type: ignore[override]
        self.readers.add(threading.get_ident())
        got: torch.Tensor | None = torch.Tensor.grad.__get__(self)  # type: ignore[attr-defined]
        return got

    @grad.setter
    def grad(self, value: torch.Tensor | None) -> None:
        torch.Tensor.grad.__set__(self, value)  # type: ignore[attr-defined]


def elsewhere(work: Callable[[], object]) -> None:
    """Runs ``work`` in a thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def clip_any_way(model: nn.Module) -> None:
    """All that a script may do to the gradients of a model of its own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for clip in (
        lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.1),
        lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.1, norm_type=1.0, foreach=False),
        lambda: nn.utils.clip_grad_value_(model.parameters(), 0.1),
        lambda: nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]),
        lambda: nn.utils.clip_grads_with_norm_(model.parameters(), 0.1, torch.tensor(2.0)),
    ):
        optimizer.zero_grad()
        scaler.scale(model(X.to(model[0].weight.dtype)).pow(2).mean()).backward()  # type: ignore[index]
        scaler.unscale_(optimizer)
        clip()
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("types", ["one", "two"])
def test_gradients_are_read_only_where_they_are_trained(watch: Watch, steps_before: int, types: str) -> None:
    model = mlp()
    told = model[0].weight = Told(model[0].weight.detach())
    told.readers = set()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model, optimizers=[optimizer])
    other = mlp()
    if types == "two":
        other[2].double()
        other[0].register_forward_hook(lambda *a: a[2].double())
        other[2].register_forward_hook(lambda *a: a[2].float())
    for k in range(4):
        optimizer.zero_grad()
        model(X).pow(2).mean().backward()
        expected = reference(model)
        if k == steps_before:
            told.readers.clear()
            elsewhere(lambda: clip_any_way(other))
            elsewhere(capture.scalar_step)
            assert told.readers <= {threading.get_ident()}
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        close(seen.norms(seen.frames[-1]), expected)
        assert seen.number(seen.frames[-1], "global_grad_norm_clipped") == pytest.approx(0.01, rel=1e-3)
    assert [frame.step for frame in seen.frames] == [0, 1, 2, 3]


def test_training_that_moves_to_another_thread_is_watched_on(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])
    expected: list[dict[str, float]] = []

    def train() -> None:
        for _ in range(4):
            optimizer.zero_grad()
            model(X).pow(2).mean().backward()
            expected.append(reference(model))
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            nn.utils.clip_grads_with_norm_(model.parameters(), 0.01, nn.utils.get_total_norm(grads))
            optimizer.step()

    train()
    elsewhere(train)
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms)


def test_hooks_come_and_go_in_the_midst_of_a_step() -> None:
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    called: list[str] = []
    removers: dict[str, Callable[[], None]] = {}

    def hook(name: str) -> Callable[[Any, Any, Any], None]:
        return lambda *_: called.append(name)

    def leave(*_: Any) -> None:
        called.append("leaves")
        elsewhere(removers["leaves"])
        removers["new"] = add(hook("new"))

    for add in (before_steps, after_steps):
        called.clear()
        removers = {
            "leaves": add(leave),
            "stays": add(hook("stays")),
            "first": add(hook("first"), first=True),
        }
        optimizer.step()
        optimizer.step()
        assert called == ["first", "leaves", "stays", "first", "stays", "new"]
        for remove in removers.values():
            remove()
            remove()
        optimizer.step()
        assert len(called) == 6


def test_the_end_of_one_watch_does_not_break_the_step_of_another(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    captures = [watch(model)[0] for _ in range(3)]
    stop = register_optimizer_step_pre_hook(lambda *_: None)
    captures[1]._on_frame = lambda _: captures[0].detach()
    for _ in range(3):
        model(X).mean().backward()
        optimizer.step()
    stop.remove()
    assert captures[2].next_step == 3
