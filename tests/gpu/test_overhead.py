"""What watching costs on the device, with and without it in turns, timed by the device itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest
import torch

from gradwatch.frames import PendingFrame
from gradwatch.shield import Shield
from gradwatch.torch_.capture import Capture

from .transformer import LARGE, SMALL, Transformer, trainer

ROUNDS = 20
STEPS = 10
MOST = 1.03
"""A whole step with watching against one without: medians over rounds of both in turn."""


class Stopwatch:
    """Milliseconds of some steps: CUDA events on a GPU, the clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def __call__(self, step: Callable[[], object], count: int) -> float:
        if not self._cuda:
            begun = time.perf_counter()
            for _ in range(count):
                step()
            return (time.perf_counter() - begun) * 1e3 / count
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        for _ in range(count):
            step()
        last.record()
        torch.cuda.synchronize()
        return float(first.elapsed_time(last)) / count


def watched(model: Transformer) -> tuple[Capture, list[PendingFrame]]:
    frames: list[PendingFrame] = []
    shield = Shield(pytest.fail)
    capture = Capture(
        [model], shield=shield, on_frame=frames.append, on_schema=lambda tensors, statistics: None
    )
    return capture, frames


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_large_transformer_hardly_notices(device: torch.device, compiled: bool) -> None:
    """100 million parameters, bfloat16 autocast, clipping, fused AdamW, compiled and not."""
    cuda = device.type == "cuda"
    backend = ("inductor" if cuda else "aot_eager") if compiled else ""
    model, step = trainer(LARGE if cuda else SMALL, device, backend=backend)
    stopwatch, rounds = Stopwatch(device), ROUNDS if cuda else 3
    stopwatch(step, 5)
    without, with_it, frames = [], [], 0
    for _ in range(rounds):
        without.append(stopwatch(step, STEPS))
        capture, pending = watched(model)
        capture.attach()
        stopwatch(step, 3)  # finds the optimizer, decides how to read each gradient
        with_it.append(stopwatch(step, STEPS))
        capture.detach()
        found = [frame.resolve() for frame in pending]
        frames += len(found)
        assert all("clip_coef" in frame.values for frame in found)
    ratio = median(with_it) / median(without)
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"\n{parameters / 1e6:.0f} M parameters on {device}, {backend or 'eager'}: {median(without):.3f} ms without, "
        f"{median(with_it):.3f} ms with watching, ratio {ratio:.4f}"
    )
    assert frames == rounds * (STEPS + 3)
    if cuda:
        assert parameters > 100e6
        assert ratio <= MOST
