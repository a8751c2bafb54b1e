"""Two processes: each sends what it holds, and together that is the norm of the whole gradient."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.ports import free_port
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from .conftest import Recorder, Watch, close, mlp, reference

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(3))
LIMIT = 0.05


def twin(sizes: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model, plain = mlp(sizes), mlp(sizes)
    plain.load_state_dict(model.state_dict())
    return model, plain


def together(seen: Recorder) -> dict[str, float]:
    """Per tensor, over the ranks: root of the sum of squares, one replica of each shard counted."""
    frame = seen.frames[-1]
    tensors = {tensor.name: tensor for tensor in seen.schemas[frame.schema - 1][0]}
    mine = [(name, tensors[name].shard, norm) for name, norm in seen.norms(frame).items()]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    parts = {(name, shard): norm for part in gathered for name, shard, norm in part}
    return {name: sum(v**2 for (n, _), v in parts.items() if n == name) ** 0.5 for name in tensors}


def train(wrapped: nn.Module, plain: nn.Module, x: torch.Tensor, watch: Watch) -> Recorder:
    """Two steps, the second clipped; checks against the undistributed twin on all of the data."""
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    plain_optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    capture, seen = watch(wrapped, optimizers=[optimizer])
    for step in range(2):
        optimizer.zero_grad()
        plain_optimizer.zero_grad()
        wrapped(x).pow(2).mean().backward()
        plain(X).pow(2).mean().backward()
        assert capture.scalar_step() == step
        expected = reference(plain)
        if step:
            nn.utils.clip_grad_norm_(wrapped.parameters(), LIMIT)
            nn.utils.clip_grad_norm_(plain.parameters(), LIMIT)
        optimizer.step()
        plain_optimizer.step()
        assert capture.scalar_step() == step
        close(together(seen), expected, rel=1e-4)
    total = sum(v**2 for v in expected.values()) ** 0.5
    assert seen.number(seen.frames[-1], "clip_coef") == pytest.approx(LIMIT / total, rel=1e-3)
    return seen


def replicated(rank: int, watch: Watch) -> None:
    model, plain = twin((6, 8, 3))
    seen = train(DistributedDataParallel(model), plain, X[rank::2], watch)
    assert seen.names(seen.frames[-1]) == [name for name, _ in plain.named_parameters()]
    close(seen.norms(seen.frames[-1]), together(seen))


def sharded(rank: int, watch: Watch) -> None:
    fully_shard = pytest.importorskip("torch.distributed.fsdp").fully_shard
    mesh = init_device_mesh("cpu", (2,))
    model, plain = twin((6, 7, 1))
    for layer in model.children():
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    seen = train(model, plain, X[rank::2], watch)
    assert {tensor.shard for tensor in seen.schemas[-1][0]} == {rank}
    empty = seen.norms(seen.frames[-1])["2.weight"]
    assert (empty == 0.0) == (rank == 1)


def tensor_parallel(rank: int, watch: Watch) -> None:
    mesh = init_device_mesh("cpu", (2,))
    model, plain = twin((6, 8, 3))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    seen = train(model, plain, X, watch)
    parts = {tensor.name: (tensor.shard, tensor.replica) for tensor in seen.schemas[-1][0]}
    assert parts == {"0.weight": (rank, 0), "0.bias": (rank, 0), "2.weight": (rank, 0), "2.bias": (0, rank)}


SCENARIOS: dict[str, Callable[[int, Watch], None]] = {
    "replicated": replicated,
    "sharded": sharded,
    "tensor parallel": tensor_parallel,
}


@contextlib.contextmanager
def process_group(rank: int, port: int) -> Iterator[None]:
    """One of two processes, which ends with the block: gloo's threads now and then abort an interpreter that winds down."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()
    os._exit(0)


def in_process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    with process_group(rank, port):
        for name, scenario in SCENARIOS.items():
            watch = Watch()
            scenario(rank, watch)
            for capture in watch.captures:
                capture.detach()
            Path(folder, f"{name} {rank}").touch()


@pytest.mark.slow
def test_ranks_send_parts_that_make_a_whole(tmp_path: Path) -> None:
    mp.spawn(in_process, args=(free_port(), str(tmp_path)), nprocs=2)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name} {rank}" for name in SCENARIOS for rank in (0, 1)
    }
