"""An export taken in elsewhere is the same run."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.server.store.helpers import RUN, WAIT, batch, declared, opened

from gradwatch.protocol import Bye, Lost, Mark
from gradwatch_server.errors import Conflict, NotFound, StoreError
from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store
from gradwatch_server.store.archive import export_runs, import_runs
from gradwatch_server.store.schema import open_reader


def fill(store: Store) -> None:
    """Two segments, tensors that come later, a second rank, marks, losses, edits; partly in the tail."""
    random = np.random.default_rng(7)
    first = opened(store, context={"lr": 0.1, "none": None}).stream
    sent = random.random((1000, 4), dtype=np.float32)
    sent[5] = (np.nan, np.inf, 0, -0.0)
    store.append(first, [declared(), batch(1, 0, sent, present=random.random(sent.shape) < 0.9)]).done.result(
        WAIT
    )
    store.append(first, [Mark(seq=2, step=3, time=5.0, kind="note", data={"text": "x"})]).done.result(WAIT)
    other = opened(store, stream="r1", rank=1).stream
    store.append(other, [declared(), batch(1, 0, sent[:50])]).done.result(WAIT)
    second = opened(store, stream="s1", segment="g1", start_step=800).stream
    names = ("head.weight", "extra.weight")
    store.append(
        second,
        [
            declared(names=names),
            batch(1, 800, random.random((600, 2), dtype=np.float32)),
            Lost(seq=2, from_step=1400, to_step=1402, frames=3, reason="disk"),
            Bye(seq=3, state="failed", time=9.0, error={"type": "ValueError", "message": "no"}),
        ],
    ).done.result(WAIT)
    store.update_run(RUN, tags=["a", "b"], notes="kept").result(WAIT)
    store.compact()


def same(one: Store, other: Store) -> None:
    """Everything that can be asked of the run has the same answer."""
    assert one.run(RUN) == other.run(RUN)
    assert one.segments(RUN) == other.segments(RUN)
    assert one.tensors(RUN) == other.tensors(RUN)
    assert one.groups(RUN) == other.groups(RUN)
    assert [dataclasses.replace(mark, revision=0) for mark in one.marks(RUN)] == [
        dataclasses.replace(mark, revision=0) for mark in other.marks(RUN)
    ]
    for scope in ("tensor", "group"):
        for segment in (None, 0, 1):
            expected = one.values(RUN, "grad_norm", scope, segment=segment)
            found = other.values(RUN, "grad_norm", scope, segment=segment)
            for name in ("steps", "times", "values", "present"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        query = SeriesQuery(statistic="grad_norm", scope=scope, points=20)
        np.testing.assert_array_equal(other.series(RUN, query).high, one.series(RUN, query).high)


def test_an_export_taken_in_elsewhere_is_the_same_run(address: str, tmp_path: Path) -> None:
    source = Store.open(address, clock=lambda: 1000.0, background=False)
    fill(source)
    reader = open_reader(address)
    told: list[int] = []
    assert export_runs(reader, tmp_path / "all.gwx", progress=lambda run, done: told.append(done)) == [RUN]
    with pytest.raises(StoreError, match="exists already"):
        export_runs(reader, tmp_path / "all.gwx")
    with pytest.raises(NotFound):
        export_runs(reader, tmp_path / "one.gwx", ["unknown"])
    assert not (tmp_path / "one.gwx").exists()
    reader.close()
    assert told[-1] == sum(told[-1:]) > 6000
    target = Store.open(str(tmp_path / "target.db"), clock=lambda: 2000.0, background=False)
    assert import_runs(target, tmp_path / "all.gwx") == [RUN]
    same(source, target)
    target.compact()
    same(source, target)
    with pytest.raises(Conflict, match="here already"):
        import_runs(target, tmp_path / "all.gwx")
    source.close()
    target.close()


def test_a_damaged_export_leaves_nothing_behind(tmp_path: Path) -> None:
    source = Store.open(str(tmp_path / "source.db"), clock=lambda: 1000.0, background=False)
    fill(source)
    source.close()
    reader = open_reader(str(tmp_path / "source.db"))
    export_runs(reader, tmp_path / "whole.gwx", [RUN])
    reader.close()
    with zipfile.ZipFile(tmp_path / "whole.gwx") as whole, zipfile.ZipFile(tmp_path / "bad.gwx", "w") as bad:
        for name in whole.namelist():
            body = whole.read(name)
            bad.writestr(name, body[: len(body) // 2] if name.endswith("1-0.zst") else body)
    (tmp_path / "text.gwx").write_text("nothing")
    target = Store.open(str(tmp_path / "target.db"), background=False)
    for name in ("bad.gwx", "text.gwx"):
        with pytest.raises(StoreError, match="damaged"):
            import_runs(target, tmp_path / name)
    with pytest.raises(StoreError, match="can't be read"):
        import_runs(target, tmp_path / "none.gwx")
    assert target.runs() == []
    target.close()
