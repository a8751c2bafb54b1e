"""Tries a rule on what is stored of a run: 'would have fired 3 times'. Blocks; for a thread of its own.

Most rules need no look at most of a run: buckets tell where some value is beyond the threshold, and only there, and from
there until all is normal again, exact values are read. Rules that compare windows read the newest ten million values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from .alert_past import read_rows
from .alerts.backtest import BackTest, Firing, can_skip, suspects
from .alerts.globs import matching
from .alerts.incidents import alert_of, concerns
from .models import Rule, Run, SeriesQuery
from .store import Store
from .store.health_queries import ill_runs, list_incidents
from .troubled import LEAST_STEPS, troubled

__all__ = ["Trial", "suggest", "try_on_healthy", "try_rule"]

POINTS: Final = 2_000
CELLS: Final = 1_000_000
"""Values that are read at once."""

MOST_CELLS: Final = 10_000_000
"""Values that are judged by a rule that must see them all: the newest so many."""

_SETTLE: Final = 256
"""Steps read at a time while waiting for all to be normal again."""

MOST_FIRINGS: Final = 200
OTHERS: Final = 10
LOOKED_AT: Final = 100
"""Newest finished runs among which healthy ones are looked for."""

SECONDS: Final = 2.0
"""After so many firings, or so long, the answer is what was found so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """``firings`` in the order of their steps, of the steps ``from_step`` to ``to_step``; ``complete`` if that is the whole
    run. ``series`` is how many series the rule is about in this run."""

    firings: list[Firing] = field(default_factory=list)
    series: int = 0
    from_step: int = 0
    to_step: int = -1
    complete: bool = True


def try_rule(store: Store, run: Run, rule: Rule, *, timer: Callable[[], float] = time.monotonic) -> Trial:
    """Judges the stored rows of the run's newest course by the rule; one about incidents, what was found in the run."""
    if rule.condition == "incident":
        return _incidents(store, run, rule)
    info = next(
        (i for i in store.statistics(run.id) if (i.name, i.scope) == (rule.statistic, rule.scope)), None
    )
    names, columns = _series(store, run, rule, info.width) if info is not None else ([], ())
    if not names or run.last_step < 0:
        return Trial()
    test = BackTest(rule, names)
    end = run.last_step + 1
    first = max(0, run.first_step)
    if can_skip(rule):
        ranges = _ranges(store, run, rule, columns)
    else:
        first = max(first, end - MOST_CELLS // len(names))
        ranges = [(first, end)]
    read = _Reader(store, run.id, rule, columns, max(256, CELLS // len(names)), timer)
    step = read.through(test, first, end, ranges)
    whole = step >= end and first <= max(0, run.first_step)
    return Trial(
        firings=test.firings, series=len(names), from_step=first, to_step=min(step, end) - 1, complete=whole
    )


def _incidents(store: Store, run: Run, rule: Rule) -> Trial:
    found = store.database.read(lambda conn: list_incidents(conn, run.id))
    alerts = sorted(
        (alert_of(rule, run.id, incident) for incident in found if concerns(rule, incident)),
        key=lambda alert: alert.opened_step,
    )
    firings = [
        Firing(
            step=alert.opened_step,
            value=0.0,
            series=alert.worst[0] if alert.worst else "",
            count=alert.count,
            cleared=alert.cleared_step,
        )
        for alert in alerts
    ]
    return Trial(firings=firings, series=1, to_step=run.last_step)


def try_on_healthy(
    store: Store, run: Run, rule: Rule, *, timer: Callable[[], float] = time.monotonic
) -> tuple[int, int]:
    """Tries the rule on up to ten newest healthy runs of the same project, other than ``run``, as far as time permits:
    in how many it was tried, and in how many of these it would have fired. Healthy is what finished without an incident."""
    deadline = timer() + SECONDS
    tried = fired = 0
    finished = store.runs(project=run.project, state="finished", limit=LOOKED_AT)
    ill = store.database.read(lambda conn: ill_runs(conn, [other.id for other in finished]))
    for other in finished:
        if other.id == run.id or other.id in ill or tried == OTHERS or timer() > deadline:
            continue
        trial = try_rule(store, other, rule, timer=timer)
        tried += bool(trial.series)
        fired += bool(trial.firings)
    return tried, fired


def suggest(store: Store, run: Run, rule: Rule) -> float | None:
    """A threshold that the run itself suggests: twice the 99th percentile of what is highest in each stretch of steps outside
    of incidents and any layer (for "below": half the 1st percentile of what is lowest), to two digits. Of a run that was
    hardly ever outside of one the calmest hundredth is taken. None if there is none to suggest."""
    if rule.condition not in ("above", "below"):
        return None
    info = next(
        (i for i in store.statistics(run.id) if (i.name, i.scope) == (rule.statistic, rule.scope)), None
    )
    _, columns = _series(store, run, rule, info.width) if info is not None else ([], ())
    if not columns:
        return None
    query = SeriesQuery(statistic=rule.statistic, scope=rule.scope, rows=columns, points=POINTS)
    series = store.series(run.id, query)
    upwards = rule.condition == "above"
    cells = series.high if upwards else series.low
    extremes = np.fmax.reduce(cells, axis=0) if upwards else np.fmin.reduce(cells, axis=0)
    finite = np.isfinite(extremes)
    if not finite.any():
        return None
    starts = (series.first_bucket + np.arange(len(extremes))) * series.width
    well = finite & ~troubled(store, run.id, starts, starts + series.width)
    enough = bool(well.sum() * series.width >= LEAST_STEPS or (well == finite).all())
    outermost = 99 if enough == upwards else 1
    edge = float(np.percentile(extremes[well if enough else finite].astype(np.float64), outermost))
    away = abs(edge) if upwards else -abs(edge) / 2
    return float(f"{edge + away:.2g}")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Feeds a back-test with exact values, ``size`` steps at once."""

    store: Store
    run_id: str
    rule: Rule
    columns: Sequence[int]
    size: int
    timer: Callable[[], float]

    def through(self, test: BackTest, first: int, end: int, ranges: Sequence[tuple[int, int]]) -> int:
        """Feeds the ranges, and what follows each until all is quiet again. Gives the step that it came to."""
        deadline = self.timer() + SECONDS
        step = first
        for start, stop in ranges:
            begin = max(step, start - test.history)
            if begin > step:
                test.skip()
            step = begin
            while step < end and (step < stop or not test.quiet):
                upto = min(end, step + self.size, stop if step < stop else step + _SETTLE)
                test.feed(
                    read_rows(
                        self.store,
                        self.run_id,
                        self.rule.statistic,
                        self.rule.scope,
                        step,
                        upto,
                        self.columns,
                    )
                )
                step = upto
                if len(test.firings) >= MOST_FIRINGS or self.timer() > deadline:
                    return step
        return end


def _series(store: Store, run: Run, rule: Rule, width: int) -> tuple[list[str], tuple[int, ...]]:
    """Names and run-wide indexes of the series that the rule is about."""
    if rule.scope == "run":
        return ([""] if width == 1 else [str(index) for index in range(width)]), tuple(range(width))
    if rule.scope == "tensor":
        names: Sequence[str] = [tensor.name for tensor in store.tensors(run.id)]
    else:
        names = [group.path for group in store.groups(run.id)]
    columns = tuple(matching(rule.tensors or rule.groups, names).tolist())
    return [names[index] for index in columns], columns


def _ranges(store: Store, run: Run, rule: Rule, columns: Sequence[int]) -> list[tuple[int, int]]:
    """Steps (from, to) outside of which no value is beyond the threshold."""
    query = SeriesQuery(statistic=rule.statistic, scope=rule.scope, rows=tuple(columns), points=POINTS)
    series = store.series(run.id, query)
    ranges: list[tuple[int, int]] = []
    for place in suspects(rule, series).tolist():
        start = (series.first_bucket + place) * series.width
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + series.width)
        else:
            ranges.append((start, start + series.width))
    return ranges
