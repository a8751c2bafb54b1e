"""Tables say exactly what was sent."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from tests.server.store.helpers import RUN, WAIT, opened

from gradwatch.protocol import Batch, Block, Schema, Statistic, Tensor
from gradwatch_server.errors import NotFound, StoreError
from gradwatch_server.store import Store
from gradwatch_server.store.schema import open_reader
from gradwatch_server.store.table_export import export_tables

TENSORS = ('a "quoted", name', "=b\nnew line")


def test_a_csv_file_of_each_statistic(tmp_path: Path) -> None:
    path = str(tmp_path / "gradwatch.db")
    store = Store.open(path, clock=lambda: 1000.0, background=False)
    stream = opened(store).stream
    statistics = (
        Statistic(name="grad_norm", scope="tensor", width=2),
        Statistic(name="val/loss", scope="run", dtype="f8", logged=True),
        Statistic(name="val:loss", scope="run", dtype="f8", logged=True),
    )
    schema = Schema(seq=0, id=0, statistics=statistics, tensors=tuple(Tensor(name=name) for name in TENSORS))
    steps = np.arange(8000.0)
    sent = np.random.default_rng(10).random((8000, 2), dtype=np.float32)
    sent[3] = (np.nan, -np.inf)
    present = np.ones(sent.shape, np.bool_)
    present[4, 1] = False
    loss = np.array([[0.1], [1e-300]])
    blocks = (
        Block(statistic=0, steps=steps, times=1.7e9 + steps / 3, values=sent, present=present),
        Block(statistic=1, steps=steps[:2], times=steps[:2], values=loss),
        Block(statistic=2, steps=steps[:2], times=steps[:2], values=2 * loss),
    )
    store.append(stream, [schema, Batch(seq=1, schema=0, blocks=blocks)]).done.result(WAIT)
    store.compact()
    reader = open_reader(path)
    written = export_tables(reader, RUN, tmp_path / "out", "csv")
    assert [one.name for one in written] == [
        "tensor-grad_norm.csv",
        "group-grad_norm.csv",
        "run-val_loss.csv",
        "run-val_loss-3.csv",
    ]
    with written[0].open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "time", TENSORS[0], "'" + TENSORS[1]], "no formula for a spreadsheet"
    assert len(rows) == 8000
    for step, (number, time, *cells) in enumerate(rows):
        assert int(number) == step and float(time) == 1.7e9 + step / 3
        for i, cell in enumerate(cells):
            value = float(sent[step, i])
            assert (cell == "") if not present[step, i] else (float(cell) == value or math.isnan(value))
    assert written[3].read_text().splitlines()[1:] == ["0,0.0,0.2", "1,1.0,2e-300"]
    with pytest.raises(StoreError, match="exists already"):
        export_tables(reader, RUN, tmp_path / "out", "csv")
    with pytest.raises(NotFound):
        export_tables(reader, "unknown", tmp_path / "other", "csv")
    reader.close()
    store.close()
