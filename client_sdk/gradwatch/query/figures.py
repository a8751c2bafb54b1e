"""Plotly figures of what buckets hold."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GradwatchError
from .source import Buckets

__all__ = ["Panel", "draw"]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A panel: one label for each row of the buckets. ``heat``: as a heat map of log10 of the largest values."""

    title: str
    labels: Sequence[str]
    buckets: Buckets
    heat: bool = False


def draw(title: str, panels: Sequence[Panel], height: int | None) -> Any:
    """A figure with the panels below each other on one step axis.

    Raises:
        GradwatchError: Plotly is not installed.
    """
    try:
        graphs: Any = importlib.import_module("plotly.graph_objects")
        subplots: Any = importlib.import_module("plotly.subplots")
    except ImportError:
        raise GradwatchError("figures need Plotly: pip install plotly") from None
    count = max(len(panels), 1)
    figure = subplots.make_subplots(
        rows=count,
        shared_xaxes=True,
        vertical_spacing=0.3 / (count + 3),
        subplot_titles=[one.title for one in panels],
    )
    for number, panel in enumerate(panels, 1):
        for trace in _heat(graphs, panel) if panel.heat else _lines(graphs, panel):
            figure.add_trace(trace, row=number, col=1)
        if panel.heat:
            figure.update_yaxes(autorange="reversed", row=number, col=1)
        elif "norm" in panel.title:
            figure.update_yaxes(type="log", row=number, col=1)
    figure.update_xaxes(title_text="step", row=count, col=1)
    figure.update_layout(
        title=title, height=height or 120 + 240 * count, template="plotly_white", showlegend=False
    )
    return figure


def _heat(graphs: Any, panel: Panel) -> list[Any]:
    high = panel.buckets.high
    # Zero has no logarithm: an empty cell, like a layer without a gradient.
    shown = np.log10(np.where(high > 0, high, np.nan))
    bar = {"title": "log10", "thickness": 12}
    heat = graphs.Heatmap(
        x=panel.buckets.steps, y=list(panel.labels), z=shown, colorscale="Viridis", colorbar=bar
    )
    return [heat]


def _lines(graphs: Any, panel: Panel) -> list[Any]:
    """The newest value of each bucket, and behind it the stretch between the extremes."""
    steps, traces = panel.buckets.steps, []
    for i, label in enumerate(panel.labels):
        if panel.buckets.width > 1:
            plain = {
                "x": steps,
                "mode": "lines",
                "line": {"width": 0},
                "hoverinfo": "skip",
                "connectgaps": True,
            }
            traces.append(graphs.Scatter(y=panel.buckets.low[i], **plain))
            traces.append(
                graphs.Scatter(
                    y=panel.buckets.high[i], fill="tonexty", fillcolor="rgba(80, 120, 200, 0.25)", **plain
                )
            )
        traces.append(
            graphs.Scatter(x=steps, y=panel.buckets.last[i], mode="lines", name=label, connectgaps=True)
        )
    return traces
