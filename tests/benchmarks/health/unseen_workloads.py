"""Models, data and workloads that no rule was made for: what :mod:`.unseen` trains."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sklearn.datasets import make_friedman1, make_moons
from torch import nn

from .herd_models import Attention
from .workloads import Mlp, Shape, Workload, _table, adam, cancer, cosine, digits, sgd, text, wine


def moons() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = make_moons(1000, noise=0.15, random_state=0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def friedman() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = make_friedman1(1000, noise=0.5, random_state=0)
    return torch.tensor(x - 0.5, dtype=torch.float32), torch.tensor(y[:, None] / 5.0, dtype=torch.float32)


class Vit(nn.Module):
    """A small vision Transformer over the 16 patches of a digit."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Linear(4, width)
        self.pos = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        x = self.patch(x) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Rows(nn.Module):
    """A recurrent net that reads a digit row by row."""

    def __init__(self, width: int, kind: str = "lstm") -> None:
        super().__init__()
        self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](8, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x.view(-1, 8, 8))[0][:, -1])


class Convs(nn.Module):
    """Five convolutions, with or without batch norm."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        sizes = [1, width, width, 2 * width, 2 * width, 2 * width]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, stride=2 if n == 2 else 1)
            for n, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for b in sizes[1:])
        self.head = nn.Linear(2 * width, 10)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 1, 8, 8)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.head(x.mean((2, 3)))


class Plain(nn.Module):
    """Residual blocks without norm and without scaling: the stream grows with depth."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for block in self.blocks:
            nn.init.normal_(block.weight, 0.0, 2.0 / math.sqrt(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + F.relu(block(x))
        return self.head(x)


def workloads_unseen(seed: int) -> dict[str, Workload]:
    f = Shape(seed)
    w, b, lr, d = f.width, f.batch, f.lr, f.depth
    vocab = int(text(seed).max()) + 1
    pick = _table(digits, b(32))

    def language(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(out.flatten(0, 1), y)

    def chars(gen: torch.Generator, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = text(seed + 1)
        at = torch.randint(len(data) - 17, (6,), generator=gen)
        found = data[at[:, None] + torch.arange(17)].clamp(max=vocab - 1)
        return found[:, :-1], found[:, 1:].flatten()

    return {
        "vit": Workload(lambda: Vit(w(32), d(2)), adam(lr(1e-3), 0.01), pick),
        "vit_sgd": Workload(lambda: Vit(w(32), d(2)), sgd(lr(0.05), 0.9), pick),
        "rows": Workload(lambda: Rows(w(32)), adam(lr(3e-3)), pick),
        "rows_rnn": Workload(lambda: Rows(w(32), "rnn"), sgd(lr(0.05)), pick),
        "convs": Workload(lambda: Convs(w(16), False), sgd(lr(0.02), 0.9), pick),
        "convs_bn": Workload(lambda: Convs(w(16), True), adam(lr(1e-3)), pick),
        "moons": Workload(lambda: Mlp([2, w(32), w(32), 2]), adam(lr(3e-3)), _table(moons, b(32))),
        "friedman": Workload(
            lambda: Mlp([10, w(32), w(32), 1]), sgd(lr(0.01), 0.9), _table(friedman, b(32)), loss=F.mse_loss
        ),
        "wine": Workload(lambda: Mlp([13, w(24), w(24), 3], nn.GELU), adam(lr(1e-3)), _table(wine, b(16))),
        "cancer": Workload(
            lambda: Mlp([30, w(24), 2], nn.Tanh, "xavier"), sgd(lr(0.1)), _table(cancer, b(24))
        ),
        "chars": Workload(
            lambda: Attention(vocab, w(24), d(2)), adam(lr(2e-3)), chars, loss=language, lr_at=cosine
        ),
    }
