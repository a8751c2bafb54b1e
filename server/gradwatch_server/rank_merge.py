"""What the ranks of a distributed run hold, put together again. Pure: time is an argument.

Each rank sends norms of what it holds. A tensor that is cut into shards has the norm ``sqrt(sum of squares)`` over its
shards, in float64 (float32 sums of squares lose norms below 1e-23 and above 2e19), each shard counted once however many
replicas hold it. Rows are run-wide tensor indexes throughout.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from gradwatch.frames import Frame

__all__ = ["GAP", "LOCAL_NORM", "RANK_ROWS", "Holding", "Part", "RankMerge", "merge"]

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Row: TypeAlias = tuple[Floats, "Flags | None"]

LOCAL_NORM: Final = "local_grad_norm"
"""A rank's own gradient norm, before it is averaged with the others'."""

RANK_ROWS: Final = "rank_grad_norm"
"""The ranks' own norms side by side, ``[ranks]``."""

GAP: Final = "replica_gap"
"""``[2]``: the largest relative difference between norms that replicas should share, and the rank that has it."""

WAIT_S: Final = 10.0
WAIT_STEPS: Final = 20
"""How long a frame waits for a rank: the longer of so many seconds and so many median steps."""

MOST_PENDING: Final = 4096
"""Frames that wait at most; the oldest goes out incomplete when there are more."""

_PACES: Final = 64

_L2, _MAX, _SUM = "l2", "max", "sum"
_MERGES: Final[dict[str, str]] = {
    "grad_norm": _L2,
    "grad_maxabs": _MAX,
    "grad_nonfinite": _SUM,
    "weight_norm": _L2,
    "grad_histogram": _SUM,
}
"""How a statistic of a whole tensor follows from those of its shards. Any other is known of uncut tensors only. Samples of
shards weigh alike in a histogram, however uneven the cut."""

_AS_FAR_AS_KNOWN: Final = frozenset({"grad_norm", "grad_maxabs", "grad_nonfinite"})
"""Statistics that are given even where a shard is missing: ``ranks_present`` says so at the same step."""


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """The tensors that a rank holds something of: int ``[n]`` each. ``shards``: into how many each tensor is cut."""

    rows: npt.NDArray[np.intp]
    shard: npt.NDArray[np.intp]
    shards: npt.NDArray[np.intp]


@dataclass(slots=True, eq=False)
class Part:
    """What one rank says of one step. ``tensor`` rows are as long as the run had tensors: values ``[n]``, of a histogram
    ``[n, cells]``, and presence ``[n]``."""

    time: float
    tensor: dict[str, Row] = field(default_factory=dict)
    run: dict[str, Floats] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Pending:
    since: float
    parts: dict[int, Part] = field(default_factory=dict)


class RankMerge:
    """Collects the ranks' parts, and says when a step is complete, or will not be.

    Frames come out in the order of steps. A rank that a frame waited for in vain is not waited for again until it
    sends a step beyond the newest frame.

    Args:
        world: how many ranks there are.
        newest: the newest step that is merged already.
    """

    def __init__(self, world: int, newest: int = -1) -> None:
        self.world = world
        self.newest = newest
        self.holdings: dict[int, Holding] = {}
        self.late: dict[int, set[int]] = {}
        """Ranks by step, of parts that came after their step was merged. Whoever corrects it empties this."""
        self._pending: dict[int, _Pending] = {}
        self._reached: dict[int, int] = {}
        self._away: set[int] = set()
        self._ended: set[int] = set()
        self._paces: deque[float] = deque(maxlen=_PACES)
        self._last: tuple[int, float] | None = None

    def part(self, rank: int, step: int, time: float, now: float) -> Part | None:
        """Where to put what ``rank`` says of ``step``; None if that step has been merged without it."""
        self._ended.discard(rank)
        if step <= self.newest:
            self.late.setdefault(step, set()).add(rank)
            return None
        self._away.discard(rank)
        self._reached[rank] = max(step, self._reached.get(rank, -1))
        pending = self._pending.get(step)
        if pending is None:
            pending = self._pending[step] = _Pending(now)
            self._pace(step, time)
        return pending.parts.setdefault(rank, Part(time))

    def ended(self, rank: int) -> None:
        """No more will come of ``rank``."""
        self._ended.add(rank)

    def ready(self, now: float, *, everything: bool = False) -> list[tuple[int, dict[int, Part]]]:
        """Steps that are complete or have waited long enough, in order, each with the parts that are in."""
        found = []
        wait = max(WAIT_S, WAIT_STEPS * median(self._paces)) if self._paces else WAIT_S
        for step in sorted(self._pending):
            pending = self._pending[step]
            awaited = self._awaited(step, pending)
            if awaited and not everything:
                if now - pending.since < wait and len(self._pending) <= MOST_PENDING:
                    break
                self._away.update(awaited)
            del self._pending[step]
            self.newest = step
            found.append((step, dict(sorted(pending.parts.items()))))
        return found

    @property
    def waiting(self) -> bool:
        """Whether frames wait for a rank."""
        return bool(self._pending)

    @property
    def over(self) -> bool:
        """Whether no rank sends any more, as far as is known."""
        return len(self._ended | self._away) >= self.world

    def _awaited(self, step: int, pending: _Pending) -> list[int]:
        """Ranks whose part may still come. Steps of a rank rise: one that is beyond ``step`` has left it out."""
        passed = self._reached
        return [
            rank
            for rank in range(self.world)
            if rank not in pending.parts
            and rank not in self._away
            and rank not in self._ended
            and passed.get(rank, -1) < step
        ]

    def _pace(self, step: int, time: float) -> None:
        if self._last is not None and step > self._last[0] and time > self._last[1]:
            self._paces.append((time - self._last[1]) / (step - self._last[0]))
        self._last = (step, time)


def merge(
    step: int, parts: Mapping[int, Part], holdings: Mapping[int, Holding], world: int, tensors: int
) -> Frame:
    """One frame of the whole run from the parts of its ranks (in rank order), over ``tensors`` rows.

    ``ranks_present`` and ``ranks`` say how much of it is there; :data:`RANK_ROWS` and :data:`GAP` come where ranks sent
    their own norms, and where replicas could be compared.
    """
    plan = _Plan(parts, holdings, tensors)
    values: dict[str, npt.NDArray[Any]] = {}
    present: dict[str, Flags] = {}
    names = dict.fromkeys(name for part in parts.values() for name in part.tensor)
    rows = {name: plan.row(name) for name in names}
    for name, (row, there) in rows.items():
        if there.any():
            values[name] = row.astype(np.float32).reshape(-1)
            if not there.all():
                present[name] = np.repeat(there, row.size // len(there))
    first = next(iter(parts.values()))
    values.update(first.run)
    values.pop(LOCAL_NORM, None)
    if "grad_norm" in values:
        _totals(values, parts, rows["grad_norm"])
    values["ranks_present"] = np.array([float(len(parts))])
    values["ranks"] = np.array([float(world)])
    own = {rank: float(part.run[LOCAL_NORM][0]) for rank, part in parts.items() if LOCAL_NORM in part.run}
    if own and not _skipped(parts):
        values[RANK_ROWS] = np.array([own.get(rank, math.nan) for rank in range(world)])
        if len(own) < world:
            present[RANK_ROWS] = np.array([rank in own for rank in range(world)])
    if plan.compared:
        values[GAP] = np.array(plan.gap)
    return Frame(step=step, time=first.time, values=values, present=present)


def _skipped(parts: Mapping[int, Part]) -> bool:
    """Whether the loss scaler skipped the step: a single rank may overflow then, which is no fault."""
    return any(part.run.get("skipped", np.zeros(1))[0] > 0 for part in parts.values())


def _totals(
    values: dict[str, npt.NDArray[Any]], parts: Mapping[int, Part], norms: tuple[Floats, Flags]
) -> None:
    """The norm of the whole, and what clipping left of it.

    All ranks clip by the same factor if they clip by a norm. Element by element each has its own; then the shares of the
    ranks are weighted by their squares, which is exact where no tensor is held twice.
    """
    row, there = norms
    with np.errstate(all="ignore"):
        total = _norm(row[there])
        values["global_grad_norm"] = np.array([total])
        coefficients = [float(p.run["clip_coef"][0]) for p in parts.values() if "clip_coef" in p.run]
        if not coefficients:
            return
        coefficient = coefficients[0]
        if not np.allclose(coefficients, coefficient, rtol=1e-4, atol=0.0, equal_nan=True):
            before = _norm([float(p.run["global_grad_norm"][0]) for p in parts.values()])
            after = _norm([float(p.run["global_grad_norm_clipped"][0]) for p in parts.values()])
            coefficient = after / before if before else 1.0
            values["clip_coef"] = np.array([coefficient])
        values["global_grad_norm_clipped"] = np.array([total * coefficient])


def _norm(values: Sequence[float] | Floats) -> float:
    numbers = np.asarray(values, np.float64)
    return float(np.sqrt(np.dot(numbers, numbers)))


class _Plan:
    """Which column of which rank counts: of each shard that of the first rank that has it."""

    def __init__(self, parts: Mapping[int, Part], holdings: Mapping[int, Holding], tensors: int) -> None:
        self._parts, self._holdings, self._tensors = parts, holdings, tensors
        self._shards = np.ones(tensors, np.intp)
        for holding in holdings.values():
            np.maximum.at(self._shards, holding.rows, holding.shards)
        self._wide = int(self._shards.max(initial=1))
        self.compared = False
        self.gap = (0.0, -1.0)

    def row(self, name: str) -> tuple[Floats, Flags]:
        """The merged row of a statistic ``[tensors]`` or ``[tensors, cells]`` and where it is there ``[tensors]``."""
        how = _MERGES.get(name, "")
        cells = next(part.tensor[name][0].shape[1:] for part in self._parts.values() if name in part.tensor)
        kept = np.full((self._tensors * self._wide, *cells), np.nan)
        have = np.zeros(self._tensors * self._wide, np.bool_)
        for rank, part in self._parts.items():
            holding = self._holdings.get(rank)
            if name not in part.tensor or holding is None:
                continue
            row, there = part.tensor[name]
            at = holding.rows < len(row)
            rows, shard = holding.rows[at], holding.shard[at]
            if there is not None:
                rows, shard = rows[there[rows]], shard[there[rows]]
            keys = rows * self._wide + shard
            again = have[keys]
            if name == "grad_norm" and again.any():
                self._compare(rank, kept[keys[again]], row[rows[again]])
            kept[keys[~again]] = row[rows[~again]]
            have[keys] = True
        return self._fold(name, how, kept.reshape(-1, self._wide, *cells), have.reshape(-1, self._wide))

    def _fold(self, name: str, how: str, kept: Floats, have: Flags) -> tuple[Floats, Flags]:
        count = have.sum(axis=1)
        there = count > 0 if name in _AS_FAR_AS_KNOWN else count == self._shards
        parts = np.where(have.reshape(*have.shape, *[1] * (kept.ndim - 2)), kept, 0.0)
        with np.errstate(all="ignore"):
            if how == _L2:
                row = np.sqrt((parts * parts).sum(axis=1))
            elif how == _MAX:
                row = parts.max(axis=1)
            else:
                row = parts.sum(axis=1)
        if not how:
            there = there & (self._shards == 1)
        row[~there] = np.nan
        return row, there

    def _compare(self, rank: int, one: Floats, other: Floats) -> None:
        self.compared = True
        with np.errstate(all="ignore"):
            scale = np.maximum(np.abs(one), np.abs(other))
            gaps = np.where(scale > 0, np.abs(one - other) / scale, 0.0)
        strange = np.isfinite(one) != np.isfinite(other)
        gaps = np.where(strange, math.inf, np.where(np.isnan(gaps), 0.0, gaps))
        worst = float(gaps.max(initial=0.0))
        if worst > self.gap[0] or self.gap[1] < 0:
            self.gap = (worst, float(rank))
