"""Two processes: what one of them sees, both act on, at the same step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.ports import free_port
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import gradwatch
from gradwatch.errors import ConfigError, GradwatchStop
from gradwatch.torch_.actions import AdaGC, AdaptiveClip, CutLR, SkipNonFinite, StopOn, agree

from ..conftest import mlp
from ..test_distributed import process_group

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(3))


def wrapped(kind: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model, plain = mlp((6, 7, 1)), mlp((6, 7, 1))
    plain.load_state_dict(model.state_dict())
    if kind == "ddp":
        return DistributedDataParallel(model), plain
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.children():
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh), plain  # type: ignore[return-value]


def whole(tensor: Any) -> torch.Tensor:
    full = getattr(tensor, "full_tensor", None)
    return (tensor if full is None else full()).detach().clone()


def local(grad: Any) -> torch.Tensor:
    part = getattr(grad, "to_local", None)
    return grad if part is None else part()  # type: ignore[no-any-return]


def everywhere(value: Any) -> list[Any]:
    found: list[Any] = [None, None]
    dist.all_gather_object(found, value)
    return found


def acts_alike(kind: str, rank: int) -> None:
    """One rank alone has NaN, hears of trouble, hears what to stop for."""
    model, _ = wrapped(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=kind == "ddp")
    parts = [SkipNonFinite(), CutLR(hold=1), StopOn("vanishing")]
    guard = gradwatch.guard(optimizer, parts)
    weights = []
    stopped_at = None
    for k in range(12):
        optimizer.zero_grad()
        model(X[rank::2]).pow(2).mean().backward()
        if k == 3 and rank == 1:
            local(next(p for p in model.parameters() if local(p.grad).numel()).grad).fill_(math.nan)
        if k == 5 and rank == 0:
            guard.incident("a", "diverging", "critical", "trouble", open=True)
        if k == 8 and rank == 0:
            guard.incident("b", "vanishing", "critical", "enough", open=True)
        try:
            optimizer.step()
        except GradwatchStop:
            stopped_at = k
            break
        weights.append([whole(p) for p in model.parameters()])
    told = everywhere([(action.kind, action.step, action.new) for action in guard.actions])
    assert told[0] == told[1] == [("skip", 3, None), ("lr_cut", 6, 0.5), ("stop", 9, None)]
    assert everywhere(stopped_at) == [9, 9]
    assert all(torch.equal(a, b) for a, b in zip(weights[2], weights[3], strict=True))
    assert all(bool(weight.isfinite().all()) for weight in weights[-1])
    mine, theirs = everywhere(weights[-1])
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def clips_alike(kind: str, rank: int) -> None:
    """The sharded gradient is clipped as the whole would be."""
    for make in (lambda: AdaptiveClip(warmup=3), lambda: AdaGC(warmup=3, absolute=0.1)):
        model, plain = wrapped(kind)
        clip, reference = make(), make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        guard = gradwatch.guard(optimizer, [clip])
        for k in range(8):
            factor = 20.0 if k == 6 else 1.0
            optimizer.zero_grad()
            plain.zero_grad()
            (factor * model(X[rank::2]).pow(2).mean()).backward()
            (factor * plain(X).pow(2).mean()).backward()
            optimizer.step()
            reference(plain)
            for p, q in zip(model.parameters(), plain.parameters(), strict=True):
                torch.testing.assert_close(whole(p.grad), q.grad, rtol=1e-4, atol=1e-6)
        guard.remove()


def stops_alike(kind: str, rank: int) -> None:
    """Several kinds in one part, and a NaN that is told as what an explosion ended in: each rank saves, as shards need it."""
    model, _ = wrapped(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    saved: list[Any] = []

    def save() -> None:
        saved.append(everywhere(rank))

    stops = [
        StopOn("dead", checkpoint=lambda: saved.append("another")),
        StopOn(("vanishing", "exploding"), checkpoint=save),
    ]
    guard = gradwatch.guard(optimizer, stops)
    stopped_at = None
    for k in range(8):
        optimizer.zero_grad()
        model(X[rank::2]).pow(2).mean().backward()
        if k == 2 and rank == 1:
            guard.incident("a", "nonfinite", "critical", "a NaN from elsewhere", open=True)
            guard.incident("b", "exploding", "info", "a remark", open=True)
        if k == 4 and rank == 1:
            guard.incident("c", "nonfinite", "critical", "the explosion ends", open=True, cause="b")
        try:
            optimizer.step()
        except GradwatchStop as stop:
            stopped_at = (k, "another rank" in str(stop))
            break
    assert everywhere(stopped_at) == [(5, True), (5, False)]
    assert saved == [[0, 1]]


def in_process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    with process_group(rank, port):
        for kind in ("ddp", "fsdp"):
            acts_alike(kind, rank)
            stops_alike(kind, rank)
            clips_alike(kind, rank)
            Path(folder, f"{kind} {rank}").touch()


@pytest.mark.slow
def test_ranks_do_the_same_on_the_same_step(tmp_path: Path) -> None:
    mp.spawn(in_process, args=(free_port(), str(tmp_path)), nprocs=2)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_process_that_cannot_agree_with_the_others_is_refused() -> None:
    agree.check({})
    agree.check({"WORLD_SIZE": "1"})
    with pytest.raises(ConfigError, match="one of 4 processes.*init_process_group"):
        agree.check({"WORLD_SIZE": "4"})
    assert agree.agree([1.0, 0.0], torch.device("cpu")) == [1.0, 0.0]
