"""Histograms: found by the nearest step, through every way that numbers take in a store."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.server.store.helpers import RUN, WAIT, declared, opened

from gradwatch.errors import ProtocolError
from gradwatch.protocol import Batch, Block, Bye, Schema, Statistic
from gradwatch.protocol.histogram import CELLS
from gradwatch_server.errors import NotFound
from gradwatch_server.store import Store
from gradwatch_server.store.archive import export_runs, import_runs
from gradwatch_server.store.maintenance import check
from gradwatch_server.store.retention import Limits
from gradwatch_server.store.schema import open_reader
from gradwatch_server.store.table_export import export_tables

NAMES = ("net.0.weight", "net.0.bias", "head.weight")
STEPS = 3000
EVERY = 50


def schema(seq: int = 0, id: int = 0, names: tuple[str, ...] = NAMES) -> Schema:
    return Schema(
        seq=seq,
        id=id,
        statistics=(
            Statistic(name="grad_norm", scope="tensor", width=len(names)),
            Statistic(name="grad_histogram", scope="histogram", width=len(names) * CELLS, cadence=EVERY),
        ),
        tensors=declared(names=names).tensors,
    )


def cells(step: int, name: str) -> npt.NDArray[np.float32]:
    """What was counted of a tensor at a step."""
    seed = step * 10 + len(name)
    return np.random.default_rng(seed).integers(0, 1024, CELLS).astype(np.float32)


def batch(seq: int, first: int, last: int, names: tuple[str, ...] = NAMES, *, schema: int = 0) -> Batch:
    """Norms at every step, histograms at every 50th; one tensor has no gradient at step 100."""
    steps = np.arange(first, last, dtype=np.float64)
    norms = Block(statistic=0, steps=steps, times=100 + steps, values=np.ones((len(steps), len(names))))
    sampled = steps[steps % EVERY == 0]
    values = np.array([np.concatenate([cells(int(step), name) for name in names]) for step in sampled])
    present = np.ones(values.shape, np.bool_)
    present[sampled == 100, :CELLS] = False
    block = Block(statistic=1, steps=sampled, times=100 + sampled, values=values, present=present)
    return Batch(seq=seq, schema=schema, blocks=(norms, block))


def fill(store: Store) -> None:
    stream = opened(store).stream
    store.append(stream, [schema()])
    for i in range(STEPS // 100):
        done = store.append(stream, [batch(i + 1, 100 * i, 100 * i + 100)]).done
    done.result(WAIT)


def asked(store: Store, tensor: int, step: int | None, **more: Any) -> tuple[int, list[float]] | None:
    found = store.histogram(RUN, tensor, step, **more)
    return None if found is None else (found.step, found.counts.tolist())


def expected(step: int, name: str) -> tuple[int, list[float]]:
    return step, cells(step, name).astype(np.float64).tolist()


def holds_what_was_sent(store: Store) -> None:
    for tensor, name in enumerate(NAMES):
        for step, nearest in ((0, 0), (24, 0), (25, 0), (26, 50), (1399, 1400), (2500, 2500), (9999, 2950)):
            assert asked(store, tensor, step) == expected(nearest, name)
        assert asked(store, tensor, None) == expected(2950, name)
    assert asked(store, 0, 100) == expected(50, NAMES[0]), "it had no gradient at 100"
    assert asked(store, 1, 100) == expected(100, NAMES[1])
    assert asked(store, 3, 100) is None, "no such tensor"


def test_the_nearest_is_found_before_and_after_it_is_put_in_order(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False)
    fill(store)
    holds_what_was_sent(store)
    store.compact()
    holds_what_was_sent(store)
    assert check(address) == []
    with pytest.raises(NotFound, match="no statistic"):
        opened(store, run_id="other", stream="o")
        store.histogram("other", 0)
    store.delete_run(RUN).result(WAIT)
    with pytest.raises(NotFound):
        store.histogram(RUN, 0)
    store.close()


def test_there_is_no_pyramid_of_them(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "g.db"), clock=lambda: 1000.0, background=False)
    fill(store)
    store.compact()
    rows = store.database.read(
        lambda conn: conn.exec_driver_sql("SELECT series, level, length(body) FROM blocks").all()
    )
    levels: dict[int, set[int]] = {}
    for series, level, _ in rows:
        levels.setdefault(series, set()).add(level)
    index = [one.name for one in store.statistics(RUN)].index("grad_histogram")
    assert levels[index] == {0} and any(2 in other for other in levels.values())
    store.close()


def test_tensors_in_another_order_and_later_ones(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False)
    fill(store)
    names = ("late.weight", *NAMES[::-1])
    stream = opened(store, stream="s1", segment="g1", start_step=2000).stream
    more = batch(1, 2000, 2600, names)
    store.append(stream, [schema(names=names), more, Bye(seq=2, state="finished", time=1.0)]).done.result(
        WAIT
    )
    for _ in range(2):
        assert asked(store, 0, 2200) == expected(2200, NAMES[0])
        assert asked(store, 3, 2200) == expected(2200, "late.weight")
        assert asked(store, 3, 0) == expected(2000, "late.weight"), "the earlier segment has none"
        assert asked(store, 2, 2800) == expected(2550, NAMES[2]), "the later segment replaces the earlier one"
        assert asked(store, 2, 2800, segment=0) == expected(2800, NAMES[2])
        store.compact()
    store.close()


def test_limits_thin_them_and_an_export_has_them(address: str, tmp_path: Path) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False)
    fill(store)
    reader = open_reader(address)
    export_runs(reader, tmp_path / "all.gwx")
    export_tables(reader, RUN, tmp_path / "tables", "csv")
    export_tables(reader, RUN, tmp_path / "events", "tensorboard")
    reader.close()
    target = Store.open(str(tmp_path / "target.db"), clock=lambda: 1000.0, background=False)
    import_runs(target, tmp_path / "all.gwx")
    holds_what_was_sent(target)
    target.close()
    with (tmp_path / "tables" / "histogram-grad_histogram.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == [str(step) for step in range(0, STEPS, EVERY)]
    assert float(table[1]["net.0.bias/2^-38"]) == cells(50, "net.0.bias")[2]
    assert table[2]["net.0.weight/zero"] == ""

    store.compact()
    before = store.sizes()[RUN]
    store.close()
    store = Store.open(address, clock=lambda: 1000.0, background=False, limits=Limits(most_bytes=1))
    store.compact()
    left = store.histogram(RUN, 1, 0)
    assert left is not None and left.step == 2600, (
        "the newest chunk stays, from 2560 on, and what is in none yet"
    )
    assert store.sizes()[RUN] < 0.5 * before
    assert check(address) == []
    store.close()


def test_a_histogram_of_another_width_is_refused(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False)
    stream = opened(store).stream
    wrong = Statistic(name="grad_histogram", scope="histogram", width=CELLS)
    with pytest.raises(ProtocolError, match="48 columns for 3 tensors"):
        store.append(stream, [Schema(seq=0, id=0, statistics=(wrong,), tensors=schema().tensors)])
    store.close()
