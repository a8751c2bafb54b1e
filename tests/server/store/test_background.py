"""What happens behind the scenes: compaction when it is due, the space of deleted runs, holding back when it is too much."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Table, func, select
from tests.server.store.helpers import RUN, WAIT, batch, declared, opened

from gradwatch.protocol import Bye
from gradwatch_server.store import Store
from gradwatch_server.store import tables as t
from gradwatch_server.store.background import BEHIND_BYTES, Background
from gradwatch_server.store.compactor import Lane
from gradwatch_server.store.retention import Limits


def count(store: Store, table: Table) -> int:
    return store.database.read(
        lambda conn: int(conn.execute(select(func.count()).select_from(table)).scalar_one())
    )


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another thread does."""
    pause = threading.Event()
    for _ in range(int(WAIT * 100)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to be")


def test_chunks_are_made_while_a_run_streams(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0)
    stream = opened(store).stream
    sent = np.random.default_rng(8).random((2000, 4), dtype=np.float32)
    store.append(stream, [declared()]).done.result(WAIT)
    for seq, first in enumerate(range(0, 2000, 100), start=1):
        store.append(stream, [batch(seq, first, sent[first : first + 100])]).done.result(WAIT)
    until(lambda: count(store, t.tail) <= 3)
    assert count(store, t.blocks) >= 2 * 7
    np.testing.assert_array_equal(store.values(RUN, "grad_norm").values, sent.astype(np.float64))
    store.append(stream, [Bye(seq=21, state="finished", time=1.0)]).done.result(WAIT)
    until(lambda: count(store, t.tail) == 0)
    np.testing.assert_array_equal(store.values(RUN, "grad_norm").values, sent.astype(np.float64))
    store.close()


def test_what_a_killed_server_left_over_is_done_by_the_next(tmp_path: Path) -> None:
    path = str(tmp_path / "gradwatch.db")
    first = Store.open(path, clock=lambda: 1000.0, background=False)
    stream = opened(first).stream
    first.append(stream, [declared(), batch(1, 0, np.ones((600, 4), np.float32))]).done.result(WAIT)
    opened(first, run_id="other", stream="x")
    first.delete_run("other").result(WAIT)
    first.close()
    second = Store.open(path, clock=lambda: 1000.0)
    until(lambda: count(second, t.blocks) > 0 and count(second, t.trash) == 0)
    second.close()


@pytest.mark.slow
def test_a_deleted_run_gives_its_space_back(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False)
    stream = opened(store).stream
    random = np.random.default_rng(9)
    names = tuple(f"t{i}" for i in range(300))
    store.append(stream, [declared(names=names)]).done.result(WAIT)
    for seq in range(1, 11):
        sent = random.random((2000, 300), dtype=np.float32)
        store.append(stream, [batch(seq, 2000 * (seq - 1), sent)]).done.result(WAIT)
    store.compact()
    keep = opened(store, run_id="keep", stream="k").stream
    store.append(keep, [declared(), batch(1, 0, np.ones((600, 4), np.float32))]).done.result(WAIT)
    store.compact()
    before, size = count(store, t.blocks), store.size()
    sizes = store.sizes()
    assert 6_000_000 * 3 < sizes[RUN] < size and 0 < sizes["keep"] < sizes[RUN] / 100
    store.delete_run(RUN).result(WAIT)
    store.compact()
    assert 0 < count(store, t.blocks) < before / 10
    assert count(store, t.trash) == 0
    if store.database.dialect == "sqlite":
        assert store.size() < size - 5_000_000, "the file has not become smaller"
    assert len(store.values("keep", "grad_norm").steps) == 600
    store.close()


def test_acknowledgements_wait_while_compaction_is_far_behind(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "gradwatch.db"), clock=lambda: 1000.0, background=False)
    stream = opened(store).stream
    store.append(stream, [declared(), batch(1, 0, np.ones((600, 4), np.float32))]).done.result(WAIT)
    behind, lane, told = Background(store.database, Limits(), lambda: 1000.0), Lane(stream.live.no, 0, 0), []
    behind.when_keeping_up(lambda: told.append("at once"))
    assert told == ["at once"]
    gate = threading.Event()
    store.database.write(lambda conn: gate.wait(WAIT))  # until then nothing can be put in order
    behind.stored(lane, 0, BEHIND_BYTES, ended=False)
    behind.stored(lane, 600, 1, ended=False)
    behind.start()
    behind.when_keeping_up(lambda: told.append("later"))
    assert told == ["at once"]
    gate.set()
    until(lambda: told == ["at once", "later"])
    behind.stop()
    store.close()
