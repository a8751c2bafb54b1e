"""A run frozen into one HTML file: it opens with no server and no network, and its charts still zoom.

It holds what a share link shows, nothing more; data and plotly.js stand inside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .alert_plain import alert_plain
from .alerts.sentences import clean
from .errors import Invalid
from .models import FLAG_INF, FLAG_NAN, Alert, Run, Series, SeriesQuery
from .privacy import sift
from .snapshot_file import Parts, document, file_name
from .store import Store

__all__ = ["Look", "build", "line_of", "look_at", "name_of", "named", "rank_of", "settings_of", "spread"]

POINTS: Final = 800
MOST_LINES: Final = 12
MOST_ROWS: Final = 150
"""Layers in the heat map; of more, the groups are drawn instead, then the first so many."""

MOST_SETTINGS: Final = 500

FIRST: Final = ("global_grad_norm", "global_grad_norm_clipped", "loss")
"""Run-level statistics that are drawn before all others."""

_LEFT_OUT: Final = ("clip_coef", "clip_limit", "skipped", "loss_scale", "step_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a snapshot shows: the run, its numbers as plain data, its alerts, and how it does in a sentence."""

    run: Run
    steps: list[int]
    lines: list[dict[str, Any]]
    heat: dict[str, Any] | None
    alerts: Sequence[Alert]
    sentence: str
    settings: list[tuple[str, str]]
    """Dotted names and texts of the settings that a link shows."""


def look_at(
    store: Store,
    run: Run,
    alerts: Sequence[Alert],
    sentence: str,
    from_step: int = 0,
    to_step: int | None = None,
) -> Look:
    """Reads what a snapshot of steps ``from_step`` to ``to_step`` (exclusive, None for all) shows. Blocks.

    Raises:
        Invalid: there is nothing in that range.
    """
    end = min(to_step or run.last_step + 1, run.last_step + 1)
    start = max(from_step, run.first_step, 0)
    if start >= end:
        raise Invalid("This run has no steps there.", {"from": "There are no steps there."})
    buckets, width = spread(start, end)
    known = store.statistics(run.id)
    names = named(store, run)

    def read(statistic: str, scope: str, rows: tuple[int, ...] | None) -> _Table:
        query = SeriesQuery(
            statistic=statistic, scope=scope, rows=rows, from_step=start, to_step=end, points=len(buckets)
        )
        return _Table.of(store.series(run.id, query), buckets, width)

    lines = [_line(name, read(name, "run", None), buckets, width) for name in names[:MOST_LINES]]
    scopes = {info.scope for info in known if info.name == "grad_norm"}
    heat = _heat(store, run, read) if "tensor" in scopes else None
    steps = [bucket * width for bucket in buckets]
    return Look(
        run=run,
        steps=steps,
        lines=lines,
        heat=heat,
        alerts=alerts,
        sentence=sentence,
        settings=settings_of(run),
    )


def spread(start: int, end: int) -> tuple[range, int]:
    """The buckets that steps ``start`` to ``end`` (exclusive) are drawn with, and their width in steps."""
    width = 1
    while (end - start) / width > POINTS:
        width *= 4
    return range(start // width, (end - 1) // width + 1), width


def named(store: Store, run: Run) -> list[str]:
    """The run-level statistics that are drawn of a run, the most telling first."""
    names = [
        info.name
        for info in store.statistics(run.id)
        if info.scope == "run" and info.width == 1 and info.name not in _LEFT_OUT
    ]
    return sorted(names, key=rank_of)


def rank_of(name: str) -> tuple[int, str]:
    """Where a run-level statistic stands among others."""
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


def line_of(store: Store, run: Run, name: str) -> dict[str, Any]:
    """A run-level statistic over the whole run, with its steps. Blocks."""
    start, end = max(run.first_step, 0), run.last_step + 1
    buckets, width = spread(start, end)
    query = SeriesQuery(statistic=name, scope="run", from_step=start, to_step=end, points=len(buckets))
    table = _Table.of(store.series(run.id, query), buckets, width)
    return {**_line(name, table, buckets, width), "x": [bucket * width for bucket in buckets]}


def settings_of(run: Run) -> list[tuple[str, str]]:
    """The first settings of a run, as far as its links show them."""
    found = ((clean(name), clean(text)) for name, text in _flat(sift(run.context).config, ""))
    return list(islice(found, MOST_SETTINGS))


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else key)
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """A series laid over the snapshot's own buckets, ``[rows, n]``; NaN where there is nothing."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    odd: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, series: Series, buckets: range, width: int) -> _Table:
        """Buckets of the series may be narrower: each goes into the wider one that it lies in."""
        rows, n = series.last.shape
        low, high, last = (np.full((rows, len(buckets)), np.nan) for _ in range(3))
        odd = np.zeros((rows, len(buckets)), np.bool_)
        places = (np.arange(n) + series.first_bucket) * series.width // width - buckets.start
        for source, place in enumerate(places.tolist()):
            if 0 <= place < len(buckets):
                low[:, place] = np.fmin(low[:, place], series.low[:, source])
                high[:, place] = np.fmax(high[:, place], series.high[:, source])
                value = series.last[:, source]
                last[:, place] = np.where(np.isfinite(value), value, last[:, place])
                odd[:, place] |= (series.flags[:, source] & (FLAG_NAN | FLAG_INF)) != 0
        return cls(low, high, last, odd)


def _line(name: str, table: _Table, buckets: range, width: int) -> dict[str, Any]:
    odd = [(buckets.start + place) * width for place in np.flatnonzero(table.odd[0]).tolist()]
    return {
        "name": clean(name),
        "low": _numbers(table.low[0]),
        "high": _numbers(table.high[0]),
        "last": _numbers(table.last[0]),
        "odd": odd[:200],
        "log": "norm" in name or name == "lr",
    }


def _heat(store: Store, run: Run, read: Any) -> dict[str, Any]:
    """Deviation of each layer from its own normal in the snapshot: robust z-score of log2 of the norm, cut at +-6."""
    tensors, groups = store.tensors(run.id), store.groups(run.id)
    whole = len(tensors) <= MOST_ROWS or not groups
    scope = "tensor" if whole else "group"
    names = [tensor.name for tensor in tensors] if whole else [group.path or "(all)" for group in groups]
    names = [clean(name) for name in names]
    rows = tuple(range(min(len(names), MOST_ROWS)))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(np.where(np.isposinf(high := read("grad_norm", scope, rows).high), np.nan, high))
    logs[~np.isfinite(logs)] = np.nan
    z = np.full(logs.shape, np.nan)
    for row in range(len(logs)):
        known = logs[row][~np.isnan(logs[row])]
        if known.size:
            centre = np.median(known)
            spread = max(1.4826 * float(np.median(np.abs(known - centre))), 0.15)
            z[row] = np.clip((logs[row] - centre) / spread, -6, 6)
    kind = "layer" if whole else "group of layers"
    title = f"Gradient norm of each {kind}: deviation from its own normal (log2, robust z-score)"
    if len(names) > len(rows):
        title += f"; the first {len(rows)} of {len(names):,}"
    return {"title": title, "names": [names[row] for row in rows], "z": [_numbers(row) for row in z]}


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]


def build(look: Look, parts: Parts, made: str) -> str:
    """The file. ``made`` says when it was made, for people."""
    run = look.run
    facts = f"Run {run.id}, {run.state}; steps {look.steps[0]:,} to {run.last_step:,}, {run.tensor_count:,} tensors."
    data = {
        "steps": look.steps,
        "lines": look.lines,
        "heat": look.heat,
        "alerts": [_alert(alert) for alert in look.alerts],
        "settings": look.settings,
    }
    sections = (
        '<section><h2>Alerts</h2><ul id="alerts"></ul></section>\n'
        '<section id="settings"><h2>Configuration</h2><dl></dl></section>\n'
    )
    title = f"{run.project} / {run.name}"
    return document(
        parts, title=title, lead=look.sentence, facts=f"{facts} Frozen {made}.", sections=sections, data=data
    )


def _alert(alert: Alert) -> dict[str, Any]:
    plain = alert_plain(alert, full=False)
    text = plain["sentence"]
    if alert.cleared_step is not None:
        text += f" Cleared at step {alert.cleared_step:,}."
    return {"text": text, "severity": alert.severity, "open": alert.cleared_step is None}


def name_of(run: Run) -> str:
    """What the file is called."""
    return file_name(f"{run.project}-{run.name}", f"step-{max(run.last_step, 0)}")
