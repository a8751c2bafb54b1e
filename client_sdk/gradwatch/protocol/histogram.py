"""The log2 histogram of a tensor's values: what its cells mean, and how values are counted. Pure numpy.

A statistic of scope ``histogram`` has :data:`CELLS` columns for each tensor of its schema, side by side: tensor *i* has the
columns ``CELLS * i`` to ``CELLS * (i + 1)``. Each says how many of the tensor's values (a sample, for large tensors)

====================  =========================================================================================
cell                  lie in
====================  =========================================================================================
0                     exactly zero
1                     ``0 < |x| < 2^-38``
2 + k, k = 0 .. 43    ``2^(k - 38) <= |x| < 2^(k - 37)``
46                    ``2^6 <= |x| < inf``
47                    NaN and infinite
====================  =========================================================================================
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "ABOVE",
    "BELOW",
    "CELLS",
    "LABELS",
    "LOWEST_EXPONENT",
    "NOT_FINITE",
    "OCTAVES",
    "PER_TENSOR",
    "ZERO",
    "columns_of",
    "count",
    "wide",
]

OCTAVES: Final = 44
"""Powers of two that have a cell of their own."""

LOWEST_EXPONENT: Final = -38
"""The lowest of them; the highest ends at ``2^6``. Beyond lie what no optimizer notices, and what is an explosion."""

CELLS: Final = OCTAVES + 4
ZERO, BELOW, ABOVE, NOT_FINITE = 0, 1, CELLS - 2, CELLS - 1

LABELS: Final = (
    "zero",
    "below",
    *(f"2^{LOWEST_EXPONENT + k}" for k in range(OCTAVES)),
    "above",
    "not finite",
)
"""What the cells are called in tables."""

PER_TENSOR: Final = {"tensor": 1, "histogram": CELLS}
"""Scopes whose columns belong to tensors, and how many columns each tensor has."""


_CELL_OF: Final = np.clip(np.arange(2048) - 1023 - LOWEST_EXPONENT + BELOW + 1, BELOW, ABOVE)
"""The cell of a float64 that is not zero, by the 11 bits of its exponent: 1023 stands for ``1 <= |x| < 2``."""
_CELL_OF[0x7FF] = NOT_FINITE


def wide(scope: str, tensors: int, width: int) -> int:
    """How many columns a statistic has over so many tensors; ``width`` if its columns are not those of tensors."""
    return PER_TENSOR[scope] * tensors if scope in PER_TENSOR else width


def columns_of(scope: str, tensors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The columns of tensors, int ``[n]``, in a statistic of a scope in :data:`PER_TENSOR`: int ``[n * columns each]``."""
    each = PER_TENSOR[scope]
    if each == 1:
        return tensors
    columns: npt.NDArray[Any] = tensors[:, None] * each + np.arange(each, dtype=tensors.dtype)
    return columns.reshape(-1)


def count(values: npt.NDArray[np.float64], sizes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How many values are in each cell, float64 ``[n, CELLS]``, exact: the first ``sizes[0]`` of ``values`` are those of the
    first tensor, and so on."""
    exponents = (np.ascontiguousarray(values, np.float64).view(np.int64) >> 52) & 0x7FF
    cells = _CELL_OF[exponents]
    cells[values == 0] = ZERO
    cells += np.repeat(np.arange(len(sizes)) * CELLS, sizes)
    counts = np.bincount(cells, minlength=len(sizes) * CELLS)
    return counts.astype(np.float64).reshape(-1, CELLS)
