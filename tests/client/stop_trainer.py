"""Trains on several ranks until one has a bad batch, and writes down where each stopped; run by torchrun.

torchrun --nproc-per-node 2 stop_trainer.py SERVER FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import httpx
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradwatch

CULPRIT = 120
"""The step from which the second rank's targets are far too large."""

PATIENCE = 60.0
"""Seconds within which the server must have judged, said so, and stored the answer of this rank."""


def samples(rank: int, step: int) -> list[str]:
    return [f"rank {rank}, step {step}, sample {n}" for n in range(4)]


def told(server: str, run_id: str, rank: int) -> None:
    """Waits until the server knows which samples this rank saw in the bad batch."""
    until = time.monotonic() + PATIENCE
    headers = {"Authorization": f"Bearer {os.environ['GRADWATCH_TOKEN']}"}
    with httpx.Client(base_url=server, headers=headers, timeout=PATIENCE) as api:
        while time.monotonic() < until:
            found = api.get(f"/api/v1/runs/{run_id}/batches", params={"from": CULPRIT, "to": CULPRIT + 1})
            if rank in {one["rank"] for one in found.json()["batches"]}:
                return
            time.sleep(0.05)
    raise TimeoutError(f"nothing of rank {rank} after {PATIENCE:.0f} s")


def train(server: str) -> dict[str, object]:
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = torch.Generator().manual_seed(rank)
    saved: list[int] = []
    stop = gradwatch.StopOn(("exploding", "vanishing"), checkpoint=lambda: saved.append(rank))
    stopped, reason = -1, ""
    with gradwatch.watch(model, optimizer, server=server, name="stops") as run:
        gradwatch.guard(optimizer, [stop], run=run)
        for step in range(CULPRIT + 200):
            x = torch.randn(32, 6, generator=data)
            y = x[:, :1] * (1e4 if step >= CULPRIT and rank == 1 else 1.0)
            run.batch(ids=samples(rank, step))
            optimizer.zero_grad()
            loss = (model(x) - y).pow(2).mean()
            loss.backward()
            run.log(loss=loss)
            try:
                optimizer.step()
            except gradwatch.GradwatchStop as why:
                stopped, reason = step, str(why)
                break
        told(server, run.id, rank)
        # The first rank ends the run: not before all have been heard.
        dist.barrier()
    return {"run": run.id, "stopped": stopped, "reason": reason, "saved": saved}


def main() -> None:
    server, folder = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = train(server)
    Path(folder, f"stopped{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
