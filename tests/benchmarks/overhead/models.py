"""The models whose training is watched, and an optimizer that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import nn

__all__ = ["MODELS", "SLOW", "Make", "Still", "loss_of"]

Make: TypeAlias = "Callable[[], tuple[nn.Module, torch.Tensor]]"


class Deep(nn.Module):
    """200 blocks of four small tensors each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 128)) for _ in range(200)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + 0.1 * torch.tanh(block(x))
        return x


class Gpt(nn.Module):
    """A small Transformer of 10 million parameters on token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 384)
        layer = nn.TransformerEncoderLayer(384, 6, 1536, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(384, 500)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layers(self.embed(ids)))
        return out


def mlp() -> tuple[nn.Module, torch.Tensor]:
    """40 tensors."""
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers), torch.randn(64, 256)


def deep() -> tuple[nn.Module, torch.Tensor]:
    """800 tensors."""
    return Deep(), torch.randn(32, 128)


def gpt() -> tuple[nn.Module, torch.Tensor]:
    """76 tensors, 11 million parameters. With so few tokens a step takes only a hundred times as long as reading its gradients
    once from memory."""
    return Gpt(), torch.randint(0, 500, (4, 64))


def gpt768() -> tuple[nn.Module, torch.Tensor]:
    """The same with 12 sequences of 64 tokens: the batch that nanoGPT's README takes on a CPU, there for a model of a tenth the size."""
    return Gpt(), torch.randint(0, 500, (12, 64))


def gpt16k() -> tuple[nn.Module, torch.Tensor]:
    """The same with 64 sequences of 256 tokens, as nanoGPT trains its model of 10 million parameters
    (``config/train_shakespeare_char.py``). A step takes many seconds on a CPU."""
    return Gpt(), torch.randint(0, 500, (64, 256))


MODELS: dict[str, Make] = {"mlp": mlp, "deep": deep, "gpt": gpt, "gpt768": gpt768, "gpt16k": gpt16k}

SLOW: Final = frozenset({"gpt16k"})
"""Those of which few steps are taken."""


def loss_of(model: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A loss whose gradients stay of ordinary size for thousands of steps: the distance from random numbers. One that a
    model can bring to nothing ends in gradients below 1e-14, which are looked at twice."""
    with torch.no_grad():
        target = torch.randn_like(model(x).float())
    return lambda: (model(x).float() - target).pow(2).mean()


class Still(torch.optim.Optimizer):
    """Steps without doing anything: its hooks are called by hand, as torch would, and timed."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(list(parameters), {"lr": 0.1})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing."""
