"""What goes out comes back: tables and logs say exactly what was sent, and a TensorBoard log becomes the same run again."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas
import pytest
from tests.server.live_server import Running, serving

import gradwatch
from gradwatch import query
from gradwatch.event_logs import import_logs
from gradwatch_server.data_commands import Meter
from gradwatch_server.store.schema import open_reader
from gradwatch_server.store.table_export import export_tables

LAYERS = ("a.weight", "a.bias")
STEPS = 600


def norm(step: int, layer: int) -> float:
    """NaN at 7, Inf at 8, zero at 9; the bias has no gradient at each tenth step (see :func:`send`)."""
    return {7: math.nan, 8: math.inf, 9: 0.0}.get(step, (step + 1) / (layer + 3))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """Unlike elsewhere: the server's pool keeps its threads until it is asked no more."""


def send(running: Running) -> str:
    """A run of two layers; its id."""
    with gradwatch.watch(server=running.url, token=running.services.token, project="p", name="n") as run:
        for step in range(STEPS):
            norms = {name: norm(step, i) for i, name in enumerate(LAYERS) if i == 0 or step % 10}
            run.record(step, norms, loss=1 / (step + 1))
    return run.id


def sent() -> npt.NDArray[np.float32]:
    """``[steps, layers]``, absent as -1."""
    rows = [[norm(step, i) if i == 0 or step % 10 else -1.0 for i in range(2)] for step in range(STEPS)]
    return np.array(rows, dtype=np.float32)


def read(frame: pandas.DataFrame) -> npt.NDArray[np.float32]:
    """The same of a table in which what is absent is ``<NA>``."""
    columns = [[-1.0 if item is pandas.NA else item for item in frame[name].array] for name in LAYERS]
    return np.array(columns, dtype=np.float32).T


def test_tables_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "client"))
    with serving(tmp_path / "server") as running:
        run_id = send(running)
        reader = open_reader(running.services.config.database)
        for form in ("csv", "parquet", "tensorboard"):
            export_tables(reader, run_id, tmp_path / form, form)
        reader.close()

        told = pandas.read_csv(tmp_path / "csv" / "tensor-grad_norm.csv", dtype=str, keep_default_na=False)
        cells = [[-1.0 if cell == "" else float(cell) for cell in told[name]] for name in LAYERS]
        np.testing.assert_array_equal(np.array(cells, dtype=np.float32).T, sent())
        arrow = pandas.read_parquet(
            tmp_path / "parquet" / "tensor-grad_norm.parquet", dtype_backend="pyarrow"
        )
        there = [[-1.0 if item is pandas.NA else item for item in arrow[name]] for name in LAYERS]
        np.testing.assert_array_equal(np.array(there, dtype=np.float32).T, sent())
        losses = pandas.read_parquet(tmp_path / "parquet" / "run-loss.parquet")["value"]
        assert losses.tolist() == [1 / (step + 1) for step in range(STEPS)]

        options = {"server": running.url, "token": running.services.token, "project": "again"}
        assert import_logs(tmp_path / "tensorboard", options=options, tell=lambda text: None) == 1
        runs = query.connect(running.url, token=running.services.token)
        table = runs.runs()
        (again,) = table[table["project"] == "again"]["id"]
        back = runs.run(again)
        assert back.layers == list(LAYERS)
        np.testing.assert_array_equal(read(back.norms()), sent())
        np.testing.assert_array_equal(
            back.scalars("loss")["loss"].to_numpy(np.float32),
            np.array([1 / (step + 1) for step in range(STEPS)], dtype=np.float32),
        )
        first, second = (runs.run(one).norms()["time"] for one in (run_id, again))
        np.testing.assert_array_equal(first, second)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        meter = Meter(stream)
        meter("grad_norm", 50, 100)
        meter("grad_norm", 100, 100)
        meter("loss", 12_345)
        meter.end()
    half, whole, count, _ = terminal.getvalue().removeprefix("\r").split("\r")[:4]
    assert half.split() == ["grad_norm", "############", "50%"]
    assert whole.split() == ["grad_norm", "#" * 24, "100%"]
    assert count.split() == ["loss", "12,345"]
    assert file.getvalue() == ""
