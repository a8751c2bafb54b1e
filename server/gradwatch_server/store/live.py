"""What the server knows by heart about a run that streams: everything that is needed to take its next batch. No SQL here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from gradwatch.errors import GradwatchError, ProtocolError
from gradwatch.protocol import Statistic, Tensor
from gradwatch.protocol.histogram import PER_TENSOR, columns_of, wide

from ..models import GroupInfo, Run, TensorInfo
from .module_tree import GroupNorms, groups_of, parent_of
from .plain import INT32, text, whole

__all__ = [
    "MAIN_RANK",
    "NORMS",
    "RANKS_LANE",
    "Column",
    "Layout",
    "LiveRun",
    "SeriesRef",
    "StreamHandle",
    "declare",
]

MAIN_RANK: Final = 0
"""The rank whose numbers are the run's; those of others are kept beside them."""

RANKS_LANE: Final = 2**30
"""The lane of what is said of replicated ranks side by side. It belongs to the run as the main rank's numbers do."""

NORMS: Final = frozenset({"grad_norm"})
"""Tensor statistics that are L2 norms over disjoint tensors, so that a group's follows from its tensors'."""

MAX_SERIES: Final = 20_000


@dataclass(slots=True, eq=False)
class SeriesRef:
    """A row of the table ``series``."""

    idx: int
    rank: int
    scope: str
    name: str
    width: int
    dtype: str
    cadence: int
    logged: bool


TELLING_STEPS: Final = 50
"""Steps after which it can be told how often a statistic is sampled."""


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run: its newest summary, and its tensors, groups and series by name."""

    no: int
    run: Run
    tensors: dict[str, TensorInfo]
    groups: dict[str, GroupInfo]
    series: dict[tuple[int, str, str], SeriesRef]
    key_hash: str = ""
    segment: int = 0
    """Index of the newest segment: only its streams speak for the run's state."""
    segment_at: float = 0.0
    """When it began."""
    listed: tuple[TensorInfo, ...] = ()
    numbers: Counter[int] = field(default_factory=Counter)
    """Values of each series that were taken since it was loaded."""
    loaded_steps: int = 0
    """Steps that it had then."""
    pace_steps: int = 0
    pace_time: float = 0.0
    """Steps since, and time of, the last update of ``steps_per_s``."""

    def numbers_a_step(self) -> dict[int, float]:
        """How many values of each series come with a step, by its index; nothing until that can be told."""
        steps = self.run.steps - self.loaded_steps
        if steps < TELLING_STEPS:
            return {}
        return {one.idx: self.numbers[one.idx] / steps for one in self.series.values()}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A declared statistic: where it goes, and what is derived from it."""

    series: SeriesRef
    width: int
    groups: SeriesRef | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A schema as the store sees it. ``rows`` int32: the run-wide tensor of each column."""

    columns: tuple[Column, ...]
    rows: npt.NDArray[np.int32]
    in_order: bool
    """Whether ``rows`` is 0, 1, 2, ..., so that columns need not be moved."""
    norms: GroupNorms | None
    group_rows: npt.NDArray[np.int32]
    """Run-wide group of each column that ``norms`` gives."""

    def place(self, scope: str) -> npt.NDArray[np.int32] | None:
        """The run-wide columns of a statistic of this scope, None where they are its own."""
        return None if self.in_order or scope not in PER_TENSOR else columns_of(scope, self.rows)


@dataclass(slots=True, eq=False)
class StreamHandle:
    """An open stream. ``closed`` is what an append raises from now on, None while it takes records."""

    no: int
    stream: str
    live: LiveRun
    rank: int
    segment: int
    next_seq: int
    layouts: dict[int, Layout] = field(default_factory=dict)
    newest: dict[int, float] = field(default_factory=dict)
    """Newest step of each series in this segment."""
    newest_step: float = -1.0
    ended: bool = False
    closed: GradwatchError | None = None
    segment_at: float = 0.0
    """When its segment began: which of several is newest goes by that, as one may arrive late from a spool."""

    @property
    def speaks(self) -> bool:
        """Whether the state and progress of the run are this stream's: not those of another rank or an older segment."""
        return self.rank == MAIN_RANK and self.segment == self.live.segment

    @property
    def run(self) -> Run:
        """The run as of the newest append."""
        return self.live.run

    @property
    def tensors(self) -> Sequence[TensorInfo]:
        """The run's tensors by index; the same object until there are more."""
        if len(self.live.listed) != len(self.live.tensors):
            self.live.listed = tuple(self.live.tensors.values())
        return self.live.listed


@dataclass(slots=True, eq=False)
class Declared:
    """What a schema added to its run."""

    tensors: list[TensorInfo] = field(default_factory=list)
    groups: list[GroupInfo] = field(default_factory=list)
    series: list[SeriesRef] = field(default_factory=list)
    widened: list[SeriesRef] = field(default_factory=list)


def declare(
    live: LiveRun, rank: int, statistics: Sequence[Statistic], rows: npt.NDArray[np.int32]
) -> tuple[Layout, Declared]:
    """The layout of a schema whose tensors are already known, and the series that are new.

    Raises:
        ProtocolError: widths don't fit, a statistic is declared twice, or has a scope that this server doesn't take.
    """
    _check(statistics, len(rows))
    added = Declared()
    in_order = bool((rows == np.arange(len(rows))).all())
    reach = int(rows.max()) + 1 if len(rows) else 0
    norms, group_rows = None, np.empty(0, np.int32)
    if rank == MAIN_RANK and len(rows) and any(s.name in NORMS and s.scope == "tensor" for s in statistics):
        norms, group_rows = _group_norms(live, rows)
    columns = []
    for statistic in statistics:
        width = wide(statistic.scope, reach, statistic.width)
        series = _series(live, added, rank, statistic, statistic.scope, width)
        groups = None
        if norms is not None and statistic.scope == "tensor" and statistic.name in NORMS:
            groups = _series(live, added, rank, statistic, "group", len(live.groups))
        columns.append(Column(series, statistic.width, groups))
    return Layout(tuple(columns), rows, in_order, norms, group_rows), added


def _check(statistics: Sequence[Statistic], tensors: int) -> None:
    seen = set()
    for statistic in statistics:
        label = statistic.name[:80]
        if statistic.scope not in ("run", *PER_TENSOR):
            raise ProtocolError(
                f"statistic {label!r} has scope {statistic.scope!r}: this server takes run, {' and '.join(PER_TENSOR)}"
            )
        if statistic.width != wide(statistic.scope, tensors, statistic.width):
            raise ProtocolError(
                f"statistic {label!r} is declared with {statistic.width:,} columns for {tensors:,} tensors"
            )
        if statistic.width < 1:
            raise ProtocolError(f"statistic {label!r} is declared without columns")
        if (statistic.scope, statistic.name) in seen:
            raise ProtocolError(f"statistic {label!r} is declared twice in one schema")
        seen.add((statistic.scope, statistic.name))


def _series(
    live: LiveRun, added: Declared, rank: int, statistic: Statistic, scope: str, width: int
) -> SeriesRef:
    key = (rank, scope, statistic.name)
    series = live.series.get(key)
    if series is None:
        if len(live.series) >= MAX_SERIES:
            raise ProtocolError(
                f"more than {MAX_SERIES:,} statistics in one run: log fewer names, and put steps or indexes into values"
            )
        dtype = "f4" if scope == "group" else statistic.dtype
        series = SeriesRef(
            len(live.series),
            rank,
            scope,
            statistic.name,
            width,
            dtype,
            whole(statistic.cadence, INT32),
            statistic.logged,
        )
        live.series[key] = series
        added.series.append(series)
    elif width > series.width:
        series.width = width
        added.widened.append(series)
    return series


def place_tensors(live: LiveRun, tensors: Sequence[Tensor]) -> tuple[npt.NDArray[np.int32], Declared]:
    """The run-wide row of each tensor by its name. New names get new rows, and the groups above them grow.

    Raises:
        ProtocolError: a name twice.
    """
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ProtocolError("two tensors of one schema have the same name")
    added = Declared()
    for tensor in tensors:
        if tensor.name not in live.tensors:
            info = TensorInfo(
                index=len(live.tensors),
                name=tensor.name,
                shape=tensor.shape,
                numel=whole(tensor.numel),
                dtype=text(tensor.dtype, 64),
                depth=whole(tensor.depth, INT32),
                module=text(tensor.module),
                kind=tensor.kind,
                trainable=tensor.trainable,
                optimizer=whole(tensor.optimizer, INT32),
                param_group=tensor.group,
                fan_in=tensor.fan_in,
                init_std=tensor.init_std,
                sparse=tensor.sparse,
            )
            live.tensors[tensor.name] = info
            added.tensors.append(info)
    if added.tensors:
        added.groups = _grow_groups(live)
    rows = np.array([live.tensors[tensor.name].index for tensor in tensors], np.int32)
    return rows, added


def _grow_groups(live: LiveRun) -> list[GroupInfo]:
    """Brings the groups up to the tensors; gives those that are new or changed. Indexes stay as they are."""
    found = groups_of([tensor.module for tensor in live.tensors.values()])
    index = {path: group.index for path, group in live.groups.items()}
    for path in found:
        index.setdefault(path, len(index))
    changed = []
    for path, members in found.items():
        parent = parent_of(path, found)
        group = GroupInfo(
            index=index[path],
            path=path,
            parent=-1 if parent is None else index[parent],
            tensors=tuple(members),
        )
        if live.groups.get(path) != group:
            live.groups[path] = group
            changed.append(group)
    return changed


def _group_norms(live: LiveRun, rows: npt.NDArray[np.int32]) -> tuple[GroupNorms, npt.NDArray[np.int32]]:
    column = {int(row): i for i, row in enumerate(rows)}
    inside = {
        path: [column[row] for row in group.tensors if row in column] for path, group in live.groups.items()
    }
    norms = GroupNorms(len(rows), {path: columns for path, columns in inside.items() if columns})
    return norms, np.array([live.groups[path].index for path in norms.paths], np.int32)
