"""What comes with one step, before anything is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "RankSample", "Row", "true_norms"]

Row: TypeAlias = npt.NDArray[np.float64]


@dataclass(slots=True)
class Frame:
    """All that came with one step: rows over the tensors (absent = NaN) and run-level numbers."""

    step: int
    time: float
    rows: dict[str, Row] = field(default_factory=dict)
    run: dict[str, Row] = field(default_factory=dict)
    present: npt.NDArray[np.bool_] | None = None
    weighed: npt.NDArray[np.bool_] | None = None
    """Which weight norms came, None when all did: with several optimizers only those of the one that stepped."""

    def number(self, name: str) -> float:
        """A run-level statistic (its largest column), NaN when it did not come."""
        values = self.run.get(name)
        if values is None:
            return math.nan
        return float(values.item() if values.size == 1 else values.max())


@dataclass(frozen=True, slots=True)
class RankSample:
    """What the ranks say side by side at one step: ``values`` and ``present`` are as wide as the statistic."""

    step: int
    name: str
    values: Row
    present: npt.NDArray[np.bool_]


def true_norms(frame: Frame, norms: Row) -> Row:
    """A norm that overflowed to Inf although every entry is finite is huge, not broken: the largest entry tells."""
    largest = frame.rows.get("grad_maxabs")
    if largest is None:
        return norms
    return np.where(np.isinf(norms) & np.isfinite(largest), largest, norms)
