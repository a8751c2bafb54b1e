"""Small real trainings on data that comes with the packages: digits, diabetes, and the text of the standard library."""

from __future__ import annotations

import argparse
import inspect
import math
import tarfile
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from torch import nn


@lru_cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16.0, dtype=torch.float32), torch.tensor(y)


@lru_cache
def cancer() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


@lru_cache
def diabetes() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_diabetes(return_X_y=True)
    return torch.tensor(x / x.std(0), dtype=torch.float32), torch.tensor(
        y[:, None] / 10.0, dtype=torch.float32
    )


@lru_cache
def wine() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_wine(return_X_y=True)
    return torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32), torch.tensor(y)


SOURCES = (argparse, typing, inspect, tarfile)
"""Modules of the standard library whose text is the language to learn."""


@lru_cache
def text(seed: int = 0) -> torch.Tensor:
    source = inspect.getsource(SOURCES[seed % len(SOURCES)])
    codes = np.frombuffer(source.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64)
    kept = np.unique(codes)
    return torch.tensor(np.searchsorted(kept, codes))


class Mlp(nn.Module):
    def __init__(
        self,
        sizes: list[int],
        act: Callable[[], nn.Module] = nn.ReLU,
        init: str = "he",
        norm: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(b) for b in sizes[1:-1]) if norm else None
        self.act, self.drop = act(), nn.Dropout(drop)
        for layer in self.layers[:-1]:
            if init == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            elif init == "xavier":
                nn.init.xavier_normal_(layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if self.norms is not None:
                x = self.norms[n](x)
            x = self.drop(self.act(x))
        return self.layers[-1](x)


class Res(nn.Module):
    def __init__(self, width: int, depth: int, inputs: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Cnn(nn.Module):
    def __init__(self, width: int = 8, norm: bool = True) -> None:
        super().__init__()
        self.c1, self.c2 = (
            nn.Conv2d(1, width, 3, padding=1),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
        )
        self.b1 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.b2 = nn.BatchNorm2d(2 * width) if norm else nn.Identity()
        self.head = nn.Linear(2 * width * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 1, 8, 8)
        x = F.relu(self.b1(self.c1(x)))
        x = F.relu(self.b2(self.c2(x)))
        return self.head(x.flatten(1))


class Gpt(nn.Module):
    def __init__(self, vocab: int, width: int = 32, depth: int = 2, context: int = 16) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)
        self.mask = torch.triu(torch.full((context, context), -math.inf), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tok(x) + self.pos.weight
        for block in self.blocks:
            x = block(x, src_mask=self.mask)
        return self.head(self.norm(x)).flatten(0, 1)


class Rnn(nn.Module):
    def __init__(self, vocab: int, width: int = 32, kind: str = "lstm") -> None:
        super().__init__()
        self.tok = nn.Embedding(vocab, 16)
        cell = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
        self.rnn = cell(16, width, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.tok(x))[0]).flatten(0, 1)


class Moe(nn.Module):
    """Hard top-1 routing over 4 experts: idle ones get exactly zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 32)
        self.gate = nn.Linear(32, 4)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.stem(x))
        p = self.gate(h).softmax(-1)
        best = p.argmax(-1)
        out = torch.zeros_like(h)
        for n, expert in enumerate(self.experts):
            out = out + (best == n).float()[:, None] * p[:, n : n + 1] * expert(h)
        return self.head(F.relu(h + out))


class Lora(nn.Module):
    """A frozen base with adapters whose B starts at zero: A's gradient is exactly zero at the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Mlp([64, 64, 64, 10])
        self.a = nn.ParameterList(nn.Parameter(torch.randn(4, 64) / 8) for _ in range(2))
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(64, 4)) for _ in range(2))
        for p in self.base.parameters():
            p.requires_grad_(False)
        self.base.layers[-1].requires_grad_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n in range(2):
            x = F.relu(self.base.layers[n](x) + x @ self.a[n].T @ self.b[n].T)
        return self.base.layers[-1](x)


Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Workload:
    """How to make a model, an optimizer, a batch, and a loss; ``lr_at`` gives the LR factor of a step."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: Callable[[torch.Generator, int], Batch]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy
    lr_at: Callable[[int, int], float] = lambda step, steps: 1.0
    clip: float | None = None
    marks: tuple[tuple[int, str], ...] = ()
    extra: dict[str, object] = field(default_factory=dict)


def _table(
    source: Callable[[], Batch], size: int, noise: float = 0.0
) -> Callable[[torch.Generator, int], Batch]:
    def batch(gen: torch.Generator, step: int) -> Batch:
        x, y = source()
        pick = torch.randint(len(x), (size,), generator=gen)
        xb, yb = x[pick], y[pick]
        if noise:
            flip = torch.rand(size, generator=gen) < noise
            yb = torch.where(flip, torch.randint(10, (size,), generator=gen), yb)
        return xb, yb

    return batch


def _chars(size: int, context: int, seed: int = 0) -> Callable[[torch.Generator, int], Batch]:
    def batch(gen: torch.Generator, step: int) -> Batch:
        data = text(seed)
        at = torch.randint(len(data) - context - 1, (size,), generator=gen)
        pick = at[:, None] + torch.arange(context + 1)
        return data[pick[:, :-1]], data[pick[:, 1:]].flatten()

    return batch


def cosine(step: int, steps: int) -> float:
    warm = max(steps // 20, 1)
    return (
        (step + 1) / warm
        if step < warm
        else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))
    )


def cyclic(step: int, steps: int) -> float:
    return 0.1 + 0.9 * abs((step % 200) / 100 - 1)


def restarts(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * (step % 300) / 300)) + 1e-3


def decays(step: int, steps: int) -> float:
    return 0.1 ** (3 * step // steps)


def sgd(lr: float, momentum: float = 0.0, wd: float = 0.0) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda m: torch.optim.SGD(
        [p for p in m.parameters() if p.requires_grad], lr=lr, momentum=momentum, weight_decay=wd
    )


def adam(
    lr: float, wd: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda m: torch.optim.AdamW(
        [p for p in m.parameters() if p.requires_grad], lr=lr, weight_decay=wd, betas=betas
    )


def rmsprop(lr: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda m: torch.optim.RMSprop(m.parameters(), lr=lr)


@dataclass(frozen=True)
class Shape:
    """How a seed differs from the one that was tuned on (0): other sizes, depths, batches, rates and data."""

    seed: int = 0

    def width(self, base: int) -> int:
        return max(8 * round(base * (1.0, 1.5, 0.75, 2.0, 1.25, 0.5, 1.75, 1.0)[self.seed % 8] / 8), 8)

    def depth(self, base: int) -> int:
        return base + (0, 2, 1, 3, 4, 1, 0, 2)[self.seed % 8]

    def batch(self, base: int) -> int:
        return max(round(base * (1.0, 0.75, 1.5, 0.5, 1.25, 2.0, 0.75, 0.625)[self.seed % 8]), 1)

    def lr(self, base: float) -> float:
        return base * (1.0, 0.7, 1.4, 0.5, 0.8, 1.2, 0.6, 1.5)[self.seed % 8]


@lru_cache
def workloads(seed: int) -> dict[str, Workload]:
    """All workloads in the shape of a seed."""
    f = Shape(seed)
    w, b, lr, deep = f.width, f.batch, f.lr, f.depth(11)
    vocab = int(text(seed).max()) + 1
    mlp = [64, w(64), w(64), 10]
    table, inputs, classes = (cancer, 30, 2) if seed % 2 == 0 else (wine, 13, 3)
    pick = _table(digits, b(32))
    return {
        "mlp_sgd": Workload(lambda: Mlp(mlp), sgd(lr(0.05)), pick),
        "mlp_adam": Workload(lambda: Mlp(mlp), adam(lr(1e-3)), pick),
        "mlp_momentum_decay": Workload(
            lambda: Mlp([64, w(48), w(48), 10]), sgd(lr(0.05), 0.9, 1e-4), pick, lr_at=decays
        ),
        "res_ln_cosine": Workload(lambda: Res(w(32), f.depth(4)), adam(lr(2e-3), 0.05), pick, lr_at=cosine),
        "cnn_bn": Workload(lambda: Cnn(w(8)), sgd(lr(0.05), 0.9, 5e-4), pick),
        "cnn_plain_cyclic": Workload(lambda: Cnn(w(8), norm=False), sgd(lr(0.05)), pick, lr_at=cyclic),
        "gpt": Workload(
            lambda: Gpt(vocab, w(32)), adam(lr(2e-3), 0.01), _chars(b(8), 16, seed), lr_at=cosine, clip=1.0
        ),
        "gpt_const": Workload(lambda: Gpt(vocab, w(32), depth=3), adam(lr(1e-3)), _chars(b(8), 16, seed)),
        "lstm": Workload(lambda: Rnn(vocab, w(32)), adam(lr(3e-3)), _chars(b(8), 24, seed), clip=1.0),
        "gru_restarts": Workload(
            lambda: Rnn(vocab, w(32), kind="gru"), adam(lr(3e-3)), _chars(b(8), 32, seed), lr_at=restarts
        ),
        "batch_one": Workload(lambda: Mlp([64, w(32), w(32), 10]), sgd(lr(0.01)), _table(digits, 1)),
        "batch_four": Workload(lambda: Mlp([64, w(32), w(32), 10]), sgd(lr(0.02)), _table(digits, b(4))),
        "tanh_rmsprop": Workload(
            lambda: Mlp([64, w(48), w(48), 10], nn.Tanh, "xavier"), rmsprop(lr(1e-3)), pick
        ),
        "deep_he": Workload(lambda: Mlp([64] + [w(48)] * deep + [10]), adam(lr(5e-4)), pick),
        "deep_ln": Workload(lambda: Mlp([64] + [w(32)] * deep + [10], norm=True), adam(lr(1e-3)), pick),
        "label_noise": Workload(lambda: Mlp([64, w(64), 10]), adam(lr(1e-3)), _table(digits, b(32), 0.4)),
        "dropout": Workload(lambda: Mlp([64, w(96), w(96), 10], drop=0.5), adam(lr(1e-3)), pick),
        "regression": Workload(
            lambda: Mlp([10, w(32), w(32), 1]), adam(lr(1e-3)), _table(diabetes, b(32)), loss=F.mse_loss
        ),
        "cancer": Workload(lambda: Mlp([inputs, w(32), classes]), sgd(lr(0.1), 0.9), _table(table, b(16))),
        "autoencoder": Workload(
            lambda: Mlp([64, w(32), 8, w(32), 64], nn.Tanh, "xavier"),
            adam(lr(1e-3)),
            lambda g, s: (lambda x: (x, x))(pick(g, s)[0]),
            loss=F.mse_loss,
        ),
        "moe": Workload(Moe, adam(lr(1e-3)), pick),
        "lora": Workload(Lora, adam(lr(1e-3)), pick),
    }
