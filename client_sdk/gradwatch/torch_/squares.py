"""Sums of squares of arrays in host memory, each read once, by BLAS where it is the quickest. Pure."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["TINY", "WHOLE", "Numbers", "by_rows", "exact", "sum_of_squares", "tiny_norm", "usual", "vdot"]

Numbers: TypeAlias = npt.NDArray[np.floating[Any]]

vdot: Final[Callable[[Any, Any], Any]] = getattr(np.vdot, "_implementation", np.vdot)
"""``numpy.vdot`` without the look for other array types, which takes a third of its time where arrays are small."""

_ROW: Final = 8192
"""BLAS libraries start threads for longer vectors (OpenBLAS above 10,000 elements), which would compete with torch's."""


def _longest_in_this_thread() -> int:
    """Elements of float32 that ``numpy.vdot`` takes without starting threads, and with an error of at most 1e-5.

    OpenBLAS on x86-64 has no threads for single precision (its ``kernel/x86_64/sdot.c``). Of 65,536 equal numbers the norm was
    off by 9e-6, of random ones by 1e-7; by ``torch._foreach_norm`` it is off by up to 2e-5.
    """
    try:
        blas: Any = np.show_config(mode="dicts")
        name = str(blas["Build Dependencies"]["blas"]["name"])
    except (KeyError, TypeError):
        return _ROW
    return 65_536 if "openblas" in name and platform.machine().lower() in ("x86_64", "amd64") else _ROW


WHOLE: Final = _longest_in_this_thread()
"""Up to so many elements of float32 ``numpy.vdot`` sums in one go."""

TINY: Final = 1e-28
"""A float32 sum of squares below this may have lost terms to underflow."""

_LIFT: Final = np.float32(2.0**100)
"""Times this, every float32 that is part of such a sum has a square in the middle of the range: none below 1e-30, and no sum
above 2e32. A power of two rounds nothing."""


def _products(left: Numbers, right: Numbers) -> Numbers:
    """As ``numpy.vecdot``, which numpy has since 2.0: of each row with its like, ``[n]``."""
    return np.asarray(np.matmul(left[:, None, :], right[:, :, None]).reshape(-1))


_rows_times_rows: Final[Callable[[Numbers, Numbers], Numbers]] = getattr(np, "vecdot", _products)


def usual(squares: list[float]) -> bool:
    """Whether none of them needs a second look: all are finite, and none has lost anything to underflow."""
    return min(squares, default=1.0) >= TINY and sum(squares) < math.inf


def by_rows(view: Numbers) -> float:
    """Sum of squares, each 8,192 elements by themselves and these sums added in float64. Overflow is the caller's to silence."""
    flat = view.ravel("K")
    whole = flat.size // _ROW * _ROW
    rows = flat[:whole].reshape(-1, _ROW)
    squares = sum(_rows_times_rows(rows, rows).tolist())
    if whole < flat.size:
        rest = flat[whole:]
        squares += float(vdot(rest, rest))
    return float(squares)


def sum_of_squares(view: Numbers) -> float:
    """The same of any view."""
    return float(vdot(view, view)) if view.size <= _ROW else by_rows(view)


def tiny_norm(view: Numbers) -> float:
    """L2 norm of what has a sum of squares below :data:`TINY`, without underflow."""
    if view.dtype != np.float32:
        return exact(view)[0]
    return math.sqrt(by_rows(view * _LIFT)) / float(_LIFT)


def exact(view: Numbers) -> tuple[float, float, int]:
    """L2 norm, max-abs and count of non-finite elements, without overflow or underflow of the squares."""
    magnitudes = np.abs(view).ravel()
    largest = float(magnitudes.max(initial=0.0))
    if largest == 0.0:
        return 0.0, 0.0, 0
    if math.isfinite(largest):
        magnitudes /= magnitudes.dtype.type(largest)
        return largest * math.sqrt(sum_of_squares(magnitudes)), largest, 0
    bad = magnitudes.size - int(np.count_nonzero(np.isfinite(magnitudes)))
    return (math.nan if math.isnan(largest) else math.inf), largest, bad
