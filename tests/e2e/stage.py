"""A server in a thread with runs of known numbers, for browser tests that need no training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwatch.links import fetch_code
from gradwatch.protocol import Batch, Block, Schema, Statistic, Tensor
from tests.server.live_server import Running, Trainer, hello, serving

LAYERS = tuple(
    f"blocks.{block}.{part}.weight"
    for block in range(4)
    for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
)


class Stage:
    """What :class:`~.harness.Watched` asks of a server, and runs put on it."""

    def __init__(self, running: Running, folder: Path) -> None:
        self.running = running
        self.folder = folder
        self.url = running.url
        self.log = folder / "server.log"

    def code(self) -> str:
        """A single-use code, as ``gradwatch open`` gets it."""
        return fetch_code(self.url, self.running.key)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The API's answer to the owner."""
        with self.running.owner() as api:
            reply = api.request(method, f"/api/v1{path}", json=body)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def run(
        self,
        run_id: str,
        *,
        steps: int = 300,
        layers: Sequence[str] = LAYERS,
        spikes: Sequence[int] = (),
        finish: bool = True,
        **introduced: Any,
    ) -> None:
        """A run of ``steps`` steps whose norms fall slowly, ten times as high at ``spikes``."""
        with Trainer(self.running, hello(run_id, **introduced)) as trainer:
            trainer.send(schema_of(layers), numbers(1, 0, steps, len(layers), spikes))
            trainer.wait_acked(2)
            if finish:
                trainer.finish(2)


def schema_of(layers: Sequence[str]) -> Schema:
    """Layers with a norm each, the norm over all, and a loss."""
    return Schema(
        seq=0,
        id=0,
        tensors=tuple(
            Tensor(name=name, shape=(8, 8), numel=64, depth=i, module=name.rpartition(".")[0])
            for i, name in enumerate(layers)
        ),
        statistics=(
            Statistic(name="grad_norm", scope="tensor", width=len(layers)),
            Statistic(name="global_grad_norm", scope="run", dtype="f8"),
            Statistic(name="loss", scope="run", dtype="f8", cadence=0, logged=True),
        ),
    )


def numbers(seq: int, first: int, steps: int, layers: int, spikes: Sequence[int] = ()) -> Batch:
    """Made up, but always the same."""
    dice = np.random.default_rng(first)
    axis = np.arange(first, first + steps, dtype=np.float64)
    fall = (1.0 + 0.5 * np.exp(-axis / 80))[:, None]
    norms = fall * np.exp(dice.normal(0, 0.08, (steps, layers))) * np.linspace(0.3, 1.2, layers)
    for step in spikes:
        if first <= step < first + steps:
            norms[step - first] *= 10
    whole = np.sqrt((norms**2).sum(axis=1, keepdims=True))
    loss = 2.3 * np.exp(-axis / 150)[:, None] + 0.05
    times = 1_700_000_000.0 + axis
    blocks = [
        Block(statistic=i, steps=axis, times=times, values=_typed(values, i))
        for i, values in enumerate((norms, whole, loss))
    ]
    return Batch(seq=seq, schema=0, blocks=tuple(blocks))


def _typed(values: npt.NDArray[Any], statistic: int) -> npt.NDArray[Any]:
    return values.astype(np.float32 if statistic == 0 else np.float64)


@contextlib.contextmanager
def staged(folder: Path, **given: Any) -> Iterator[Stage]:
    """A server, stopped at the end."""
    with serving(folder, **given) as running:
        yield Stage(running, folder)
