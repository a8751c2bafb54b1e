"""Watching changes nothing: results, objects, memory, compiled code; and leaves nothing behind."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._dynamo.utils import counters
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from gradwatch.frames import Frame

from .conftest import Watch, mlp

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
IDS = torch.randint(0, 20, (8, 5), generator=torch.Generator().manual_seed(2))


class Embedded(nn.Module):
    """Sparse embedding, recurrent layer, norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8, sparse=True)
        self.rnn = nn.GRU(8, 6, batch_first=True)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.rnn(self.embed(ids))[0]))
        return out


class Convolved(nn.Sequential):
    """Convolutions with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
        )
        self.append(nn.Linear(16, 2))


def train(
    make: Callable[[], nn.Module], kind: str, watch: Watch | None, clip: bool, steps: int = 6
) -> tuple[list[float], list[torch.Tensor]]:
    torch.manual_seed(7)
    model = make()
    parameters = list(model.parameters())
    if isinstance(model, Embedded):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=0.1)
    else:
        optimizer = {
            "sgd": lambda: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
            "adamw": lambda: torch.optim.AdamW(parameters, lr=0.01, amsgrad=True),
            "fused": lambda: torch.optim.AdamW(parameters, lr=0.01, fused=True),
            "adagrad": lambda: torch.optim.Adagrad(parameters, lr=0.1, foreach=True),
        }[kind]()
    capture = watch(model)[0] if watch is not None else None
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(IDS if isinstance(model, Embedded) else X).pow(2).mean()
        loss.backward()
        if clip and not isinstance(model, Embedded):
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        losses.append(float(loss.detach()))
    if capture is not None:
        capture.detach()
    return losses, [p.detach().clone() for p in parameters]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", ["sgd", "adamw", "fused", "adagrad"])
@pytest.mark.parametrize("make", [mlp, Embedded, Convolved])
def test_losses_and_weights_are_the_same_to_the_bit(
    watch: Watch, make: Callable[[], nn.Module], kind: str, clip: bool
) -> None:
    losses, weights = train(make, kind, None, clip)
    watched, watched_weights = train(make, kind, watch, clip)
    assert losses == watched
    assert all(torch.equal(a, b) for a, b in zip(weights, watched_weights, strict=True))


def test_every_hook_and_patch_is_gone_after_detach(watch: Watch) -> None:
    functions = {name: vars(nn.utils)[name] for name in dir(nn.utils) if "clip" in name or "norm" in name}
    before = len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model)
    for _ in range(3):
        model(X).mean().backward()
        optimizer.step()
    capture.detach()
    capture.detach()
    assert (len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)) == before
    assert functions == {name: vars(nn.utils)[name] for name in functions}
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    optimizer.step()
    assert len(seen.frames) == 3


def test_detach_hands_out_the_step_that_is_open(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model)
    model(X).mean().backward()
    optimizer.step()
    capture.detach()
    assert [frame.step for frame in seen.frames] == [0]


def test_models_and_optimizers_die_as_they_would(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    watch(model)
    for _ in range(3):
        model(X).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    things = [weakref.ref(thing) for thing in (model, optimizer, model[0].weight, model[0].weight.grad)]
    del model, optimizer
    gc.collect()
    assert all(thing() is None for thing in things)


def test_the_watch_is_not_copied_saved_or_pickled_along(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    keys, attributes = list(model.state_dict()), set(vars(model))
    capture, seen = watch(model)
    for _ in range(2):
        model(X).mean().backward()
        optimizer.step()
    assert list(model.state_dict()) == keys and set(vars(model)) == attributes
    twin = copy.deepcopy(model)
    assert not any(p._post_accumulate_grad_hooks for p in twin.parameters())
    assert b"gradwatch" not in pickle.dumps(model) + pickle.dumps(optimizer)
    file = io.BytesIO()
    torch.save({"model": model, "optimizer": optimizer.state_dict()}, file)
    assert b"gradwatch" not in file.getvalue()
    twin_optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    twin(X).mean().backward()
    twin_optimizer.step()
    assert capture.next_step == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_inert(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        os.write(write, bytes([len(seen.pending)]))
        os._exit(0)
    assert os.read(read, 1) == b"\x00"
    assert os.waitpid(child, 0)[1] == 0
    os.close(read)
    os.close(write)


def compiled_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, what: str
) -> Callable[[torch.Tensor], None]:
    forward = torch.compile(model, backend="aot_eager") if what in ("model", "both") else model

    def update() -> None:
        optimizer.step()

    compiled_update = torch.compile(update, backend="aot_eager") if what in ("update", "both") else update

    def step(x: torch.Tensor) -> None:
        optimizer.zero_grad()
        forward(x).pow(2).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        compiled_update()

    return torch.compile(step, backend="aot_eager") if what == "step" else step


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["model", "update", "both", "step"])
def test_compiled_code_has_no_more_breaks_and_no_more_graphs(watch: Watch, what: str) -> None:
    def run(watched: bool) -> tuple[int, int, list[float], list[Frame]]:
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(5)
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        capture, seen = watch(model) if watched else (None, None)
        step = compiled_step(model, optimizer, what)
        for _ in range(6):
            step(X)
        if capture is not None:
            capture.detach()
        breaks = sum(counters["graph_break"].values())
        weights = [float(p.detach().sum()) for p in model.parameters()]
        return breaks, counters["stats"]["unique_graphs"], weights, [] if seen is None else seen.frames

    breaks, graphs, weights, _ = run(watched=False)
    watched_breaks, watched_graphs, watched_weights, frames = run(watched=True)
    assert watched_breaks <= breaks
    assert watched_graphs <= graphs
    assert watched_weights == weights
    assert [frame.step for frame in frames] == list(range(6))
    assert all(len(frame.values["grad_norm"]) == 6 and not frame.present for frame in frames)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_wrappers_leave_no_trace_in_names(watch: Watch) -> None:
    model = mlp()
    plain = [name for name, _ in model.named_parameters()]
    _, seen = watch(torch.compile(nn.DataParallel(model)))
    assert [tensor.name for tensor in seen.schemas[0][0]] == plain


def test_memory_stays_flat(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model)
    capture._on_frame = lambda frame: None

    def steps(n: int) -> int:
        for _ in range(n):
            optimizer.zero_grad()
            model(X).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        gc.collect()
        return len(gc.get_objects())

    before = steps(300)
    assert steps(600) - before < 100
