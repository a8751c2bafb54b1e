"""A Transformer for language, and a training step as people write it: autocast to bfloat16, clipping, fused AdamW."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """``width`` of the residual stream, ``depth`` in blocks; batches of ``batch`` times ``length`` tokens."""

    width: int
    depth: int
    heads: int
    vocabulary: int
    batch: int
    length: int


LARGE = Size(width=768, depth=12, heads=12, vocabulary=16_384, batch=8, length=512)
"""About 110 million parameters in 150 tensors."""

SMALL = Size(width=64, depth=2, heads=4, vocabulary=256, batch=2, length=32)


class Transformer(nn.Module):
    """Pre-norm encoder blocks under a causal mask, an embedding and a head of its own."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(size.vocabulary, size.width)
        layer = nn.TransformerEncoderLayer(
            size.width,
            size.heads,
            4 * size.width,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
            activation="gelu",
        )
        self.blocks = nn.TransformerEncoder(layer, size.depth, enable_nested_tensor=False)
        self.head = nn.Linear(size.width, size.vocabulary)
        mask = nn.Transformer.generate_square_subsequent_mask(size.length)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.embed(tokens), mask=self.mask, is_causal=True))
        return out


def trainer(
    size: Size, device: torch.device, *, backend: str = ""
) -> tuple[Transformer, Callable[[], Tensor]]:
    """The model, and a function that trains it for a step and gives the loss. ``backend`` compiles forward and loss."""
    model = Transformer(size).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, size.vocabulary, (size.batch, size.length + 1), generator=random).to(device)

    def loss_of(tokens: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(tokens[:, :-1])
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    run: Any = torch.compile(loss_of, backend=backend) if backend else loss_of

    def step() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = run(tokens)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return model, step
