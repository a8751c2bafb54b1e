"""Where it began: the first tensor and step of a rise, the origin of a NaN, the trend over depth, who holds the norm."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from .baseline import theil_sen
from .frames import Row
from .incidents import Origin, Share
from .layout import Layout
from .memory import TINY_LOG2, Memory

__all__ = ["depth_gain", "due", "forward_gain", "nonfinite_origin", "rise_origin", "shares"]

_FOLLOWERS: Final = 12
_LOOK_BACK: Final = 64


def shares(memory: Memory, layout: Layout, top: int = 5) -> tuple[Share, ...]:
    """The ``top`` tensors by share of the squared norm at the newest frame, largest first."""
    _, rows = memory.window(1)
    if not len(rows):
        return ()
    logs = rows[-1].astype(np.float64)
    finite = np.isfinite(logs)
    if not finite.any():
        return ()
    squares = np.where(finite, np.exp2(2.0 * (logs - logs[finite].max())), 0.0)
    total = float(squares.sum())
    best = np.argsort(-squares, kind="stable")[:top]
    return tuple(Share(layout.names[i], float(squares[i] / total)) for i in best if squares[i] > 0)


def rise_origin(memory: Memory, layout: Layout, onset: int) -> Origin:
    """Origin of a rise: each tensor's first step above its own normal, from shortly before ``onset`` on.

    A weight whose norm jumped in the same samples is the origin whatever the gradients say: they only carry the news.
    Among tensors that rose at the same step, the one furthest above its normal comes first.
    """
    steps, rows = memory.window(_LOOK_BACK)
    recent = steps >= onset - 16
    steps, logs = steps[recent], rows[recent].astype(np.float64)
    limit = memory.base_m + np.maximum(1.5, 4.0 * memory.base_s)
    above = logs > limit
    hit = above.any(axis=0) & layout.trainable
    if memory.weight_moved(40) and memory.moved < layout.n:
        return _origin(layout, memory.moved, onset, [], "weights")
    if not hit.any():
        return Origin(step=onset, where="model")
    first = np.where(hit, above.argmax(axis=0), len(steps))
    excess = np.where(hit, (logs - memory.base_m).max(axis=0), -np.inf)
    at_first = np.where(
        hit, logs[np.minimum(first, len(steps) - 1), np.arange(layout.n)] - memory.base_m, -np.inf
    )
    order = np.lexsort((-excess, -at_first, first))
    found = [(int(i), int(steps[first[i]])) for i in order if hit[i]]
    lead, step = found[0]
    alone = sum(1 for _, s in found if s == step)
    where = "model" if alone > 0.8 * layout.n and layout.n > 1 else "tensor"
    return _origin(layout, lead, step, found[1:], where)


def _origin(layout: Layout, lead: int, step: int, rest: list[tuple[int, int]], where: str) -> Origin:
    tensor = layout.tensors[lead]
    return Origin(
        step=step,
        where=where,
        tensor=tensor.name,
        module=tensor.module,
        followers=tuple((layout.names[i], s) for i, s in rest[:_FOLLOWERS]),
        followed=len(rest),
    )


def nonfinite_origin(memory: Memory, layout: Layout, loss_bad: bool) -> tuple[Origin, tuple[int, ...]]:
    """Provenance of a NaN or Inf (science notes, 4.1), and the tensors whose gradients are not finite.

    Weights that were not finite before this step come first, then the input, then, for a finite loss, the last tensor in
    forward order whose gradient is not finite (backward carries the NaN from there to the input), then the loss.
    """
    step = memory.step
    bad_weights = _bad_weights(memory, layout)
    rows = memory.frame.rows.get("grad_norm") if memory.frame is not None else None
    bad = np.zeros(layout.n, dtype=np.bool_) if rows is None else ~np.isfinite(rows)
    if rows is not None and memory.frame is not None and memory.frame.present is not None:
        bad &= memory.frame.present
    order = [int(i) for i in layout.order if bad[i]]
    if bad_weights:
        rest = [(i, step) for i in order if i != bad_weights[0]]
        return _origin(layout, bad_weights[0], step, rest, "weights"), tuple(order)
    if memory.input_bad:
        return Origin(step=step, where="input", followed=len(order)), tuple(order)
    if loss_bad or not order:
        return Origin(step=step, where="loss", followed=len(order)), tuple(order)
    last = order[-1]
    rest = [(i, step) for i in reversed(order[:-1])]
    return _origin(layout, last, step, rest, "tensor"), tuple(order)


def _bad_weights(memory: Memory, layout: Layout) -> list[int]:
    """Tensors whose own values are not finite while others' still are, by depth; [] when unknown or all are."""
    counts = memory.frame.rows.get("weight_nonfinite") if memory.frame is not None else None
    bad = np.isnan(memory.weights) | np.isinf(memory.weights)
    if memory.weight_step < 0 or memory.step - memory.weight_step > 1:
        bad[:] = False
    if counts is not None:
        bad |= counts > 0
    return [] if bad.all() else [int(i) for i in layout.order if bad[i]]


def due(frames: int) -> int:
    """Frames between two looks over depth: a profile changes slowly, and slower as a run grows older."""
    return 8 if frames <= 64 else 32 if frames <= 512 else 128


def depth_gain(memory: Memory, layout: Layout) -> tuple[float, int, Row]:
    """Backward gain per layer in log2 (science notes, 2.3), the number of layers it is taken over, and the profile.

    Negative: gradients shrink on the way to the input. The profile is log2 of the RMS gradient by depth.
    """
    probe = np.array(layout.probe, dtype=np.int64)
    _, rows = memory.window(8)
    if len(probe) < 6 or not len(rows):
        return 0.0, 0, np.zeros(0)
    logs = np.median(rows[:, probe].astype(np.float64), axis=0) - np.log2(layout.root_numel[probe])
    logs = logs[np.isfinite(logs) & (logs > TINY_LOG2 + 8)]
    if len(logs) < 6:
        return 0.0, 0, np.zeros(0)
    keep = logs if len(logs) <= 64 else logs[np.linspace(0, len(logs) - 1, 64).astype(np.int64)]
    return -theil_sen(keep) * (len(keep) / len(logs)), len(logs), logs


def forward_gain(memory: Memory, layout: Layout) -> tuple[float, int]:
    """Forward gain per layer in log2, from the ratio of weight to bias gradients, and the layers it is taken over."""
    _, rows = memory.window(8)
    if len(layout.pairs) < 6 or not len(rows):
        return 0.0, 0
    pairs = np.array(layout.pairs, dtype=np.int64)
    logs = np.median(rows.astype(np.float64), axis=0)
    logs[np.isinf(logs)] = np.nan
    ratio = logs[pairs[:, 0]] - logs[pairs[:, 1]]
    ratio = ratio[np.isfinite(ratio) & (logs[pairs[:, 1]] > TINY_LOG2) & (logs[pairs[:, 0]] > TINY_LOG2)]
    if len(ratio) < 6:
        return 0.0, 0
    keep = ratio if len(ratio) <= 64 else ratio[np.linspace(0, len(ratio) - 1, 64).astype(np.int64)]
    slope = theil_sen(keep) * (len(keep) / len(ratio))
    return (slope, len(ratio)) if math.isfinite(slope) else (0.0, 0)
