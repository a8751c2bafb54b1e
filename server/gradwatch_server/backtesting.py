"""Tries a rule on what is stored of a run: 'would have fired 3 times'. Blocks; for a thread of its own.

Rules that judge single values need no look at most of a run: buckets tell where some value may breach, and only there,
and from there until all is normal again, exact values are read. Other rules read everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from .alert_past import MOST_REPLAYED, read_rows
from .alerts.backtest import BackTest, Firing, suspects
from .alerts.globs import matching
from .alerts.signals import is_plain
from .models import Rule, Run, SeriesQuery
from .store import Store

__all__ = ["Trial", "try_rule"]

POINTS: Final = 2_000
CELLS: Final = 2_000_000
"""Values that are read at once."""

SECONDS: Final = 5.0
"""After so long the answer is what was found so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """``firings`` in the order of their steps; up to ``to_step`` the run was judged, ``complete`` if that is all of it.
    ``series`` is how many series the rule is about in this run."""

    firings: list[Firing] = field(default_factory=list)
    series: int = 0
    to_step: int = -1
    complete: bool = True


def try_rule(store: Store, run: Run, rule: Rule, *, timer: Callable[[], float] = time.monotonic) -> Trial:
    """Judges all stored rows of the run's newest course by the rule."""
    info = next(
        (i for i in store.statistics(run.id) if (i.name, i.scope) == (rule.statistic, rule.scope)), None
    )
    if info is None or run.last_step < 0:
        return Trial()
    names, columns = _series(store, run, rule, info.width)
    if not names:
        return Trial()
    test = BackTest(rule, names)
    size = max(256, min(MOST_REPLAYED, CELLS // len(names)))
    deadline = timer() + SECONDS
    ranges = _ranges(store, run, rule, columns)
    step = max(0, run.first_step)
    while step <= run.last_step:
        if test.quiet and ranges is not None:
            while ranges and ranges[0][1] <= step:
                ranges.pop(0)
            if not ranges:
                break
            step = max(step, ranges[0][0])
        end = min(step + size, run.last_step + 1)
        if ranges and test.quiet:
            end = min(end, max(ranges[0][1], step + 256))
        test.feed(read_rows(store, run.id, rule.statistic, rule.scope, step, end, columns))
        step = end
        if timer() > deadline:
            return Trial(
                firings=test.firings, series=len(names), to_step=step - 1, complete=step > run.last_step
            )
    return Trial(firings=test.firings, series=len(names), to_step=run.last_step)


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


def _ranges(store: Store, run: Run, rule: Rule, columns: Sequence[int]) -> list[tuple[int, int]] | None:
    """Steps (from, to) outside of which nothing breaches, None when only the values themselves can tell."""
    if rule.condition != "nonfinite" and not is_plain(rule):
        return None
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
