"""Who sends among several processes, how they agree on a run, and a rank's own norms; without any other process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch._dynamo
import torch.distributed as dist
from torch import nn
from torch._dynamo.utils import counters

from gradwatch.frames import Frame, PendingFrame
from gradwatch.outbox import ReadyFrame
from gradwatch.place import LOCAL_NORM, Place
from gradwatch.torch_.engines import ENGINES, engine_of
from gradwatch.torch_.local_norms import LocalNorms
from gradwatch.torch_.ranks import ALONE, place_of, share

from .conftest import OpenShield, mlp, reference


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_process_is_alone(group: None) -> None:
    assert place_of([mlp()]) == ALONE == Place()
    assert place_of([mlp()], everybody=True) == ALONE


def test_the_first_rank_waits_for_nobody_and_the_others_not_for_ever(group: None) -> None:
    assert share(Place(0, 2, True), lambda: {"run_id": "a"}) == {"run_id": "a"}
    assert share(Place(1, 2, True), dict, patience=0.05) is None


def test_the_others_are_told(group: None) -> None:
    from gradwatch.torch_ import ranks

    share(Place(0, 2), lambda: {"run_id": "b"})
    ranks._calls[0] -= 1  # what another process would have counted
    assert share(Place(1, 2), dict) == {"run_id": "b"}


def frame(step: int, **values: float) -> ReadyFrame:
    return ReadyFrame(Frame(step, 0.0, {name: np.array([value]) for name, value in values.items()}))


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_ranks_own_norm_is_that_of_the_last_micro_batch(only: bool, dtype: torch.dtype) -> None:
    model, put = mlp().to(dtype), list[PendingFrame]()
    local = LocalNorms([model], put.append, wrap=OpenShield().wrap, only=only, every=3)
    expected = {}
    for step in range(8):
        model.zero_grad()
        for part in torch.randn(8, 6, generator=torch.Generator().manual_seed(step)).to(dtype).split(4):
            model(part).pow(2).mean().backward()
        expected[step] = sum(v**2 for v in reference(model).values()) ** 0.5
        local.put(frame(step, loss_scale=4.0))
    frames = {one.step: one.resolve() for one in put}
    assert sorted(frames) == ([3, 6] if only else list(range(8)))
    found = {
        step: one.values["local_grad_norm"][0]
        for step, one in frames.items()
        if LOCAL_NORM.name in one.values
    }
    assert found == pytest.approx({step: expected[step] / 4.0 for step in (3, 6)}, rel=1e-3)
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
def test_hooks_that_come_and_go_make_no_more_graphs() -> None:
    torch._dynamo.reset()
    counters.clear()
    model, put = mlp(), list[PendingFrame]()
    compiled = torch.compile(model, backend="aot_eager")
    local = LocalNorms([model], put.append, wrap=OpenShield().wrap, only=True, every=2)
    for step in range(6):
        compiled(torch.ones(4, 6)).sum().backward()
        local.put(frame(step))
    assert [one.step for one in put] == [2, 4]
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


def test_the_hooks_of_a_sample_that_never_came_are_removed() -> None:
    model = mlp()
    local = LocalNorms([model], lambda frame: None, wrap=OpenShield().wrap, only=False, every=2)
    local.put(frame(1))
    assert all(p._post_accumulate_grad_hooks for p in model.parameters())
    local.detach()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("module", list(ENGINES))
def test_an_engine_is_known_by_the_module_of_its_classes(module: str) -> None:
    engine = type("Engine", (nn.Linear,), {"__module__": f"{module}.runtime"})
    assert engine_of([mlp(), type("Wrapped", (engine,), {})(1, 1)]) == ENGINES[module]


def test_plain_models_are_no_engines() -> None:
    model = mlp()
    assert engine_of([model, torch.optim.AdamW(model.parameters()), nn.DataParallel(model)]) == ""
