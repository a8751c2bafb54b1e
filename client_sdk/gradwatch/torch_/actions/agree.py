"""All ranks do the same on the same step: one MAX all-reduce of a few numbers, and none where there is one process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist

from ...errors import ConfigError

__all__ = ["agree", "check", "together"]


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Before the first step.

    Raises:
        ConfigError: this is one process of several, and they cannot agree on anything.
    """
    world = environ.get("WORLD_SIZE", "1")
    if world.isdecimal() and int(world) > 1 and not together():
        raise ConfigError(
            f"this is one of {world} processes, and actions must be the same on all of them: call "
            "torch.distributed.init_process_group() before guard(...)"
        )


def together() -> bool:
    """Whether there are other ranks to agree with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def agree(flags: Sequence[float], device: torch.device) -> list[float]:
    """The largest of each over all ranks. Every rank must call it, at the same step. Waits for the others."""
    if not together():
        return list(flags)
    backend = dist.get_backend()
    where = device if backend == "nccl" else torch.device("cpu")
    numbers = torch.tensor(list(flags), dtype=torch.float64, device=where)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return [float(number) for number in numbers.tolist()]
