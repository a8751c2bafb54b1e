"""Several processes that train one model: which of them send, and how they agree on one run without a collective."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..place import Place

__all__ = ["ALONE", "place_of", "share"]

PATIENCE_S: Final = 30.0
"""How long a rank waits for the first one to say which run it is."""

_calls: Final = [0]


ALONE: Final = Place()


def place_of(models: Iterable[nn.Module], *, everybody: bool = False) -> Place | None:
    """Where this process stands; None if it sends nothing, since the first rank speaks for it.

    A model of DTensors (FSDP2, tensor parallel) is sent in parts, as is any if ``everybody`` is to send each step. Under
    DistributedDataParallel ranks are replicated. How else processes may share work is not known: the first one sends.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() < 2:
        return ALONE
    rank, world = dist.get_rank(), dist.get_world_size()
    models = list(models)
    if everybody or any(hasattr(p, "to_local") for model in models for p in model.parameters()):
        return Place(rank, world, parts=True)
    if any(isinstance(module, DistributedDataParallel) for model in models for module in model.modules()):
        return Place(rank, world)
    return ALONE if rank == 0 else None


def share(
    place: Place, make: Callable[[], Mapping[str, str]], patience: float = PATIENCE_S
) -> Mapping[str, str] | None:
    """The run's identity: what ``make`` gives on the first rank, on all of them; None if the first doesn't say.

    It goes through the key-value store that the processes met at. The first rank never waits, so a script in which only
    that one is watched does not hang; the others wait ``patience`` seconds at most.
    """
    if place.world == 1:
        return make()
    _calls[0] += 1
    key = f"gradwatch/run/{_calls[0]}"
    store: Any = dist.distributed_c10d._get_default_store()
    if place.rank == 0:
        identity = make()
        store.set(key, json.dumps(dict(identity)))
        return identity
    try:
        store.wait([key], timedelta(seconds=patience))
    except RuntimeError:  # dist.DistStoreError where there is one; a plain RuntimeError in older versions
        return None
    found: dict[str, str] = json.loads(store.get(key))
    return found
