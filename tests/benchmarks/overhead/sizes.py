"""What watching costs that is no time: bytes on the wire, and the time to import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch

from gradwatch.frames import Frame
from gradwatch.packer import Packer
from gradwatch.protocol import Batch, Schema, Statistic, Tensor, encode
from gradwatch.shield import Shield
from gradwatch.torch_.capture import Capture

from .models import MODELS

__all__ = ["bytes_per_value", "import_seconds"]


def bytes_per_value(model: str = "deep", frames: int = 50) -> tuple[float, float]:
    """Bytes of batches per (tensor, step): of ``grad_norm`` alone, and with all that a frame has beside it."""
    module, x = MODELS[model]()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    seen: list[Frame] = []
    declared: list[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]] = []

    def refuse(trouble: str) -> None:
        raise SystemExit(trouble)

    capture = Capture(
        [module],
        optimizers=[optimizer],
        budget=0.0,
        shield=Shield(refuse),
        on_frame=lambda pending: seen.append(pending.resolve()),
        on_schema=lambda tensors, stats: declared.append((tensors, stats)),
    )
    capture.attach()
    for _ in range(frames):
        optimizer.zero_grad()
        module(x).pow(2).mean().backward()
        optimizer.step()
    capture.detach()
    seen = [frame for frame in seen if frame.schema == len(declared)]
    alone = [Frame(f.step, f.time, {"grad_norm": f.values["grad_norm"]}, schema=f.schema) for f in seen]
    values = len(seen) * len(declared[-1][0])
    return _size(alone, declared) / values, _size(seen, declared) / values


def _size(frames: list[Frame], declared: list[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]]) -> int:
    records = Packer().pack(frames, declared, time.time(), final=True)
    assert isinstance(records[0], Schema)
    return sum(len(encode(record)) for record in records if isinstance(record, Batch))


def import_seconds(statement: str, times: int = 7) -> float:
    """Median seconds that a fresh interpreter takes for ``statement``, above one that does nothing."""
    return _process(statement, times) - _process("pass", times)


def _process(statement: str, times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)
