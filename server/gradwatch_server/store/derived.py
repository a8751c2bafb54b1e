"""Norms of groups that are not stored, because they follow from those of their tensors, bit by bit.

Only exact values: buckets can't be derived. The compactor compares before it leaves something out, so whatever a group's
norm was made of, what is read is what was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from . import tables as t
from .module_tree import GroupNorms, groups_of, scatter
from .tail import Piece

__all__ = ["Origin", "origin_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What the norms of a group series follow from: the ``series`` of its tensors, their ``modules`` in order, and the index
    of each group."""

    series: int
    modules: Sequence[str]
    groups: dict[str, int]
    _known: dict[int, tuple[GroupNorms, npt.NDArray[np.int32]]] = field(default_factory=dict)

    def derive(self, tensors: Piece, rows: int, series: int) -> Piece | None:
        """The first ``rows`` groups' norms, as they follow from those of the first tensors; None if they don't."""
        width = tensors.values.shape[1]
        if width not in self._known:
            if width > len(self.modules):
                return None
            norms = _norms_of(tuple(self.modules[:width]))
            if any(path not in self.groups for path in norms.paths):
                return None
            self._known[width] = norms, np.array([self.groups[path] for path in norms.paths], np.int32)
        norms, at = self._known[width]
        if len(at) and at.max() >= rows:
            return None
        values, present = norms(tensors.values, tensors.present)
        wide, there = scatter(at, rows, values, present)
        return Piece(series, tensors.steps, tensors.times, wide, there)

    def gives(self, tensors: Piece, groups: Piece) -> bool:
        """Whether ``groups`` is what :meth:`derive` gives, bit by bit."""
        made = self.derive(tensors, groups.values.shape[1], groups.series)
        if made is None or not np.array_equal(made.steps, groups.steps):
            return False
        if made.times.tobytes() != groups.times.tobytes():
            return False
        there, wanted = made.presence(), groups.presence()
        if not np.array_equal(there, wanted):
            return False
        a, b = (np.ascontiguousarray(one.values, np.float32).view(np.uint32) for one in (made, groups))
        return bool(((a == b) | ~there).all())


@lru_cache(maxsize=16)
def _norms_of(modules: tuple[str, ...]) -> GroupNorms:
    """Each question about a run would build the same tree anew, which takes a third of its time."""
    return GroupNorms(len(modules), groups_of(modules))


def origin_of(conn: Connection, run_no: int, series: int) -> Origin | None:
    """What a series follows from, None if it isn't one of groups."""
    c = t.series.c
    this = conn.execute(select(t.series).where((c.run_no == run_no) & (c.idx == series))).one_or_none()
    if this is None or this.scope != "group":
        return None
    same = (c.run_no == run_no) & (c.scope == "tensor") & (c.name == this.name) & (c.rank == this.rank)
    found = conn.execute(select(c.idx).where(same)).scalar()
    if found is None:
        return None
    m, g = t.tensors.c, t.tensor_groups.c
    modules = conn.execute(select(m.module).where(m.run_no == run_no).order_by(m.idx)).scalars().all()
    groups = conn.execute(select(g.path, g.idx).where(g.run_no == run_no)).all()
    return Origin(int(found), modules, {path: int(idx) for path, idx in groups})
