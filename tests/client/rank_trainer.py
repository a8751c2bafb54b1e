"""Trains twins on several ranks and writes down what plain arithmetic says; run by torchrun.

torchrun --nproc-per-node 2 rank_trainer.py SERVER FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import gradwatch

LIMIT = 0.05
BROKEN_AT = 3
"""Step at which one rank's gradients turn NaN, in the setting where nothing joins the ranks."""


def mlp(hidden: int, out: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, out))


def sharded(hidden: int, out: int) -> nn.Module:
    """Uneven shards; with one output row the second rank's are empty."""
    model = mlp(hidden, out)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(hidden: int, out: int) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(mlp(hidden, out), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


SETTINGS = {
    "fsdp2": (sharded, (7, 1), 6, True),
    "tensor parallel": (tensor_parallel, (8, 3), 6, False),
    "every rank": (lambda *sizes: DistributedDataParallel(mlp(*sizes)), (8, 3), 6, True),
    "one is broken": (mlp, (8, 3), 6, False),
    "ddp": (lambda *sizes: DistributedDataParallel(mlp(*sizes)), (8, 3), 152, True),
}
"""How the model is wrapped, its sizes, the steps, and whether each rank has data of its own."""

EVERYBODY = ("every rank", "one is broken")
"""Settings in which ranks that hold the same are asked to send each step."""


def norms(model: nn.Module) -> dict[str, float]:
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: float(grad.double().norm()) for name, grad in grads.items()}


def train(setting: str, server: str) -> dict[str, object]:
    """One run of a setting; what its twin on all of the data has, step by step, and this rank's own norms."""
    wrap, sizes, steps, split = SETTINGS[setting]
    rank, world = dist.get_rank(), dist.get_world_size()
    model, twin, lonely = wrap(*sizes), mlp(*sizes), mlp(*sizes)
    optimizers = [
        torch.optim.SGD(m.parameters(), lr=1e-6 if split and steps > 50 else 0.05) for m in (model, twin)
    ]
    data = torch.Generator().manual_seed(3)
    told: dict[str, object] = {"whole": [], "own": {}}
    with gradwatch.watch(model, name=setting, server=server, ranks=setting in EVERYBODY) as run:
        told["run"] = run.id
        for step in range(steps):
            x = torch.randn(8, 6, generator=data)
            if setting == "ddp" and rank == 1:
                x = x * 100.0
            gathered = [torch.empty_like(x) for _ in range(world)]
            dist.all_gather(gathered, x)
            whole = torch.cat([part[i::world] for i, part in enumerate(gathered)]) if split else x
            mine = x[rank::world] if split else x
            if setting == "ddp":
                lonely.load_state_dict(model.module.state_dict())
                lonely.zero_grad()
                lonely(mine).pow(2).mean().backward()
                told["own"][step] = sum(v**2 for v in norms(lonely).values()) ** 0.5
            for optimizer in optimizers:
                optimizer.zero_grad()
            broken = setting == "one is broken" and rank == 1 and step >= BROKEN_AT
            (model(mine).pow(2).mean() * (float("nan") if broken else 1.0)).backward()
            twin(whole).pow(2).mean().backward()
            told["whole"].append(norms(twin))
            if step % 2:
                nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
                nn.utils.clip_grad_norm_(twin.parameters(), LIMIT)
            for optimizer in optimizers:
                optimizer.step()
            run.log(loss=float(rank))
    return told


def main() -> None:
    server, folder = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    told = {setting: train(setting, server) for setting in SETTINGS}
    Path(folder, f"rank{dist.get_rank()}.json").write_text(json.dumps(told))
    print(f"rank {os.environ['RANK']} has trained")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
