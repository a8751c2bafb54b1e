"""The module tree as groups of tensors, and the exact norm of each group from the norms of its tensors. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .pyramid import to_f4

__all__ = ["GroupNorms", "groups_of", "parent_of", "scatter"]

SLAB: Final = 64
"""Steps worked on at a time: the sums of more don't fit the processor's cache (5 ms for 256 steps of 800 tensors, not 1.5)."""


def groups_of(modules: Sequence[str]) -> dict[str, list[int]]:
    """Nodes of the module tree that hold at least two of the tensors, and the root "", parents first.

    ``modules`` is the module path of each tensor; the result maps a path to the indexes of the tensors below it.
    """
    members: dict[str, list[int]] = {"": list(range(len(modules)))}
    for index, module in enumerate(modules):
        for path in _ancestors(module):
            members.setdefault(path, []).append(index)
    kept = [path for path, inside in members.items() if path == "" or len(inside) > 1]
    return {path: members[path] for path in sorted(kept, key=_depth_first)}


def parent_of(path: str, groups: Container[str]) -> str | None:
    """The nearest group above ``path`` among ``groups``, None for the root."""
    if path == "":
        return None
    above = path
    while "." in above:
        above = above.rpartition(".")[0]
        if above in groups:
            return above
    return ""


def _ancestors(module: str) -> list[str]:
    parts = module.split(".") if module else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _depth_first(path: str) -> tuple[int, str]:
    return (path.count(".") + 1 if path else 0, path)


class GroupNorms:
    """Norms of groups, for one set of columns.

    The square of a group's norm is the sum of the squares of its tensors' norms, in float64: the squares of float32 norms
    neither underflow nor overflow there. NaN and Inf propagate; what is absent is left out.

    Args:
        width: how many columns (tensors) there are.
        groups: path -> columns below it, from :func:`groups_of`: nested, and the root "" among them.
    """

    def __init__(self, width: int, groups: dict[str, list[int]]) -> None:
        self.paths = list(groups)
        self._width = width
        self._passes = _passes(width, groups)

    def __call__(
        self, norms: npt.NDArray[Any], present: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
        """Norms ``[n, width]`` to group norms float32 ``[n, groups]`` and their presence (None: all there)."""
        if len(norms) > SLAB:
            return self._in_slabs(norms, present)
        with np.errstate(over="ignore"):
            square = np.square(norms.T, dtype=np.float64)
        if present is None:
            return self._norms(square), None
        there = self._add(present.T.astype(np.float64)) > 0
        found = self._norms(np.where(present.T, square, 0.0))
        if there.all():
            return found, None
        found[~there.T] = np.nan
        return found, np.ascontiguousarray(there.T)

    def _in_slabs(
        self, norms: npt.NDArray[Any], present: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
        cuts = [slice(at, at + SLAB) for at in range(0, len(norms), SLAB)]
        parts = [self(norms[cut], None if present is None else present[cut]) for cut in cuts]
        found = np.concatenate([part for part, _ in parts])
        if all(there is None for _, there in parts):
            return found, None
        presence = [np.ones(part.shape, np.bool_) if there is None else there for part, there in parts]
        return found, np.concatenate(presence)

    def _norms(self, square: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        return to_f4(np.ascontiguousarray(np.sqrt(self._add(square)).T))

    def _add(self, columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        work = np.empty((self._width + len(self.paths), columns.shape[1]))
        work[: self._width] = columns
        for inputs, starts, outputs in self._passes:
            work[outputs] = np.add.reduceat(work[inputs], starts, axis=0)
        return work[self._width :]


def _passes(
    width: int, groups: dict[str, list[int]]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """One pass per depth, the deepest first: each group adds its own tensors and the groups right below it."""
    row = {path: width + i for i, path in enumerate(groups)}
    parts: dict[str, list[int]] = {path: [] for path in groups}
    owner = [""] * width
    for path, inside in groups.items():  # parents first, so the deepest group has the last word
        for column in inside:
            owner[column] = path
        parent = parent_of(path, groups)
        if parent is not None:
            parts[parent].append(row[path])
    for column, path in enumerate(owner):
        parts[path].append(column)
    by_depth: dict[int, list[str]] = {}
    for path in groups:
        by_depth.setdefault(_depth_first(path)[0], []).append(path)
    made = []
    for depth in sorted(by_depth, reverse=True):
        paths = by_depth[depth]
        sizes = [len(parts[path]) for path in paths]
        made.append(
            (
                np.array([i for path in paths for i in parts[path]], np.int64),
                np.cumsum([0, *sizes[:-1]], dtype=np.int64),
                np.array([row[path] for path in paths], np.int64),
            )
        )
    return made


def scatter(
    rows: npt.NDArray[np.int32],
    width: int,
    values: npt.NDArray[Any],
    present: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Columns moved to their run-wide rows; rows without a column are absent."""
    n = len(values)
    wide = np.full((n, width), np.nan, values.dtype)
    wide[:, rows] = values
    if present is None and len(rows) == width:
        return wide, None
    there = np.zeros((n, width), np.bool_)
    there[:, rows] = True if present is None else present
    return wide, there
