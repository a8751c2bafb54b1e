"""When a raised loss may be new data (a harder stretch, a new task) and no fault, and what the inputs say about it."""

from __future__ import annotations

import math

import numpy as np

from .layout import Layout
from .memory import TENFOLD, TINY_LOG2, Memory

__all__ = ["first_module", "input_scale", "may_be_new_data"]


def may_be_new_data(memory: Memory, layout: Layout) -> bool:
    """Whether LR and updates are known and as ever, inputs and gradients no larger, and the jump of the loss young or falling.

    A single norm ten times as large as any before is a bad batch or a damaged weight, however soon the loss falls again.
    """
    if (
        not memory.episode.open
        or memory.lr != memory.lr
        or memory.ratio != memory.ratio
        or memory.loss.n < 110
    ):
        return False
    if memory.lr_rose() or memory.update_high(60) or memory.weight_moved():
        return False
    if memory.burst_step >= memory.episode.onset - 3:
        return False
    if not (memory.episode.fresh(memory.loss) or memory.episode.falling(memory.loss)):
        return False
    return not input_scale(memory, layout, memory.episode.onset)[1]


def input_scale(memory: Memory, layout: Layout, step: int) -> tuple[float, bool]:
    """Root mean square of what goes into the first layer since ``step`` (NaN: unknown), and whether it grew tenfold then.

    A weight's gradient is the output's times the input, a bias's is the output's alone: their ratio tells the input.
    """
    first = first_module(layout)
    pair = next((p for p in layout.pairs if layout.tensors[p[0]].module == first), None)
    # A norm after the layer makes the bias's gradient cancel over samples: the ratio says nothing then.
    if pair is None or layout.normalised or not memory.frames:
        return math.nan, False
    steps, rows = memory.window(128, list(pair))
    logs = rows.astype(np.float64)
    logs[~np.isfinite(logs) | (logs <= TINY_LOG2)] = np.nan
    ratio = logs[:, 0] - logs[:, 1]
    since, before = ratio[steps >= step], ratio[steps < step]
    since, before = since[np.isfinite(since)][:16], before[np.isfinite(before)]
    if not len(since):
        # Nothing reaches the layer any more: what did before.
        since, before = before[-16:], before[:0]
    if not len(since):
        return math.nan, False
    log = float(np.median(since))
    rose = len(before) > 0 and log - float(np.median(before)) > TENFOLD
    width = math.sqrt(max(layout.tensors[pair[0]].fan_in or 1, 1))
    return 2.0 ** min(log, 1000.0) / width, rose


def first_module(layout: Layout) -> str:
    """The first module that learns, "" when there is none."""
    return next((layout.tensors[int(i)].module for i in layout.order if layout.trainable[i]), "")
