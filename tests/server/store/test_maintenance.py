"""Copies are whole, and what is damaged is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update
from tests.server.store.helpers import RUN, WAIT, batch, declared, opened

from gradwatch_server.errors import StoreError
from gradwatch_server.store import Store
from gradwatch_server.store import tables as t
from gradwatch_server.store.block_codec import encode_buckets, encode_chunk
from gradwatch_server.store.maintenance import backup, check
from gradwatch_server.store.pyramid import fold
from gradwatch_server.store.tail import Piece


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """5,000 steps, with a NaN now and then, partly in the tail."""
    opened_store = Store.open(address, clock=lambda: 1000.0, background=False)
    stream = opened(opened_store).stream
    sent = np.random.default_rng(5).random((5000, 4), dtype=np.float32)
    sent[::97, 1] = np.nan
    opened_store.append(stream, [declared(), batch(1, 0, sent[:4000])]).done.result(WAIT)
    opened_store.compact()
    opened_store.append(stream, [batch(2, 4000, sent[4000:])]).done.result(WAIT)
    opened_store.compact()
    yield opened_store
    opened_store.close()


def test_a_sound_database_has_no_problems_while_it_is_used(store: Store, address: str) -> None:
    told: list[tuple[int, int]] = []
    assert check(address, lambda done, total: told.append((done, total))) == []
    assert told[-1][0] == told[-1][1] > 0


def damage(store: Store, level: int, body: bytes) -> None:
    c = t.blocks.c
    statement = update(t.blocks).where((c.level == level) & (c.first_step == 0) & (c.series == 0))
    assert (
        store.database.write(lambda conn: conn.execute(statement.values(body=body)).rowcount).result(WAIT)
        == 1
    )


def test_a_damaged_chunk_is_found_and_named(store: Store, address: str) -> None:
    damage(store, 0, b"\2\1\0\4 this is no chunk")
    problems = check(address)
    assert any("run 'digits-1'" in one and "level 0, step 0" in one and "damaged" in one for one in problems)


def test_values_that_the_pyramid_does_not_agree_with_are_found(store: Store, address: str) -> None:
    steps = np.arange(256.0)
    values = np.ones((256, 4), np.float32)
    damage(store, 0, encode_chunk(Piece(0, steps, 100 + steps / 10, values)))
    assert any("level 2, step 0: it does not agree" in problem for problem in check(address))


def test_a_pyramid_that_does_not_agree_is_found(store: Store, address: str) -> None:
    steps = np.arange(4096.0)
    values = np.ones((4096, 4), np.float32)
    damage(store, 3, encode_buckets(fold(64, steps, steps, values), packed=False))
    assert any("level 3, step 0: it does not agree" in problem for problem in check(address))


def test_a_copy_is_whole_and_can_be_used(tmp_path: Path) -> None:
    path, target = str(tmp_path / "gradwatch.db"), tmp_path / "copy.db"
    store = Store.open(path, clock=lambda: 1000.0)
    stream = opened(store).stream
    sent = np.random.default_rng(6).random((700, 4), dtype=np.float32)
    store.append(stream, [declared(), batch(1, 0, sent)]).done.result(WAIT)
    size = backup(path, target)
    assert size == target.stat().st_size > 0
    store.append(stream, [batch(2, 700, sent)]).done.result(WAIT)
    with pytest.raises(StoreError, match="exists already"):
        backup(path, target)
    store.close()
    copy = Store.open(str(target))
    np.testing.assert_array_equal(copy.values(RUN, "grad_norm").values, sent.astype(np.float64))
    copy.close()
    assert check(str(target)) == []


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    for call in (
        lambda: check(str(tmp_path / "none.db")),
        lambda: backup(str(tmp_path / "none.db"), tmp_path / "x"),
    ):
        with pytest.raises(StoreError, match="there is no database"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "gradwatch.db"
    Store.open(str(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(StoreError, match="version 9999"):
        check(str(path))
