"""Models that ``torch.func.vmap`` can stack: attention and recurrence by hand, batch norm without running statistics."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class BnCnn(nn.Module):
    def __init__(self, width: int = 8, norm: bool = True) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, width, 3, padding=1, stride=2)
        self.c2 = nn.Conv2d(width, 2 * width, 3, padding=1, stride=2)
        self.b1 = nn.BatchNorm2d(width, track_running_stats=False) if norm else nn.Identity()
        self.b2 = nn.BatchNorm2d(2 * width, track_running_stats=False) if norm else nn.Identity()
        self.head = nn.Linear(2 * width * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.b1(self.c1(x.view(-1, 1, 8, 8))))
        x = F.relu(self.b2(self.c2(x)))
        return self.head(x.flatten(1))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.n1(x)).chunk(3, -1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        ahead = torch.ones(x.shape[-2], x.shape[-2]).triu(1).bool()
        x = x + self.out(scores.masked_fill(ahead, -1e9).softmax(-1) @ v)
        return x + self.down(F.gelu(self.up(self.n2(x))))


class Attention(nn.Module):
    """A small pre-norm Transformer with one head."""

    def __init__(self, vocab: int, width: int, depth: int = 2, context: int = 16) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.tok(x) + self.pos
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Cell(nn.Module):
    """A recurrent language model, unrolled by hand: plain tanh or gated."""

    def __init__(self, vocab: int, width: int, kind: str = "rnn") -> None:
        super().__init__()
        self.tok, self.kind = nn.Embedding(vocab, 16), kind
        gates = 3 if kind == "gru" else 1
        self.weight_ih, self.weight_hh = nn.Linear(16, gates * width), nn.Linear(width, gates * width)
        self.head = nn.Linear(width, vocab)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = self.weight_ih(self.tok(x))
        h = torch.zeros(x.shape[0], self.head.in_features)
        out = []
        for t in range(x.shape[-1]):
            a, b = given[:, t], self.weight_hh(h)
            if self.kind == "rnn":
                h = torch.tanh(a + b)
            else:
                (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
                z = torch.sigmoid(az + bz)
                h = z * h + (1 - z) * torch.tanh(an + torch.sigmoid(ar + br) * bn)
            out.append(self.head(h))
        return torch.stack(out, -2)


class Vae(nn.Module):
    """Input: a digit and the noise of its code. Output: the image's logits, mean and log variance of the code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.e1, self.e2 = nn.Linear(64, width), nn.Linear(width, 16)
        self.d1, self.d2 = nn.Linear(8, width), nn.Linear(width, 64)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        x, noise = given[:, :64], given[:, 64:]
        mean, logvar = self.e2(F.relu(self.e1(x))).chunk(2, -1)
        logvar = logvar.clamp(-8, 8)
        image = self.d2(F.relu(self.d1(mean + noise * (0.5 * logvar).exp())))
        return torch.cat([image, mean, logvar], -1)
