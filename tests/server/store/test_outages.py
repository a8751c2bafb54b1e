"""The database goes away under a running server, and comes back."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.postgres import PrivatePostgres, binaries
from tests.server.store.helpers import RUN, WAIT, batch, declared, opened

from gradwatch.errors import GradwatchError
from gradwatch.protocol import Mark, Schema, Tensor
from gradwatch.protocol.messages import Kind
from gradwatch_server.errors import StoreError
from gradwatch_server.store import Store

if binaries():

    @pytest.mark.postgres
    def test_a_restarted_postgresql_loses_nothing(postgres: PrivatePostgres) -> None:
        store = Store.open(postgres.create(), clock=lambda: 1000.0)
        stream = opened(store).stream
        sent = np.random.default_rng(3).random((900, 4), dtype=np.float32)
        store.append(stream, [declared(), batch(1, 0, sent[:300])]).done.result(WAIT)
        postgres.stop()
        try:
            failed = store.append(stream, [batch(2, 300, sent[300:600])])
            with pytest.raises(StoreError, match="can't be reached"):
                failed.done.result(WAIT)
            with pytest.raises(GradwatchError, match="can't be reached"):
                store.append(stream, [batch(3, 600, sent[600:])])
            with pytest.raises(StoreError, match="can't be reached"):
                store.runs()
            with pytest.raises(StoreError, match="can't be reached"):
                opened(store)
        finally:
            postgres.start()
        again = opened(store)
        assert again.next_seq == 2
        store.append(again.stream, [batch(2, 300, sent[300:600]), batch(3, 600, sent[600:])]).done.result(
            WAIT
        )
        store.compact()
        np.testing.assert_array_equal(store.values(RUN, "grad_norm").values, sent.astype(np.float64))
        store.close()


def test_what_cannot_be_stored_fails_alone(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0)
    good, bad = opened(store).stream, opened(store, run_id="other", stream="x").stream
    ones = np.ones((3, 4), np.float32)
    gate = threading.Event()  # so that all three are one group
    release = store.database.write(lambda conn: gate.wait(WAIT))
    first = store.append(good, [declared(), batch(1, 0, ones)])
    cursed = Tensor(name="a", kind=cast("Kind", "\ud800"))  # which no decoder lets through
    second = store.append(bad, [Schema(seq=0, id=0, statistics=(), tensors=(cursed,))])
    third = store.append(bad, [Mark(seq=1, step=0, time=1.0, kind="note")])
    gate.set()
    release.result(WAIT)
    assert first.done.result(WAIT) == 2
    with pytest.raises(StoreError):
        second.done.result(WAIT)
    with pytest.raises(StoreError, match="before it"):
        third.done.result(WAIT)
    assert opened(store, run_id="other", stream="x").next_seq == 0
    assert len(store.values(RUN, "grad_norm").steps) == 3
    store.close()


DISKS = ["limit", "tmpfs"] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["limit"]


@pytest.fixture(params=DISKS)
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder: on a disk of 6 MB if we may mount one. Otherwise the test limits the file."""
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    if request.param == "tmpfs":
        subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_loses_nothing_that_was_told(small_disk: Path, request: pytest.FixtureRequest) -> None:
    store = Store.open(str(small_disk / "gradwatch.db"), clock=lambda: 1000.0, background=False)
    limited = "limit" in request.node.name
    if limited:
        store.database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count = 150")).result(WAIT)
    stream = opened(store).stream
    sent = np.random.default_rng(4).random((100_000, 4), dtype=np.float32)
    store.append(stream, [declared()]).done.result(WAIT)
    told = 1
    with pytest.raises(StoreError, match="is full"):
        while told < 50:
            first = (told - 1) * 2000
            told = store.append(stream, [batch(told, first, sent[first : first + 2000])]).done.result(WAIT)
    np.testing.assert_array_equal(
        store.values(RUN, "grad_norm", limit=10**6).values, sent[: (told - 1) * 2000].astype(np.float64)
    )
    if limited:
        store.database.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count = 100000")).result(WAIT)
    else:
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = opened(store)
    assert again.next_seq == told
    first = (told - 1) * 2000
    store.append(again.stream, [batch(told, first, sent[first : first + 2000])]).done.result(WAIT)
    store.compact()
    np.testing.assert_array_equal(
        store.values(RUN, "grad_norm", limit=10**6).values, sent[: told * 2000].astype(np.float64)
    )
    store.close()
