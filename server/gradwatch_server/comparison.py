"""A comparison of runs frozen into one HTML file, as :mod:`.snapshot` does it for one: it holds what a link to it shows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from .alerts.sentences import clean, number
from .models import FLAG_INF, FLAG_NAN, Run, SeriesQuery
from .snapshot import MOST_LINES, POINTS, line_of, named, rank_of, settings_of
from .snapshot_file import Parts, document, file_name
from .store import Store, alert_queries, health_queries

__all__ = ["Axis", "Compared", "build", "compare", "name_of"]

Axis = Literal["step", "time"]

ANCHORS: Final = 16
"""Steps whose times are read to draw a run over time; between them time is taken to pass evenly."""

MOST_ALERTS: Final = 1_000
_UNITS: Final = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What the file shows of one run. ``lines`` by name of the statistic; ``anchors``: steps and their times."""

    run: Run
    lines: Mapping[str, dict[str, Any]]
    anchors: tuple[list[float], list[float]]
    health: str
    incident: Mapping[str, Any] | None
    """The first that is no mere information."""
    alerts: int
    bad: int | None
    """First step with a norm that isn't finite."""


def compare(store: Store, run: Run, axis: Axis) -> Compared:
    """Reads what a comparison over ``axis`` shows of a run. Blocks."""
    names = named(store, run)[:MOST_LINES] if run.last_step >= 0 else []
    health = store.database.read(lambda conn: health_queries.summaries(conn, [run.id]))
    incidents = store.database.read(lambda conn: health_queries.list_incidents(conn, run.id))
    alerts = store.database.read(
        lambda conn: alert_queries.list_alerts(conn, run_id=run.id, limit=MOST_ALERTS)
    )
    grave = [one for one in incidents if one["severity"] != "info"]
    return Compared(
        run=run,
        lines={name: line_of(store, run, name) for name in names},
        anchors=_anchors(store, run, names[:1] if axis == "time" else []),
        health=str(health.get(run.id, {}).get("sentence", "")) or "not judged",
        incident=min(grave, key=lambda one: int(one["first_step"]), default=None),
        alerts=len(alerts),
        bad=_first_bad(store, run) if "global_grad_norm" in names else None,
    )


def _anchors(store: Store, run: Run, names: Sequence[str]) -> tuple[list[float], list[float]]:
    """Steps spread over the run, ascending, and when they were taken."""
    found: dict[float, float] = {}
    for step in np.linspace(max(run.first_step, 0), max(run.last_step, 0), ANCHORS + 1):
        for name in names:
            one = store.values(run.id, name, "run", (0,), int(step), None, 1)
            found.update(zip(one.steps.tolist(), one.times.tolist(), strict=True))
    # What was thinned has no times of single steps: the start and the end are known of every run.
    found.setdefault(float(max(run.first_step, 0)), run.created_at)
    found.setdefault(float(max(run.last_step, 0)), run.last_time)
    steps = sorted(found)
    return steps, [found[step] for step in steps]


def _first_bad(store: Store, run: Run) -> int | None:
    """The bucket that holds the first is asked for again, finer, until it is one step or nothing finer is stored."""
    start, end, before = 0, run.last_step + 1, 0
    while True:
        query = SeriesQuery(
            statistic="global_grad_norm", scope="run", from_step=start, to_step=end, points=POINTS
        )
        series = store.series(run.id, query)
        odd = np.flatnonzero(series.flags[0] & (FLAG_NAN | FLAG_INF))
        if not odd.size:
            return start if before else None
        start = (series.first_bucket + int(odd[0])) * series.width
        if series.width in (1, before):
            return start
        before, end = series.width, start + series.width


def build(compared: Sequence[Compared], axis: Axis, parts: Parts, made: str) -> str:
    """The file. ``made`` says when it was made, for people."""
    names = [clean(one.run.name) for one in compared]
    unit, seconds = _unit(compared) if axis == "time" else ("step", 0.0)
    statistics = sorted({name for one in compared for name in one.lines}, key=rank_of)[:MOST_LINES]
    charts = []
    for name in statistics:
        lines = [
            {**_placed(one, one.lines[name], seconds), "run": place}
            for place, one in enumerate(compared)
            if name in one.lines
        ]
        charts.append({"name": clean(name), "log": lines[0]["log"], "lines": lines})
    data = {
        "compared": {
            "runs": names,
            "x": f"{unit} since each run's first step" if seconds else unit,
            "charts": charts,
        }
    }
    sections = _table("Verdict", names, _verdict(compared))
    sections += _table("What was set differently", names, _differences([one.run for one in compared]))
    return document(
        parts,
        title="Comparison: " + ", ".join(names),
        lead=_who_first(compared),
        facts="Runs " + ", ".join(one.run.id for one in compared) + f". Frozen {made}.",
        sections=sections,
        data=data,
    )


def _placed(one: Compared, line: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """``line`` over steps, or in units of so many ``seconds`` since the run's first step."""
    if not seconds:
        return dict(line)
    steps, times = one.anchors

    def place(at: Sequence[int]) -> list[float]:
        passed = (np.interp(at, steps, times) - times[0]) / seconds
        return [float(f"{value:.6g}") for value in passed.tolist()]

    return {**line, "x": place(line["x"]), "odd": place(line["odd"])}


def _unit(compared: Sequence[Compared]) -> tuple[str, float]:
    longest = max(one.anchors[1][-1] - one.anchors[1][0] for one in compared)
    return next((unit for unit in _UNITS if longest >= 2 * unit[1]), _UNITS[-1])


def _verdict(compared: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    def row(label: str, text: Any) -> tuple[str, list[str]]:
        return label, [text(one) for one in compared]

    def newest(name: str) -> Any:
        return lambda one: number(one.run.summary[name]) if name in one.run.summary else ""

    return [
        row("State", lambda one: one.run.state),
        row("Health", lambda one: one.health),
        row("First incident", lambda one: _incident(one) or "none"),
        row("Where it began", _where),
        row("First NaN or Inf", lambda one: "none" if one.bad is None else f"step {one.bad:,}"),
        row("Alerts", lambda one: f"{one.alerts:,}" + ("" if one.alerts < MOST_ALERTS else " or more")),
        row("Norm, newest", newest("global_grad_norm")),
        row("Loss, newest", newest("loss")),
        row("Steps", lambda one: f"{one.run.last_step + 1:,}"),
    ]


def _incident(one: Compared) -> str:
    return "" if one.incident is None else f"{one.incident['kind']}, step {int(one.incident['first_step']):,}"


def _where(one: Compared) -> str:
    origin = (one.incident or {}).get("origin") or {}
    return str(origin.get("tensor") or "")


def _who_first(compared: Sequence[Compared]) -> str:
    """Which run left its normal first, in a sentence."""
    ill = [one for one in compared if one.incident is not None]
    ill.sort(key=lambda one: int((one.incident or {})["first_step"]))
    if not ill:
        return "None of these runs had an incident."
    told = [f"{one.run.name} ({_incident(one)})" for one in ill]
    calm = [one.run.name for one in compared if one.incident is None]
    return (
        f"{told[0]} was first"
        + (f"; then {', '.join(told[1:])}." if told[1:] else ".")
        + (f" {' and '.join(calm)} had no incident." if calm else "")
    )


def _differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The settings that differ, as far as links show them."""
    settings = [dict(settings_of(run)) for run in runs]
    names = sorted({name for one in settings for name in one})
    rows = [(name, [one.get(name, "not set") for one in settings]) for name in names]
    return [row for row in rows if len(set(row[1])) > 1]


def _table(title: str, names: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A section of HTML; nothing where there are no rows."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(f"<{tag}>{html.escape(clean(text))}</{tag}>" for text in texts)

    body = "".join(f"<tr>{cells('th', [label])}{cells('td', texts)}</tr>" for label, texts in rows)
    if not body:
        return ""
    head = f"<thead><tr><td></td>{cells('th', names)}</tr></thead>"
    return f'<section class="wide"><h2>{title}</h2><table>{head}<tbody>{body}</tbody></table></section>\n'


def name_of(compared: Sequence[Compared]) -> str:
    """What the file is called."""
    return file_name("comparison-" + "-".join(one.run.name for one in compared), f"{len(compared)}-runs")
