"""Other tools' rules, rewritten from their documents: each gives the steps at which it alarms.

All see the same recording; ``run`` is a :class:`~.replay.Run`. Events closer than 100 steps count once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from .replay import Run

COOL_DOWN = 100
Rule = Callable[[Run], list[int]]


def thin(steps: list[int]) -> list[int]:
    """Events with a cool-down of 100 steps."""
    kept: list[int] = []
    for step in steps:
        if not kept or step - kept[-1] >= COOL_DOWN:
            kept.append(step)
    return kept


def _sigma(values: np.ndarray, window: int, sigmas: float, least: int) -> list[int]:
    """Above mean + sigmas x std of the window before; a NaN in the window makes every comparison false, as in the original."""
    found = []
    past: deque[float] = deque(maxlen=window)
    total = squares = 0.0
    poisoned = 0
    for step, value in enumerate(values.tolist()):
        if len(past) >= least:
            if not math.isfinite(value):
                found.append(step)
            elif not poisoned:
                mean = total / len(past)
                std = math.sqrt(max(squares / len(past) - mean * mean, 0.0))
                if value > mean + sigmas * std:
                    found.append(step)
        if len(past) == window:
            old = past[0]
            if math.isfinite(old):
                total, squares = total - old, squares - old * old
            else:
                poisoned -= 1
        past.append(value)
        if math.isfinite(value):
            total, squares = total + value, squares + value * value
        else:
            poisoned += 1
    return found


def olmo(run: Run) -> list[int]:
    return sorted({*_sigma(run.total, 128, 6.0, 64), *_sigma(run.loss, 128, 6.0, 64)})


def olmo2(run: Run) -> list[int]:
    return sorted({*_sigma(run.total, 1000, 7.0, 128), *_sigma(run.loss, 1000, 7.0, 128)})


def zclip(run: Run) -> list[int]:
    """EMA mean and variance (0.97), z > 2.5 after 25 steps; the tracker is fed the clipped value."""
    found = []
    mean = var = math.nan
    first: list[float] = []
    for step, value in enumerate(run.total.tolist()):
        if step < 25:
            first.append(value)
            if step == 24:
                mean, var = float(np.mean(first)), float(np.var(first))
            continue
        std = math.sqrt(var) if var == var else math.nan
        z = (value - mean) / (std + 1e-6)
        if z > 2.5:
            found.append(step)
            value = mean + 2.5 * std / (z / 2.5)
        mean = 0.97 * mean + 0.03 * value
        var = 0.97 * var + 0.03 * (value - mean) ** 2
    return found


def llm_foundry(run: Run) -> list[int]:
    """Loss at least twice the mean of the window, more than 4 times in a row."""
    window = max(100, run.steps // 20)
    past: deque[float] = deque(maxlen=window)
    found, in_row = [], 0
    for step, value in enumerate(run.loss.tolist()):
        if len(past) == window:
            in_row = in_row + 1 if value >= 2.0 * float(np.mean(past)) else 0
            if in_row > 4:
                found.append(step)
        past.append(value)
    return found


def megatron(run: Run) -> list[int]:
    """Loss or norm ten times the largest of the first hundred; NaN is checked apart."""
    found = []
    for values in (run.loss, run.total):
        largest = float(np.nanmax(values[:100]))
        bad = ~np.isfinite(values) | (values >= 10.0 * largest)
        bad[:100] = ~np.isfinite(values[:100])
        found += np.flatnonzero(bad).tolist()
    return sorted(set(found))


def sagemaker(run: Run) -> list[int]:
    """Any NaN or Inf; a mean absolute gradient below 1e-7; update ratio above 10 or below 1e-8."""
    found = np.flatnonzero(~np.isfinite(run.total)).tolist()
    numel = np.array([t.numel for t in run.tensors], dtype=np.float64)
    mean_abs = run.data["grad_norm"] / np.sqrt(numel) * math.sqrt(2 / math.pi)
    known = np.isfinite(mean_abs)
    found += np.flatnonzero(((mean_abs < 1e-7) & known).any(axis=1)).tolist()
    if "tensor/update_ratio" in run.data:
        ratio = run.data["tensor/update_ratio"]
        bad = ((ratio > 10) | (ratio < 1e-8)).any(axis=1)
        found += run.data["at/update_ratio"][bad].tolist()
    return sorted(set(found))


def autotrainer(run: Run) -> list[int]:
    """First over last layer below 1e-3 with a tiny first, or above 70; 70 % of gradient entries zero."""
    weights = [n for n, t in enumerate(run.tensors) if len(t.shape) >= 2]
    first, last = run.data["grad_norm"][:, weights[0]], run.data["grad_norm"][:, weights[-1]]
    with np.errstate(all="ignore"):
        ratio = first / last
    found = np.flatnonzero(
        ((ratio < 1e-3) & (first < 1e-4)) | (ratio > 70) | ~np.isfinite(run.total)
    ).tolist()
    if "tensor/zero_fraction" in run.data:
        share = run.data["tensor/zero_fraction"][:, weights]
        found += run.data["at/zero_fraction"][(share >= 0.7).any(axis=1)].tolist()
    return sorted(set(found))


def fixed(run: Run) -> list[int]:
    """A norm above 100, or below 1e-7 but not zero."""
    total = run.total
    return np.flatnonzero((total > 100) | ((total > 0) & (total < 1e-7)) | ~np.isfinite(total)).tolist()


RULES: dict[str, Rule] = {
    "OLMo 6 sigma / 128": olmo,
    "OLMo 2 7 sigma / 1000": olmo2,
    "ZClip z > 2.5": zclip,
    "llm-foundry 2 x mean x 5": llm_foundry,
    "Megatron 10 x max(100)": megatron,
    "SageMaker-like": sagemaker,
    "AutoTrainer-like": autotrainer,
    "fixed 1e-7..100": fixed,
}
