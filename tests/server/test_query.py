"""Reading runs in Python gives what was sent, value by value: over HTTP and from the file, with pandas and polars."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
import polars
import pytest
import torch
from tests.server.live_server import Running, serving

import gradwatch
from gradwatch import query
from gradwatch.errors import ConfigError, GradwatchError
from gradwatch.query.figures import Panel, draw
from gradwatch.query.source import Buckets

LAYERS = ("blocks.0.weight", "blocks.0.bias", "head.weight")
STEPS = 300


def norms(step: int) -> dict[str, float]:
    """One layer has no gradient at step 5; at 7 there is NaN, at 8 Inf, at 9 an exact zero, at 150 a spike."""
    values = {name: (step + 1) / (i + 3) for i, name in enumerate(LAYERS)}
    if step == 5:
        del values["blocks.0.bias"]
    special = {7: math.nan, 8: math.inf, 9: 0.0, 150: 1e9}
    return {**values, "head.weight": special.get(step, values["head.weight"])}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """Unlike elsewhere: the server of these tests keeps its threads from its first request to its end."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A server, and the id of a run on it."""
    folder = tmp_path_factory.mktemp("query")
    with serving(folder) as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRADWATCH_DIR", str(folder / "client"))
            with gradwatch.watch(
                server=running.url, token=running.services.token, project="p", name="n", config={"lr": 0.1}
            ) as run:
                for step in range(STEPS):
                    run.record(step, norms(step), loss=1 / (step + 1))
                    if step % 100 == 0:
                        run.log({"val/loss": step / 7})
                run.mark("checkpoint", path="last.pt")
        yield running, run.id


@pytest.fixture(params=["http", "file"])
def where(request: pytest.FixtureRequest, stored: tuple[Running, str]) -> dict[str, Any]:
    """Arguments of ``connect``."""
    running, _ = stored
    if request.param == "http":
        return {"where": running.url, "token": running.services.token}
    return {"where": running.services.config.database}


@pytest.fixture
def run_id(stored: tuple[Running, str]) -> str:
    return stored[1]


def columns(frame: Any) -> dict[str, tuple[npt.NDArray[np.float64], list[bool]]]:
    """Values and presence of each column of either kind of table."""
    found = {}
    for name in frame.columns:
        if isinstance(frame, polars.DataFrame):
            there = frame[name].is_not_null().to_list()
            values = frame[name].fill_null(0).to_numpy()
        else:
            nullable = isinstance(frame[name].dtype, pandas.Float64Dtype)
            there = [item is not pandas.NA for item in frame[name].array] if nullable else [True] * len(frame)
            values = np.array([0.0 if item is pandas.NA else item for item in frame[name].array])
        found[name] = np.asarray(values, np.float64), there
    return found


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_norms_and_scalars_are_what_was_sent(where: dict[str, Any], run_id: str, kind: str) -> None:
    run = query.connect(**where, frames=kind).run(run_id)
    assert (run.project, run.name, run.state, run.config) == ("p", "n", "finished", {"lr": 0.1})
    assert run.layers == list(LAYERS)
    table = columns(run.norms())
    assert list(table) == ["step", "time", *LAYERS]
    assert table["step"][0].tolist() == list(range(STEPS))
    for name in LAYERS:
        values, there = table[name]
        assert there == [name in norms(step) for step in range(STEPS)]
        want = np.array([norms(step).get(name, 0.0) for step in range(STEPS)], dtype=np.float32)
        np.testing.assert_array_equal(values[there], want.astype(np.float64)[there])
    scalars = columns(run.scalars("loss", "val/loss"))
    assert scalars["loss"][0].tolist() == [1 / (step + 1) for step in range(STEPS)]
    sparse, there = scalars["val/loss"]
    assert np.flatnonzero(there).tolist() == [0, 100, 200]
    assert sparse[there].tolist() == [0.0, 100 / 7, 200 / 7]
    assert (np.diff(scalars["time"][0]) >= 0).all() and scalars["time"][0][0] > 1.7e9


def test_a_window_and_a_pattern(where: dict[str, Any], run_id: str) -> None:
    run = query.connect(**where).run(run_id)
    table = run.norms("blocks.*", start=10, stop=20)
    assert list(table.columns) == ["step", "time", "blocks.0.weight", "blocks.0.bias"]
    assert table["step"].tolist() == list(range(10, 20))
    assert len(run.norms(start=STEPS)) == 0
    assert set(run.scalars().columns) == {"step", "time", "global_grad_norm", "loss", "val/loss"}
    (mark,) = run.marks().to_dict("records")
    assert mark["kind"] == "checkpoint" and json.loads(mark["data"]) == {"path": "last.pt"}


def test_runs_and_incidents(where: dict[str, Any], run_id: str) -> None:
    runs = query.connect(**where)
    (row,) = runs.runs().to_dict("records")
    assert (row["id"], row["project"], row["steps"]) == (run_id, "p", STEPS)
    incidents = runs.run(run_id).incidents()
    assert {"kind", "severity", "first_step", "sentence", "origin", "cause", "card"} <= set(incidents.columns)
    found = incidents[incidents["kind"] == "nonfinite"].to_dict("records")
    assert found and found[0]["first_step"] == 7 and found[0]["origin"] == "head.weight"


def test_a_figure_shows_a_spike_of_one_step(where: dict[str, Any], run_id: str) -> None:
    run = query.connect(**where).run(run_id)
    figure = run.figure(points=80)
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    assert list(heat.y) == list(LAYERS) and heat.z.shape == (3, 75)
    assert heat.z[2].max() == pytest.approx(9) and heat.x[0] == 1.5
    assert [note.text for note in figure.layout.annotations] == ["global_grad_norm", "grad_norm", "loss"]
    (line,) = run.figure("val/loss").data
    assert np.asarray(line.y)[[0, 100, 200]].tolist() == pytest.approx([0.0, 100 / 7, 200 / 7])


def test_a_histogram_has_come_from_the_model_whole(
    stored: tuple[Running, str], where: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, recorded = stored
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    model = torch.nn.Linear(7, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradwatch.watch(
        model, optimizer, server=running.url, token=running.services.token, name="h", budget=1e6
    ) as run:
        model(torch.ones(1, 7)).pow(3).sum().backward()
        optimizer.step()
    sizes = np.abs(model.weight.grad.double().numpy())
    stored_run = query.connect(**where).run(run.id)
    table = stored_run.histogram("weight", step=7)
    assert set(table["step"]) == {0} and table["count"].sum() == 35
    inside = [
        ((sizes >= low) & (sizes < high)).sum() for low, high in zip(table["low"], table["high"], strict=True)
    ]
    assert table["count"].tolist() == [(sizes == 0).sum(), *inside[1:-1], 0]
    with pytest.raises(GradwatchError, match="2 tensors match"):
        stored_run.histogram("*")
    with pytest.raises(GradwatchError, match="no statistic 'grad_histogram'"):
        query.connect(**where).run(recorded).histogram("head.weight")


def test_what_is_not_there_is_a_sentence(where: dict[str, Any], run_id: str) -> None:
    runs = query.connect(**where)
    with pytest.raises(GradwatchError, match="no such run|no run"):
        runs.run("nosuch")
    run = runs.run(run_id)
    with pytest.raises(GradwatchError, match="no tensor of run .* matches 'nosuch'"):
        run.norms("nosuch")
    with pytest.raises(GradwatchError, match="has no 'nosuch'; there is: .*loss"):
        run.figure("nosuch")
    with pytest.raises(GradwatchError, match="has no 'loss'"):
        run.norms(statistic="loss")


def test_who_is_asked_without_saying(
    stored: tuple[Running, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, run_id = stored
    monkeypatch.setenv("GRADWATCH_SERVER", running.url)
    monkeypatch.setenv("GRADWATCH_TOKEN", running.services.token)
    assert query.connect().run(run_id).name == "n"
    monkeypatch.setenv("GRADWATCH_TOKEN", "wrong")
    with pytest.raises(GradwatchError, match="token is not right"):
        query.connect().runs()
    monkeypatch.delenv("GRADWATCH_SERVER")
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    with pytest.raises(GradwatchError, match="there is no database"):
        query.connect()
    with pytest.raises(GradwatchError, match="no gradwatch server answers"):
        query.connect("http://127.0.0.1:9").runs()
    with pytest.raises(ConfigError, match="one of pandas, polars"):
        query.connect(running.url, frames="numpy")


def test_long_runs_come_in_pieces(stored: tuple[Running, str], monkeypatch: pytest.MonkeyPatch) -> None:
    running, run_id = stored
    run = query.connect(running.url, token=running.services.token).run(run_id)
    whole = run.norms()
    monkeypatch.setattr("gradwatch.query.source.MOST_STEPS", 7)
    pandas.testing.assert_frame_equal(run.norms(), whole)


def test_what_is_not_installed_is_a_sentence() -> None:
    """In an interpreter that finds none of them."""
    code = """
import sys
from importlib.abc import MetaPathFinder
class Blind(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "polars", "plotly"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blind())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("pandas", "polars") else find(name, *more)
from gradwatch.query.frames import maker
from gradwatch.query.figures import draw
for work in (lambda: maker(None), lambda: maker("polars"), lambda: draw("", [], None)):
    try:
        work()
    except Exception as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode()
    assert said.splitlines() == [
        "tables need pandas or polars: pip install pandas",
        "tables need polars: pip install polars",
        "figures need Plotly: pip install plotly",
    ]


def test_wide_buckets_are_drawn_with_their_extremes() -> None:
    planes = [np.array([[value] * 3]) for value in (1.0, 3.0, 2.0)]
    figure = draw("t", [Panel("x", ["x"], Buckets(16, 2, *planes))], 300)
    low, high, last = figure.data
    assert (low.y[0], high.y[0], last.y[0]) == (1.0, 3.0, 2.0)
    assert high.fill == "tonexty" and list(last.x) == [39.5, 55.5, 71.5] and figure.layout.height == 300
