"""All rules of one run on one statistic. Finds, in a pass or two over a block, the few rules that have to look closer.

Most rules are quiet most of the time: all their series are normal and nothing breaches. For thresholds that is decided
for all of them at once by the block's extremes; the cost of a quiet rule is one comparison.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..models import StoredBlock, Transition
from .globs import matching
from .kinds import KIND
from .ledger import AlertChange
from .watch import Rows, Watch


class _Bound:
    """One-sided thresholds over sets of columns: which of them do a block's extremes pass?

    ``sign`` 1 for "above", -1 for "below" (then thresholds and extremes are negated).
    """

    def __init__(self, sign: int, watches: Sequence[Watch], thresholds: Sequence[float]) -> None:
        order = np.argsort(sign * np.array(thresholds, np.float64), kind="stable")
        self._watches = [watches[index] for index in order]
        self._thresholds = (sign * np.array(thresholds, np.float64))[order]
        sets: dict[bytes, int] = {}
        columns: list[npt.NDArray[np.intp]] = []
        self._set = np.zeros(len(order), np.intp)
        for place, watch in enumerate(self._watches):
            key = watch.columns.tobytes()
            if key not in sets:
                sets[key] = len(columns)
                columns.append(watch.columns)
            self._set[place] = sets[key]
        self._columns = np.concatenate(columns) if columns else np.zeros(0, np.intp)
        self._starts = np.cumsum([0, *(part.size for part in columns)])[:-1]

    def passed(self, extremes: npt.NDArray[np.float64]) -> list[Watch]:
        """The watches of which some column's extreme (NaN for none) is beyond the threshold."""
        top = np.fmax.reduce(extremes)
        count = int(np.searchsorted(self._thresholds, top, side="left")) if top == top else 0
        if not count:
            return []
        if self._starts.size == 1:
            return (
                self._watches[:count] if self._columns.size == extremes.size else self._exact(extremes, count)
            )
        return self._exact(extremes, count)

    def _exact(self, extremes: npt.NDArray[np.float64], count: int) -> list[Watch]:
        tops = np.fmax.reduceat(extremes[self._columns], self._starts)[self._set[:count]]
        return [self._watches[index] for index in np.flatnonzero(tops > self._thresholds[:count])]


class Panel:
    """The watches on one (statistic, scope) of a run. ``names`` are its series: column *i* is series *i*."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.watches: dict[str, Watch] = {}
        self._identity = np.arange(len(self.names), dtype=np.int32)
        self._stale = True
        self._above = self._below = _Bound(1, [], [])
        self._nonfinite: list[Watch] = []
        self._always: list[Watch] = []
        self._past: deque[Rows] = deque()
        self._kept = 0
        self._history = 0

    def add(self, watch: Watch) -> None:
        """From now on its rule is judged."""
        self.watches[watch.rule.id] = watch
        self._stale = True

    def remove(self, rule_id: str) -> Watch | None:
        """The rule is judged no longer."""
        self._stale = True
        return self.watches.pop(rule_id, None)

    def grow(self, names: Sequence[str]) -> None:
        """The run has these series now, the old ones first."""
        self.names = list(names)
        self._identity = np.arange(len(self.names), dtype=np.int32)
        self._past = deque(_widened(rows, len(self.names)) for rows in self._past)
        for watch in self.watches.values():
            globs = watch.rule.tensors or watch.rule.groups or "*"
            watch.grow(matching(globs, self.names), self.names)
        self._stale = True

    def observe(self, block: StoredBlock) -> tuple[list[Transition], list[AlertChange]]:
        """Judges a block of at least one step."""
        if not self.names:
            return [], []
        if self._stale:
            self._sort()
        rows = self._rows(block)
        transitions: list[Transition] = []
        changes: list[AlertChange] = []
        for watch in self._concerned(rows):
            more, changed = watch.observe(rows, self._before(watch.history))
            transitions += more
            changes += changed
        self._keep(rows)
        return transitions, changes

    def _before(self, history: int) -> Rows:
        """The last rows, at least ``history`` if so many are kept."""
        parts: list[Rows] = []
        missing = history
        for rows in reversed(self._past):
            if missing <= 0:
                break
            parts.append(rows.last(missing))
            missing -= len(rows.steps)
        if not parts:
            return Rows(np.empty(0), np.empty(0), np.empty((0, len(self.names))), None)
        parts.reverse()
        return Rows(
            np.concatenate([part.steps for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.values for part in parts]),
            None,
        )

    def _keep(self, rows: Rows) -> None:
        """Keeps as many rows as the rule with the longest memory needs."""
        if not self._history:
            return
        self._past.append(rows.last(self._history))
        self._kept += len(self._past[-1].steps)
        while self._kept - len(self._past[0].steps) >= self._history:
            self._kept -= len(self._past.popleft().steps)

    def forget(self) -> None:
        """Rows are left out here: what came before says nothing of what comes."""
        self._past.clear()
        self._kept = 0

    def _rows(self, block: StoredBlock) -> Rows:
        """The block over all series of the run; columns that the block doesn't have are absent."""
        values, present = block.values, block.present
        if block.rows.size != self._identity.size or not np.array_equal(block.rows, self._identity):
            shape = (len(block.steps), self._identity.size)
            wide = np.full(shape, np.nan, values.dtype)
            wide[:, block.rows] = values
            there = np.zeros(shape, np.bool_)
            there[:, block.rows] = True if present is None else present
            return Rows(block.steps, block.times, wide, there)
        if present is not None:
            values = np.where(present, values, np.asarray(np.nan, values.dtype))
        return Rows(block.steps, block.times, values, present)

    def _sort(self) -> None:
        watches = [watch for watch in self.watches.values() if watch.columns.size]
        bounded = [watch for watch in watches if KIND[watch.rule.condition].aggregated]
        low = [watch for watch in bounded if watch.rule.condition != "above"]
        above = [(watch, watch.rule.threshold) for watch in bounded if watch.rule.condition == "above"]
        above += [(watch, watch.rule.upper) for watch in bounded if watch.rule.condition == "outside"]
        self._above = _Bound(1, [watch for watch, _ in above], [threshold for _, threshold in above])
        self._below = _Bound(-1, low, [watch.rule.threshold for watch in low])
        rest = [watch for watch in watches if not KIND[watch.rule.condition].aggregated]
        self._nonfinite = [watch for watch in rest if watch.rule.condition == "nonfinite"]
        self._always = [watch for watch in rest if watch.rule.condition != "nonfinite"]
        self._history = max((watch.history for watch in watches), default=0)
        self._stale = False

    def _concerned(self, rows: Rows) -> Iterable[Watch]:
        """Watches to which these rows may matter, each once, in the order in which they were added.

        An aggregate (mean, min, max, share) over a window breaches only if some value in the window does: a rule with a
        window lingers for as long as such a value can be in it.
        """
        found = {id(watch) for watch in self.watches.values() if watch.linger or not watch.quiet}
        found.update(id(watch) for watch in self._always)
        for watch in self.watches.values():
            if watch.linger:
                watch.linger = max(0, watch.linger - len(rows.steps))
        for watch in self._passed(rows.values):
            watch.linger = watch.history
            found.add(id(watch))
        if self._nonfinite and not np.isfinite(rows.values).all():
            found.update(id(watch) for watch in self._nonfinite)
        if not found:
            return ()
        return [watch for watch in self.watches.values() if id(watch) in found]

    def _passed(self, values: npt.NDArray[Any]) -> list[Watch]:
        single = len(values) == 1
        high = values[0] if single else np.fmax.reduce(values, axis=0)
        low = values[0] if single else np.fmin.reduce(values, axis=0)
        return self._above.passed(high.astype(np.float64)) + self._below.passed(-low.astype(np.float64))


def _widened(rows: Rows, width: int) -> Rows:
    wide = np.full((len(rows.steps), width), np.nan, rows.values.dtype)
    wide[:, : rows.values.shape[1]] = rows.values
    return Rows(rows.steps, rows.times, wide, None)
