"""Training engines that reduce and clip gradients inside themselves, where nobody sees them: what to say about each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

__all__ = ["ENGINES", "engine_of"]

ENGINES: Final[dict[str, str]] = {
    "deepspeed": "DeepSpeed reduces and clips gradients inside its engine, so there are no norms by tensor: shown is what you "
    "log, such as run.log(loss=loss, grad_norm=engine.get_global_grad_norm())",
    "megatron": "Megatron clips gradients in buffers of its own optimizer, so norms by tensor are those of the parameters that "
    "hold a .grad, and the norm before clipping is what you log: run.log(loss=loss, grad_norm=grad_norm)",
    "torch.distributed.fsdp.fully_sharded_data_parallel": "FullyShardedDataParallel flattens parameters, so norms by tensor "
    "are those of this rank's shards only: wrap the model with torch.distributed.fsdp.fully_shard to see whole tensors",
}
"""What is said, by the module that an engine's classes live in."""


def engine_of(things: Iterable[Any]) -> str:
    """The sentence about the engine that one of these models or optimizers belongs to, "" if none does."""
    for thing in things:
        for kind in type(thing).__mro__:
            for module, sentence in ENGINES.items():
                if kind.__module__ == module or kind.__module__.startswith(module + "."):
                    return sentence
    return ""
