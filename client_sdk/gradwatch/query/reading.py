"""Runs and their numbers as tables and figures."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from .. import local
from ..config import check_server, state_directory
from ..errors import GradwatchError
from ..protocol.histogram import CELLS, LOWEST_EXPONENT, OCTAVES
from .figures import Panel, draw
from .frames import Column, Make, maker
from .source import HttpSource, Source, Values

__all__ = ["Runs", "StoredRun", "connect"]


def connect(where: str | Path | None = None, *, token: str | None = None, frames: str | None = None) -> Runs:
    """The runs of a server or a database.

    Args:
        where: address of a server, a SQLite file, or a ``postgresql://`` URL. Default: ``GRADWATCH_SERVER``, the local
            server if one runs, else its database.
        token: for a server; default: ``GRADWATCH_TOKEN``, or the local server's own.
        frames: ``pandas`` or ``polars``; default: the first of them that is installed.

    Raises:
        ConfigError: an argument that can't be used.
        GradwatchError: nothing is there, or a package is missing.
    """
    return Runs(_source(where, token), maker(frames))


def _source(where: str | Path | None, token: str | None) -> Source:
    directory = state_directory(os.environ)
    server = local.find(directory)
    text = str(where) if where is not None else os.environ.get("GRADWATCH_SERVER", "")
    if not text:
        text = server.url if server is not None else str(directory / "gradwatch.db")
    if text.startswith(("http://", "https://")):
        own = next((one.token for one in local.running(directory) if one.url == text.rstrip("/")), "")
        known = token if token is not None else os.environ.get("GRADWATCH_TOKEN") or own
        return HttpSource(check_server(text, "where"), known)
    if not local.server_installed():
        raise GradwatchError(
            'to read a database the server must be installed: pip install "gradwatch[server]"'
        )
    address = text if "://" in text else os.path.expanduser(text)
    source: Source = importlib.import_module("gradwatch_server.query_source").DatabaseSource(address)
    return source


class Runs:
    """What a source holds. Tables are DataFrames of the package that was chosen."""

    def __init__(self, source: Source, make: Make) -> None:
        self._source = source
        self._make = make

    def runs(self) -> Any:
        """One row a run, the newest first: id, project, name, state, steps, times (Unix seconds), newest values."""
        found = self._source.runs()
        names = (
            "id",
            "project",
            "name",
            "state",
            "created_at",
            "finished_at",
            "steps",
            "last_step",
            "tensor_count",
        )
        columns = {name: Column([run.get(name) for run in found]) for name in names}
        for name in sorted({key for run in found for key in run.get("summary") or {}}):
            columns[name] = Column([_number((run.get("summary") or {}).get(name)) for run in found])
        return self._make(columns)

    def run(self, run_id: str) -> StoredRun:
        """A run by its id.

        Raises:
            GradwatchError: there is none.
        """
        return StoredRun(self._source, self._make, run_id, self._source.run(run_id))


class StoredRun:
    """A run: its numbers as tables with the columns ``step`` and ``time`` (Unix seconds), and as figures.

    Attributes:
        id, name, project, state: what they say.
        config: the captured configuration.
    """

    def __init__(self, source: Source, make: Make, run_id: str, detail: dict[str, Any]) -> None:
        run = detail["run"]
        self.id = run_id
        self.name: str = run["name"]
        self.project: str = run["project"]
        self.state: str = run["state"]
        self.config: Any = (run.get("context") or {}).get("config")
        self._source = source
        self._make = make
        self._statistics: list[dict[str, Any]] = [
            one for one in detail["statistics"] if one["scope"] in ("tensor", "run")
        ]
        self._names: list[str] = [tensor["name"] for tensor in source.tensors(run_id)]

    def __repr__(self) -> str:
        return f"<StoredRun {self.project}/{self.name} ({self.id}), {self.state}>"

    @property
    def statistics(self) -> list[str]:
        """The names of everything that was measured or logged."""
        return [one["name"] for one in self._statistics]

    @property
    def layers(self) -> list[str]:
        """The names of its tensors."""
        return list(self._names)

    def norms(
        self, layers: str = "*", *, statistic: str = "grad_norm", start: int = 0, stop: int | None = None
    ) -> Any:
        """A statistic of tensors, exact: gradient L2 norms, or another one of :attr:`statistics`, a column for each.

        Args:
            layers: a pattern over their names, such as ``"blocks.*.weight"``.
            start, stop: steps, the latter exclusive.

        Raises:
            GradwatchError: no tensor matches, or there is no such statistic.
        """
        self._find(statistic, "tensor")
        rows = self._rows(layers)
        values = self._source.values(self.id, statistic, "tensor", rows, start, stop)
        columns = _axes(values)
        for i, row in enumerate(rows):
            columns[self._names[row]] = Column(values.values[:, i], values.present[:, i])
        return self._make(columns)

    def scalars(self, *names: str, start: int = 0, stop: int | None = None) -> Any:
        """Numbers of the whole run, such as ``loss``, exact, on the steps at which any of them was said; all of them
        without ``names``. Those of several columns (``lr``) are ``lr/0``, ``lr/1`` ...

        Raises:
            GradwatchError: there is no such number.
        """
        wanted = [self._find(name, "run") for name in names] or [
            one for one in self._statistics if one["scope"] == "run"
        ]
        parts = {
            one["name"]: self._source.values(
                self.id, one["name"], "run", list(range(one["width"])), start, stop
            )
            for one in wanted
        }
        return self._make(_side_by_side(parts))

    def histogram(self, layer: str, *, step: int | None = None) -> Any:
        """How a tensor's gradient spread over powers of two at the sampled step nearest to ``step`` (default: the newest).

        A row for each cell: ``low`` and ``high``, between which absolute values lie (the latter exclusive; both 0 for
        exact zeros, both NaN for what is not finite), and ``count``; ``step`` is the same in all of them. Elements of a
        large tensor are a sample of 1,024. No rows if the tensor has no histogram.

        Raises:
            GradwatchError: there is no such tensor, or the run has no histograms.
        """
        rows = [self._names.index(layer)] if layer in self._names else self._rows(layer)
        if len(rows) > 1:
            raise GradwatchError(f"{len(rows)} tensors match {layer!r}; a histogram is of one")
        found = self._source.histogram(self.id, rows[0], step)
        edges = np.exp2(np.arange(LOWEST_EXPONENT, LOWEST_EXPONENT + OCTAVES + 1, dtype=np.float64))
        columns = {
            "step": np.full(CELLS, -1 if found is None else found.step),
            "low": np.array([0.0, 0.0, *edges, np.nan]),
            "high": np.array([0.0, *edges, np.inf, np.nan]),
            "count": np.zeros(CELLS, np.int64) if found is None else found.counts.astype(np.int64),
        }
        kept = CELLS if found is not None else 0
        return self._make({name: Column(values[:kept]) for name, values in columns.items()})

    def incidents(self) -> Any:
        """What the health engine found, the newest first: kind, severity, steps, the sentence, the tensor where it began,
        the likeliest cause, and the whole card as JSON."""
        found = self._source.incidents(self.id)
        names = ("id", "kind", "severity", "first_step", "opened_step", "closed_step", "sentence")
        columns = {name: Column([one[name] for one in found]) for name in names}
        columns["origin"] = Column([one["origin"]["tensor"] for one in found])
        columns["cause"] = Column([one["causes"][0]["label"] if one["causes"] else "" for one in found])
        columns["card"] = Column([json.dumps(one) for one in found])
        return self._make(columns)

    def marks(self) -> Any:
        """Checkpoints, notes, restarts: step, time, kind, data as JSON."""
        found = self._source.marks(self.id)
        columns = {name: Column([one[name] for one in found]) for name in ("step", "time", "kind")}
        columns["data"] = Column([json.dumps(one["data"]) for one in found])
        return self._make(columns)

    def figure(
        self,
        *names: str,
        layers: str = "*",
        start: int = 0,
        stop: int | None = None,
        points: int = 1_000,
        height: int | None = None,
    ) -> Any:
        """A Plotly figure with a panel for each of ``names``: lines for numbers of the run, a heat map of log10 over the
        layers for statistics of tensors. Without names: global norm, norms by layer, and loss, as far as there are any.
        Each point keeps the extremes of its steps, so that a spike of one step is seen at any length.

        Raises:
            GradwatchError: Plotly is not installed, or there is nothing of that name.
        """
        shown = names or tuple(
            name for name in ("global_grad_norm", "grad_norm", "loss") if name in self.statistics
        )
        panels = []
        for one in (self._find(name) for name in shown):
            scope, width = one["scope"], one["width"]
            rows = self._rows(layers) if scope == "tensor" else list(range(width))
            buckets = self._source.series(self.id, one["name"], scope, rows, start, stop, points)
            lines = [one["name"]] if width == 1 else [f"{one['name']}/{row}" for row in rows]
            labels = [self._names[row] for row in rows] if scope == "tensor" else lines
            panels.append(Panel(one["name"], labels, buckets, heat=scope == "tensor"))
        return draw(f"{self.project} / {self.name}", panels, height)

    def _find(self, name: str, scope: str | None = None) -> dict[str, Any]:
        fitting = {one["name"]: one for one in self._statistics if scope in (None, one["scope"])}
        if name in fitting:
            return fitting[name]
        there = ", ".join(fitting)
        raise GradwatchError(f"run {self.id} has no {name!r}; there is: {there or 'nothing'}")

    def _rows(self, layers: str) -> list[int]:
        rows = [i for i, name in enumerate(self._names) if fnmatchcase(name, layers)]
        if not rows:
            raise GradwatchError(f"no tensor of run {self.id} matches {layers!r}; see its .layers")
        return rows


def _number(value: Any) -> float | None:
    """Summaries come as JSON: numbers that are not finite are words."""
    return None if value is None else float(value)


def _axes(values: Values) -> dict[str, Column]:
    return {"step": Column(values.steps.astype(np.int64)), "time": Column(values.times)}


def _side_by_side(parts: dict[str, Values]) -> dict[str, Column]:
    """Several numbers on the union of their steps; the time is that of the first that has the step."""
    steps = np.unique(np.concatenate([part.steps for part in parts.values()] or [np.zeros(0)]))
    times = np.full(len(steps), np.nan)
    columns: dict[str, Column] = {}
    for name, part in parts.items():
        at = np.searchsorted(steps, part.steps)
        fresh = np.isnan(times[at])
        times[at[fresh]] = part.times[fresh]
        for i in range(part.values.shape[1]):
            values, present = np.full(len(steps), np.nan), np.zeros(len(steps), np.bool_)
            values[at], present[at] = part.values[:, i], part.present[:, i]
            columns[name if part.values.shape[1] == 1 else f"{name}/{i}"] = Column(values, present)
    return {"step": Column(steps.astype(np.int64)), "time": Column(times), **columns}
