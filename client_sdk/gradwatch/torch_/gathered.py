"""Samples of many tensors at once, copied in the training thread at the least cost.

Of a tensor of more than 1,024 elements are taken 256 runs of four neighbours, evenly apart; of a smaller one all. After a
backward the caches are cold, and each place that is touched costs a line of 64 bytes from memory: runs touch a quarter of what
as many single elements would, and on real gradients the estimates were no worse (runs of 16: twice as far off, for rows of a
gradient have their unit's scale in common).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .catalog import local_part
from .measured import Columns, Floats
from .norms import PLAIN, flatten
from .scalars import HostCopy

__all__ = ["ELEMENTS", "Gathered", "gather"]

ELEMENTS: Final = 1024
"""At most so many of a tensor."""

_RUN: Final = 4

_Found: TypeAlias = "tuple[list[int], list[int], list[Tensor]]"
"""Columns, how many elements are taken of each, and the tensors."""


@dataclass(eq=False, slots=True)
class Gathered:
    """Elements of some tensors, one after the other. ``sizes[i]`` of them belong to ``columns[i]``."""

    columns: Columns
    sizes: Columns
    copy: HostCopy

    def ready(self) -> bool:
        """Whether :meth:`values` would return at once."""
        return self.copy.ready()

    def values(self) -> Floats:
        """All elements in float64."""
        return self.copy.numpy().reshape(-1)

    def per_column(self) -> dict[int, Floats]:
        """The elements of each column."""
        pieces = np.split(self.values(), np.cumsum(self.sizes)[:-1])
        return dict(zip(self.columns.tolist(), pieces, strict=True))


def gather(columns: Columns, tensors: Sequence[Tensor | None]) -> list[Gathered]:
    """Samples of the tensors that are there, dense and real. Copied together: those taken whole and the others of each device.

    Of tensors of one shape always the same elements, whatever their strides.
    """
    whole: dict[torch.device | None, _Found] = {}
    parts: dict[torch.device | None, _Found] = {}
    with torch.no_grad():
        for column, tensor in zip(columns.tolist(), tensors, strict=True):
            if tensor is None or tensor.layout is not torch.strided or tensor.is_complex():
                continue
            part = tensor if type(tensor) in PLAIN else local_part(tensor.detach())
            size = part.numel()
            if not size:
                continue
            device = None if part.is_cpu else part.device
            into = whole if size <= ELEMENTS else parts
            at, sizes, found = into.get(device) or into.setdefault(device, ([], [], []))
            at.append(column)
            if size > ELEMENTS:
                size = ELEMENTS
                part = torch.as_strided(part.contiguous(), *_runs(part.numel(), part.shape[-1]))
            sizes.append(size)
            found.append(part)
        return [_copied(found, _joined) for found in whole.values()] + [
            _copied(found, torch.cat) for found in parts.values()
        ]


def _copied(found: _Found, join: Callable[[list[Tensor]], Tensor]) -> Gathered:
    columns, sizes, tensors = found
    return Gathered(np.array(columns, np.intp), np.array(sizes, np.intp), HostCopy(join(tensors).float()))


def _joined(tensors: list[Tensor]) -> Tensor:
    """All in one; of a single tensor ``flatten`` would make a view, which changes with it."""
    return flatten(tensors) if len(tensors) > 1 else tensors[0].clone()


@functools.lru_cache(1024)
def _runs(size: int, last: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shape and strides of the runs in a tensor of ``size`` elements. Their distance shares no factor with the last dimension, so
    that they do not all come from a few columns of a matrix."""
    runs = ELEMENTS // _RUN
    apart = (size - _RUN) // (runs - 1)
    while apart > _RUN and math.gcd(apart, last) > 1:
        apart -= 1
    return (runs, _RUN), (apart, 1)
