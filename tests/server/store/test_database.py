"""The writer: what is told is durable, and one that fails harms nobody."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gradwatch_server.errors import StoreError
from gradwatch_server.store import Database
from gradwatch_server.store.schema import open_database

WAIT = 30.0


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    opened = open_database(address)
    opened.write(lambda conn: conn.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))).result(WAIT)
    yield opened
    opened.close()


def put(id: int) -> Callable[[Connection], int]:
    return lambda conn: conn.execute(text(f"INSERT INTO things VALUES ({id})")).rowcount


def ids(database: Database) -> list[int]:
    return database.read(lambda conn: list(conn.execute(text("SELECT id FROM things ORDER BY id")).scalars()))


def test_one_that_fails_does_not_harm_the_others_of_its_group(database: Database) -> None:
    hold = threading.Event()
    first = database.write(lambda conn: hold.wait(WAIT))  # so that the others form one group

    def half(conn: Connection) -> None:
        put(7)(conn)
        raise ValueError("changed my mind")

    good = [database.write(put(1)), database.write(put(2))]
    bad = database.write(half)
    double = database.write(put(1))
    last = database.write(put(3))
    hold.set()
    assert first.result(WAIT)
    assert [future.result(WAIT) for future in (*good, last)] == [1, 1, 1]
    assert isinstance(bad.exception(WAIT), ValueError)
    assert isinstance(double.exception(WAIT), StoreError)
    assert ids(database) == [1, 2, 3]


def test_told_only_after_the_commit(database: Database) -> None:
    future = database.write(put(1))
    future.result(WAIT)
    assert ids(database) == [1]


def test_revisions_rise(database: Database) -> None:
    given = [database.write(database.next_revision) for _ in range(20)]
    assert [future.result(WAIT) for future in given] == list(range(1, 21))


def test_nothing_is_taken_after_closing_and_what_waits_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "gradwatch.db"
    database = open_database(str(path))
    futures = [database.write(database.next_revision) for _ in range(100)]
    database.close()
    assert futures[-1].result(WAIT) == 100
    with pytest.raises(StoreError, match="closed"):
        database.write(database.next_revision)
    database.close()


def test_a_write_waits_for_another_program_that_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gradwatch.db"
    database = open_database(str(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = database.write(database.next_revision)
    other.execute("ROLLBACK")
    other.close()
    assert waiting.result(WAIT) == 1
    database.close()
