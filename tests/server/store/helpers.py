"""A small run to store: what tests of the store send."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gradwatch.protocol import Batch, Block, Hello, Schema, Statistic, Tensor
from gradwatch_server.store import OpenedStream, Store

WAIT: Final = 30.0
RUN: Final = "digits-1"
NAMES: Final = ("net.0.weight", "net.0.bias", "net.2.weight", "head.weight")
HELLO: Final = Hello(
    run_id=RUN, run_key="secret", project="digits", name="baseline", stream="s0", segment="g0"
)


def opened(store: Store, **changes: Any) -> OpenedStream:
    """A stream of :data:`HELLO`, with some fields changed."""
    return store.open_stream(dataclasses.replace(HELLO, **changes), now=1000.0).result(WAIT)


def declared(seq: int = 0, id: int = 0, names: tuple[str, ...] = NAMES) -> Schema:
    """``grad_norm`` of tensors, and ``loss``."""
    return Schema(
        seq=seq,
        id=id,
        statistics=(
            Statistic(name="grad_norm", scope="tensor", width=len(names)),
            Statistic(name="loss", scope="run", dtype="f8"),
        ),
        tensors=tuple(
            Tensor(name=name, module=name.rpartition(".")[0], shape=(2,), numel=2) for name in names
        ),
    )


def batch(
    seq: int,
    first: int,
    values: npt.NDArray[Any],
    *,
    schema: int = 0,
    present: npt.NDArray[np.bool_] | None = None,
) -> Batch:
    """Norms of steps from ``first`` on, ten a second."""
    steps = np.arange(first, first + len(values), dtype=np.float64)
    block = Block(statistic=0, steps=steps, times=100 + steps / 10, values=values, present=present)
    return Batch(seq=seq, schema=schema, blocks=(block,))
