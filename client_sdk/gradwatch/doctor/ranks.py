"""The settings of several processes: two of them on this machine, talking through gloo, beside an undistributed twin."""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .bench import STEPS, Bench, Outcome

__all__ = ["RANKED", "examine_ranks"]

LIMIT: Final = 0.05
WORLD: Final = 2


def _sharded(model: nn.Sequential) -> Any:
    """Uneven shards: seven rows over two ranks, and one."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    for layer in model:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


RANKED: Final[Mapping[str, tuple[str, Callable[[nn.Sequential], nn.Module]]]] = {
    "ddp": ("DDP, 2 processes", DistributedDataParallel),
    "fsdp2": ("FSDP2, 2 processes, uneven shards", _sharded),
}
"""Title, and how a model is wrapped, by key."""


def examine_ranks(steps: int = STEPS) -> dict[str, Outcome | str]:
    """Each of :data:`RANKED`: how it went, or why it does not run here."""
    if not dist.is_available() or not dist.is_gloo_available():
        return dict.fromkeys(RANKED, "torch.distributed with gloo is not in this build of torch")
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        spawning: Any = mp
        spawning.spawn(_in_process, args=(port, folder, steps), nprocs=WORLD)
        found = json.loads(Path(folder, "outcomes.json").read_text())
    return {key: Outcome(**told) for key, told in found.items()}


def _in_process(rank: int, port: int, folder: str, steps: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    outcomes = {key: _examine(wrap, rank, steps) for key, (_, wrap) in RANKED.items()}
    if rank == 0:
        Path(folder, "outcomes.json").write_text(json.dumps(outcomes))
    dist.barrier()
    # An orderly end now and then aborts in the destructors of gloo's threads.
    os._exit(0)


def _examine(wrap: Callable[[nn.Sequential], nn.Module], rank: int, steps: int) -> dict[str, Any]:
    plain, bench = (
        _train(wrap, rank, Bench(torch.device("cpu"), watched, steps)) for watched in (False, True)
    )
    cost = bench.capture.cost() if bench.capture is not None else {}
    error, total, reference = math.inf, math.nan, math.nan
    for frame, expected in zip(bench.frames, bench.expected, strict=True):
        tensors = bench.schemas[frame.schema - 1][0]
        mine = [(t.name, t.shard, float(v)) for t, v in zip(tensors, frame.values["grad_norm"], strict=True)]
        whole = _together(mine)
        worst = max(abs(whole[name] - norm) / max(norm, 1e-30) for name, norm in expected.items())
        error = worst if math.isinf(error) else max(error, worst)
        total, reference = math.hypot(*whole.values()), math.hypot(*expected.values())
    same = all(torch.equal(a, b) for a, b in zip(plain.weights, bench.weights, strict=True))
    return {
        "error": error,
        "ours": total,
        "reference": reference,
        "us": cost.get("us_per_step", math.nan),
        "identical": same and plain.losses == bench.losses,
    }


def _train(wrap: Callable[[nn.Sequential], nn.Module], rank: int, bench: Bench) -> Bench:
    twin = bench.model(6, 7, 1)
    model = wrap(bench.model(6, 7, 1))
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (model, twin)]
    bench.watch(model, optimizers=optimizers[:1])
    for x in bench.batches():
        for optimizer in optimizers:
            optimizer.zero_grad()
        bench.backward(model(x[rank::WORLD]))
        twin(x).pow(2).mean().backward()
        bench.expect(twin)
        for one in (model, twin):
            nn.utils.clip_grad_norm_(one.parameters(), LIMIT)
        for optimizer in optimizers:
            optimizer.step()
    local = [getattr(p, "to_local", lambda p=p: p)() for p in model.parameters()]
    bench.done()
    bench.weights = [p.detach().clone() for p in local]
    return bench


def _together(mine: list[tuple[str, int, float]]) -> dict[str, float]:
    """Per tensor, over the ranks: root of the sum of squares, one replica of each shard counted; as the server does."""
    gathered: list[Any] = [None] * WORLD
    dist.all_gather_object(gathered, mine)
    parts = {(name, shard): norm for part in gathered for name, shard, norm in part}
    names = dict.fromkeys(name for name, _ in parts)
    return {name: math.hypot(*(v for (n, _), v in parts.items() if n == name)) for name in names}
