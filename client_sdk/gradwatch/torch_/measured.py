"""Norms that were measured at one moment: what the training thread hands on, put together in the sender thread."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .scalars import HostCopy, Later, Now

__all__ = ["Columns", "Floats", "Norms"]

Floats: TypeAlias = npt.NDArray[np.float64]
Columns: TypeAlias = npt.NDArray[np.intp]


@dataclass(eq=False, slots=True)
class _Pieces:
    """What was not simply measured all in one go."""

    squares: list[tuple[Columns, list[float]]] = field(default_factory=list)
    exact: dict[int, tuple[float, float, int]] = field(default_factory=dict)
    device: list[tuple[Columns, HostCopy]] = field(default_factory=list)
    scales: list[Later | Now] = field(default_factory=list)


_NOTHING: Final = _Pieces()


class Norms:
    """Norms of some columns, measured at one moment; those on a device may still be on their way.

    Made at every step, so it is as small as it can be until there is more to say than one list.

    Args:
        columns: which columns, ``[m]``.
        whole: the norms of all of them, ``[m]``, if they were measured in one go.
        squared: ``whole`` are sums of squares; the root is taken later, off the training thread.
    """

    __slots__ = ("_pieces", "_squared", "_whole", "columns")

    def __init__(self, columns: Columns, whole: list[float] | None = None, *, squared: bool = False) -> None:
        self.columns = columns
        self._whole = whole
        self._squared = squared
        self._pieces: _Pieces | None = None

    def set_squares(self, positions: Columns, squares: list[float]) -> None:
        """Sums of squares of ``positions``; the root is taken later, off the training thread."""
        self._more().squares.append((positions, squares))

    def set_exact(self, at: int, norm: float, maxabs: float, bad: int) -> None:
        """The result of a second look at position ``at``."""
        self._more().exact[at] = (norm, maxabs, bad)

    def set_device(self, positions: Columns, rows: HostCopy) -> None:
        """Norm and max-abs ``[2, k]`` of ``positions``, on their way."""
        self._more().device.append((positions, rows))

    def unscale(self, scale: Later | Now) -> None:
        """Divides all norms by ``scale``: they were taken from gradients of a scaled loss."""
        self._more().scales.append(scale)

    def ready(self) -> bool:
        """Whether :meth:`values` would return at once."""
        pieces = self._pieces
        if pieces is None:
            return True
        return all(rows.ready() for _, rows in pieces.device) and all(
            scale.ready() for scale in pieces.scales
        )

    def values(self) -> tuple[Floats, Floats, Floats]:
        """L2 norm, max-abs, and count of non-finite elements, each ``[m]``. Waits for the device.

        Max-abs and count are NaN where they were not looked at; max-abs is also NaN where an element is NaN.
        """
        pieces = self._pieces or _NOTHING
        norms = np.zeros(len(self.columns)) if self._whole is None else np.array(self._whole, np.float64)
        if self._squared:
            norms = np.sqrt(norms)
        for at, values in pieces.squares:
            norms[at] = np.sqrt(values)
        maxabs = np.full(len(norms), np.nan)
        bad = np.full(len(norms), np.nan)
        for positions, copy in pieces.device:
            norms[positions], maxabs[positions] = copy.numpy()
        for k, (norm, largest, count) in pieces.exact.items():
            norms[k] = norm
            if not math.isfinite(norm):
                maxabs[k], bad[k] = largest, count
        for scale in pieces.scales:
            with np.errstate(all="ignore"):
                norms /= scale()
                maxabs /= scale()
        return norms, maxabs, bad

    def _more(self) -> _Pieces:
        if self._pieces is None:
            self._pieces = _Pieces()
        return self._pieces
