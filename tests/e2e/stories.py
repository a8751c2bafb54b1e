"""Seeded runs for looking at the pages: healthy and sick, short and long, small and very wide. Numbers are drawn, not trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwatch.protocol import Tensor, histogram

from .wire import Series, Story

PARTS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "ln1", "ln2")


def gpt(blocks: int) -> list[Tensor]:
    """The tensors of a Transformer with ``blocks`` blocks: 12 each, and three more."""
    names = ["embed.weight"]
    for block in range(blocks):
        names += [f"blocks.{block}.{part}.{leaf}" for part in PARTS for leaf in ("weight", "bias")]
    names += ["ln.weight", "ln.bias"]
    return [
        Tensor(
            name=name,
            shape=(64, 64) if name.endswith("weight") else (64,),
            numel=4096 if name.endswith("weight") else 64,
            depth=depth,
            module=name.rpartition(".")[0],
            kind="bias" if name.endswith("bias") else "weight",
            fan_in=64 if name.endswith("weight") else None,
            init_std=0.12,
            optimizer=0,
            group=0,
        )
        for depth, name in enumerate(names)
    ]


def _norms(tensors: int, steps: int, seed: int) -> npt.NDArray[np.float64]:
    """Log-normal norms that decay slowly, each layer on its own level, all breathing together a little."""
    random = np.random.default_rng(seed)
    level = 0.02 * np.exp(0.7 * random.standard_normal(tensors))
    trend = 0.4 + 0.6 * np.exp(-np.arange(steps) / (steps / 3 + 1))
    together = np.exp(0.15 * random.standard_normal(steps))
    return (trend * together)[:, None] * level * np.exp(0.12 * random.standard_normal((steps, tensors)))


def _loss(steps: int, seed: int) -> npt.NDArray[np.float64]:
    random = np.random.default_rng(seed + 1)
    curve = 0.9 + 2.6 * np.exp(-np.arange(steps) / (steps / 5 + 1))
    return curve * np.exp(0.03 * random.standard_normal(steps))


def _story(
    name: str,
    tensors: list[Tensor],
    norms: npt.NDArray[np.float64],
    loss: npt.NDArray[np.float64],
    more: dict[str, npt.NDArray[np.float64]] | None = None,
    **about: Any,
) -> Story:
    steps = len(norms)
    whole = np.sqrt(np.square(norms).sum(axis=1))
    rate = (
        3e-4
        * np.minimum(1.0, np.arange(steps) / 200)
        * (0.55 + 0.45 * np.cos(np.arange(steps) * math.pi / steps))
    )
    at = np.arange(0, steps, max(1, steps // 40), dtype=np.float64)
    series = [
        Series("grad_norm", norms, "tensor"),
        Series("global_grad_norm", whole[:, None]),
        Series("loss", loss[:, None], logged=True),
        Series("lr", rate[:, None]),
        Series("val/loss", 1.06 * loss[at.astype(int)][:, None], steps=at, logged=True),
        *(Series(key, column[:, None]) for key, column in (more or {}).items()),
    ]
    return Story(
        name,
        tensors,
        series,
        steps,
        optimizers=({"class": "AdamW", "lr": 3e-4, "betas": (0.9, 0.999), "weight_decay": 0.01},),
        context={
            "config": {"model": {"blocks": len(tensors) // 12, "width": 64}, "batch_size": 32, "lr": 3e-4},
            "git": {"commit": "4f2c19ab7d00", "branch": "main", "dirty": True},
            "argv": ["train.py", "--lr", "3e-4"],
            "host": "trainer-1",
            "who": "ann",
        },
        **{"project": "gallery", **about},
    )


def healthy(name: str = "healthy", blocks: int = 6, steps: int = 6_000, seed: int = 1) -> Story:
    """Nothing to see."""
    tensors = gpt(blocks)
    marks = [(steps // 4, "checkpoint", {"path": "model-1.pt"}), (steps // 2, "note", {"text": "halfway"})]
    return _story(name, tensors, _norms(len(tensors), steps, seed), _loss(steps, seed), marks=marks)


def exploding(name: str = "exploding", blocks: int = 6, steps: int = 3_000, at: int = 2_400) -> Story:
    """One layer's norm grows a few percent each step, its neighbours follow."""
    tensors = gpt(blocks)
    norms, loss = _norms(len(tensors), steps, 2), _loss(steps, 2)
    first = 12 * (blocks // 2) + 7
    for i in range(len(tensors)):
        begins = at + 3 * abs(i - first)
        growth = np.exp(np.minimum(0.12 * np.maximum(0, np.arange(steps) - begins), 16.0))
        norms[:, i] *= growth if abs(i - first) < 14 else np.sqrt(growth)
    loss[at + 20 :] *= np.exp(np.minimum(0.05 * np.arange(steps - at - 20), 5.0))
    return _story(name, tensors, norms, loss)


def not_a_number(name: str = "not a number", blocks: int = 6, steps: int = 1_500, at: int = 1_200) -> Story:
    """A NaN in one layer, in all of them a step later."""
    tensors = gpt(blocks)
    norms, loss = _norms(len(tensors), steps, 3), _loss(steps, 3)
    norms[at:, 12 * 2 + 5] = np.nan
    norms[at + 1 :] = np.nan
    loss[at + 1 :] = np.nan
    return _story(
        name, tensors, norms, loss, end="failed", error={"type": "ValueError", "message": "loss is NaN"}
    )


def vanishing(name: str = "vanishing", blocks: int = 6, steps: int = 2_000) -> Story:
    """Gradients fade towards the input, more each hundred steps."""
    tensors = gpt(blocks)
    norms = _norms(len(tensors), steps, 4)
    depth = np.arange(len(tensors))[::-1] / len(tensors)
    fade = np.clip((np.arange(steps) - 900) / 400, 0, 1)
    norms *= 10.0 ** (-8 * fade[:, None] * depth)
    return _story(name, tensors, norms, _loss(steps, 4) * 0 + 2.3)


def clipped(name: str = "clipped and scaled", blocks: int = 4, steps: int = 4_000) -> Story:
    """Clipping, a loss scale that doubles and halves, steps that the scaler skipped, and a layer without any gradient."""
    tensors = gpt(blocks)
    norms = _norms(len(tensors), steps, 5)
    norms[:, 3] = 0.0
    scale = np.full(steps, 65536.0)
    skipped = np.zeros(steps)
    for at in range(700, steps, 700):
        scale[at:] /= 2
        skipped[at] = 1
        norms[at] = np.inf
    whole = np.sqrt(np.square(norms).sum(axis=1))
    limit = 0.35
    coef = np.minimum(1.0, limit / (whole + 1e-6))
    more = {
        "clip_coef": coef,
        "clip_limit": np.full(steps, limit),
        "global_grad_norm_clipped": np.minimum(whole, limit),
        "loss_scale": scale,
        "skipped": skipped,
    }
    story = _story(name, tensors, norms, _loss(steps, 5), more)
    return replace(story, series=[*story.series, *_sampled(len(tensors), steps), _histograms(norms, scale)])


def _sampled(tensors: int, steps: int, every: int = 20) -> tuple[Series, Series]:
    """Updates over weights, and shares of zeros, of every so many steps: the second layer hardly moves, the third is half dead."""
    random = np.random.default_rng(8)
    at = np.arange(0, steps, every, dtype=np.float64)
    ratio = 1e-3 * np.exp(0.4 * random.standard_normal((len(at), tensors)))
    zeros = 0.02 * random.random((len(at), tensors))
    ratio[:, 1] *= 1e-2
    zeros[:, 2] = 0.5
    return Series("update_ratio", ratio, "tensor", at), Series("zero_fraction", zeros, "tensor", at)


def _histograms(norms: npt.NDArray[np.float64], scale: npt.NDArray[np.float64], every: int = 50) -> Series:
    """Of normal gradients with these norms over 4,096 elements, of which what float16 can't hold has become zero."""
    random = np.random.default_rng(9)
    at = np.arange(0, len(norms), every)
    drawn = random.standard_normal((len(at), norms.shape[1], 1024))
    values = drawn * np.where(np.isfinite(norms[at]), norms[at], 1.0)[:, :, None] / 64
    values[np.abs(values) * scale[at][:, None, None] < 2.0**-25] = 0.0
    sizes = np.full(norms.shape[1], 1024)
    cells = np.array([histogram.count(row.reshape(-1), sizes).reshape(-1) for row in values])
    return Series("grad_histogram", cells, "histogram", at.astype(np.float64))


def wide(name: str, tensors: int, steps: int) -> Story:
    """Very many tensors."""
    names = gpt(tensors // 12 + 1)[:tensors]
    return _story(name, names, _norms(tensors, steps, 6), _loss(steps, 6), project="wide")


def short(name: str = "just begun") -> Story:
    """Too few steps to know what is normal."""
    return replace(healthy(name, 2, 34), marks=())


ALL: tuple[Callable[[], Story], ...] = (
    healthy,
    exploding,
    not_a_number,
    vanishing,
    clipped,
    lambda: wide("one thousand", 1_000, 2_000),
    lambda: wide("five thousand", 5_000, 600),
    short,
)
