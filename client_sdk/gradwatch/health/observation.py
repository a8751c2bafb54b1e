"""What the engine is fed with: values of statistics at steps, and marks. No clock, no torch, no server types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..protocol import Batch, Statistic

__all__ = ["BlockLike", "MarkPoint", "Observation", "Series"]

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Values of one statistic: ``steps`` and ``times`` float64 ``[n]``, ``values`` ``[n, width]``.

    ``present`` is bool ``[n, width]`` or None (all there). ``rows`` int ``[width]`` maps columns to positions in the
    Monitor's tensors, or None when column *i* is tensor *i*.
    """

    name: str
    scope: str
    steps: Floats
    times: Floats
    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_] | None = None
    rows: npt.NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class MarkPoint:
    """A mark of the run: ``kind`` such as "phase", "checkpoint", "restart"."""

    step: int
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


class BlockLike(Protocol):
    """What :meth:`Observation.from_blocks` needs of a block; the server's stored blocks have it."""

    @property
    def statistic(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def steps(self) -> Floats: ...
    @property
    def times(self) -> Floats: ...
    @property
    def values(self) -> npt.NDArray[Any]: ...
    @property
    def rows(self) -> npt.NDArray[Any]: ...
    @property
    def present(self) -> npt.NDArray[np.bool_] | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """Some steps of some statistics, in any order of statistics; each statistic's steps rise."""

    series: tuple[Series, ...]
    marks: tuple[MarkPoint, ...] = ()

    @classmethod
    def from_blocks(cls, blocks: Iterable[BlockLike], marks: Iterable[MarkPoint] = ()) -> Observation:
        """From stored blocks, whose columns are run-wide tensor indexes."""
        found = tuple(
            Series(b.statistic, b.scope, b.steps, b.times, b.values, b.present, b.rows) for b in blocks
        )
        return cls(found, tuple(marks))

    @classmethod
    def of_batch(
        cls,
        batch: Batch,
        statistics: Sequence[Statistic],
        marks: Iterable[MarkPoint] = (),
        *,
        rows: npt.NDArray[Any] | None = None,
    ) -> Observation:
        """From a batch of the wire and the statistics of its schema.

        ``rows`` int ``[tensors of the schema]`` gives their places among the Monitor's; None when they are the same.
        """
        found = []
        for block in batch.blocks:
            what = statistics[block.statistic]
            at = rows if what.scope == "tensor" else None
            found.append(
                Series(what.name, what.scope, block.steps, block.times, block.values, block.present, at)
            )
        return cls(tuple(found), tuple(marks))

    @classmethod
    def of_arrays(
        cls,
        steps: npt.ArrayLike,
        *,
        tensor: Mapping[str, npt.ArrayLike] | None = None,
        run: Mapping[str, npt.ArrayLike] | None = None,
        times: npt.ArrayLike | None = None,
        marks: Iterable[MarkPoint] = (),
    ) -> Observation:
        """From plain arrays: ``tensor`` statistics ``[n, tensors]``, ``run`` statistics ``[n]`` or ``[n, width]``.

        NaN in a run statistic other than the loss means "no value at this step". Without ``times`` one step takes
        one second.
        """
        at = np.asarray(steps, dtype=np.float64)
        when = at if times is None else np.asarray(times, dtype=np.float64)
        found = []
        for name, given in (tensor or {}).items():
            found.append(Series(name, "tensor", at, when, np.asarray(given)))
        for name, given in (run or {}).items():
            values = np.asarray(given, dtype=np.float64).reshape(len(at), -1)
            keep = slice(None) if name == "loss" else ~np.isnan(values).all(axis=1)
            found.append(Series(name, "run", at[keep], when[keep], values[keep]))
        return cls(tuple(found), tuple(marks))
