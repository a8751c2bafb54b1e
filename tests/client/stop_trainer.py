"""Trains on several ranks until one has a bad batch, and writes down where each stopped; run by torchrun.

torchrun --nproc-per-node 2 stop_trainer.py SERVER FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradwatch

CULPRIT = 120
"""The step from which the second rank's targets are far too large."""

PATIENCE = 300.0
"""Seconds after which something is wrong, however busy the machine is."""


def samples(rank: int, step: int) -> list[str]:
    return [f"rank {rank}, step {step}, sample {n}" for n in range(4)]


def wait(server: str, path: str, params: dict[str, Any], there: Callable[[Any], bool]) -> None:
    """Until the server's answer is as expected."""
    until = time.monotonic() + PATIENCE
    headers = {"Authorization": f"Bearer {os.environ['GRADWATCH_TOKEN']}"}
    with httpx.Client(base_url=server, headers=headers, timeout=PATIENCE) as api:
        while not there(api.get(path, params=params).json()):
            if time.monotonic() > until:
                raise TimeoutError(f"{path} {params}: not as expected after {PATIENCE:.0f} s")
            time.sleep(0.05)


def all_connected(server: str, run_id: str) -> None:
    """Both ranks' own norms are there: the server can tell both of an incident."""
    params = {"statistic": "rank_grad_norm", "scope": "run"}
    wait(server, f"/api/v1/runs/{run_id}/values", params, lambda found: bool(found.get("steps")))


def told(server: str, run_id: str, rank: int) -> None:
    """The server knows which samples this rank saw in the bad batch."""
    params = {"from": CULPRIT, "to": CULPRIT + 1}
    wait(
        server,
        f"/api/v1/runs/{run_id}/batches",
        params,
        lambda found: rank in {one["rank"] for one in found["batches"]},
    )


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
            if step == CULPRIT:
                all_connected(server, run.id)
                dist.barrier()
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
