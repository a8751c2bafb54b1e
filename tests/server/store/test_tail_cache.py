"""What is kept of the tail says what the tail says, whatever arrives, is put in order, or is asked in an older snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from gradwatch.protocol import Batch, Block, Hello, Schema, Statistic, Tensor
from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store
from gradwatch_server.store.block_queries import SeriesKey, find_series
from gradwatch_server.store.series import SegmentReader
from gradwatch_server.store.tail import Piece
from gradwatch_server.store.tail_cache import OPTION, TailCache, read_tail

NAMES = ("a", "b", "c")


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    made = Store.open(address, background=False)
    yield made
    made.close()


class Sender:
    """Sends steps of two statistics, the second at every third only, with some values absent or not finite."""

    def __init__(self, store: Store, run: str = "r") -> None:
        self.store = store
        self.stream = (
            store.open_stream(
                Hello(run_id=run, run_key="k", project="p", name="n", stream="s", segment="g"), now=1.0
            )
            .result()
            .stream
        )
        statistics = (
            Statistic(name="x", scope="tensor", width=3),
            Statistic(name="y", scope="tensor", width=3, cadence=0),
        )
        self.seq = self.step = 0
        self.send(
            Schema(seq=0, id=0, tensors=tuple(Tensor(name=name) for name in NAMES), statistics=statistics)
        )

    def send(self, record: Any) -> None:
        self.store.append(self.stream, [record]).done.result()
        self.seq += 1

    def steps(self, count: int) -> None:
        axis = np.arange(self.step, self.step + count, dtype=np.float64)
        values = np.sin(axis[:, None] + np.arange(3)).astype(np.float32)
        values[axis % 7 == 0, 1] = np.nan
        present = np.ones(values.shape, np.bool_)
        present[axis % 5 == 0, 2] = False
        blocks = [
            Block(statistic=0, steps=axis, times=axis, values=values, present=present if count % 2 else None)
        ]
        some = axis % 3 == 0
        if some.any():
            blocks.append(Block(statistic=1, steps=axis[some], times=axis[some], values=values[some]))
        self.send(Batch(seq=self.seq, schema=0, blocks=tuple(blocks)))
        self.step += count


def key_of(conn: Connection, name: str, run: str = "r") -> SeriesKey:
    found = find_series(conn, run, "tensor", name)
    assert found is not None
    return found


def laid_out(pieces: list[Piece]) -> list[Any]:
    """Steps, times, values and presence, in one row each."""
    found = []
    for piece in pieces:
        rows = zip(
            piece.steps.tolist(),
            piece.times.tolist(),
            piece.values.tolist(),
            piece.presence().tolist(),
            strict=True,
        )
        found += [repr(row) for row in rows]
    return found


def asked(conn: Connection, *, cached: bool) -> dict[str, list[Any]]:
    """What is not in chunks of each series."""
    if not cached:
        conn.execution_options(**{OPTION: None})
    found = {}
    for name in ("x", "y"):
        key = key_of(conn, name)
        reader = SegmentReader(conn, key, 0)
        found[name] = laid_out(read_tail(conn, key, 0, reader.stored))
    return found


def check(store: Store) -> None:
    """Through the cache and past it, each series says the same."""
    read = store.database.read
    assert read(lambda conn: asked(conn, cached=True)) == read(lambda conn: asked(conn, cached=False))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(acts=st.lists(st.one_of(st.integers(1, 90), st.sampled_from(["ask", "ask", "compact"])), max_size=25))
def test_the_cache_says_what_the_tail_says(acts: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store.open(str(tmp_path_factory.mktemp("tail") / "gradwatch.db"), background=False)
    try:
        sender = Sender(store)
        for act in [*acts, "ask"]:
            if isinstance(act, int):
                sender.steps(act)
            elif act == "ask":
                check(store)
            else:
                store.compact()
        seen = store.values("r", "x", limit=100_000)
        assert seen.steps.tolist() == list(range(sender.step))
    finally:
        store.close()


def reads(conn: Connection) -> list[str]:
    """Grows with each statement that reads bodies of the tail."""
    seen: list[str] = []

    def told(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: Any) -> None:
        if "tail.body" in statement:
            seen.append(statement)

    event.listen(conn, "before_cursor_execute", told)
    return seen


def test_what_was_read_is_not_read_again_and_what_is_new_is(store: Store) -> None:
    sender = Sender(store)

    def work(conn: Connection) -> tuple[int, int]:
        seen = reads(conn)
        found = read_tail(conn, key_of(conn, "x"), 0, -1)
        return len(seen), sum(len(piece.steps) for piece in found)

    for _ in range(4):
        sender.steps(10)
    assert store.database.read(work) == (1, 40)
    assert store.database.read(work) == (0, 40)
    sender.steps(5)
    assert store.database.read(work) == (1, 45)
    assert store.database.read(lambda conn: len(read_tail(conn, key_of(conn, "x"), 0, -1))) == 1


def test_an_older_snapshot_sees_no_newer_steps_and_spoils_nothing(store: Store) -> None:
    sender = Sender(store)
    sender.steps(10)

    def older(conn: Connection) -> list[int]:
        key = key_of(conn, "x")
        counts = [len(read_tail(conn, key, 0, -1)[0].steps)]
        sender.steps(10)
        counts.append(store.database.read(lambda other: len(read_tail(other, key, 0, -1)[0].steps)))
        counts.append(len(read_tail(conn, key, 0, -1)[0].steps))
        counts.append(store.database.read(lambda other: len(read_tail(other, key, 0, -1)[0].steps)))
        return counts

    assert store.database.read(older) == [10, 20, 10, 20]


def test_who_asks_from_further_back_gets_it_all(store: Store) -> None:
    sender = Sender(store)
    sender.steps(10)
    sender.steps(10)

    def work(conn: Connection, after: int) -> list[float]:
        return [
            step for piece in read_tail(conn, key_of(conn, "x"), 0, after) for step in piece.steps.tolist()
        ]

    for after in (11, -1, 15, 4, 19):
        assert store.database.read(lambda conn, after=after: work(conn, after)) == list(range(after + 1, 20))


def test_a_run_that_is_deleted_and_comes_again_is_another_one(store: Store) -> None:
    Sender(store).steps(20)
    check(store)
    store.delete_run("r").result()
    Sender(store).steps(3)
    check(store)
    assert store.series("r", SeriesQuery(statistic="x")).last.shape == (3, 3)
    store.compact()
    assert store.values("r", "x").steps.tolist() == [0, 1, 2], "the trash holds none of its numbers"


def test_it_is_bounded_and_forgets_what_was_not_asked_for_longest(store: Store) -> None:
    cache = TailCache(most_bytes=9_000)
    for run in ("one", "two", "three"):
        Sender(store, run).steps(90)

    def work(conn: Connection) -> list[int]:
        seen = reads(conn)
        conn.execution_options(**{OPTION: cache})
        counts = []
        for run in ("one", "two", "three", "three", "two", "one"):
            read_tail(conn, key_of(conn, "x", run), 0, -1)
            counts.append(len(seen))
        return counts

    assert store.database.read(work) == [1, 2, 3, 3, 3, 4]
    assert cache._size <= 9_000 and len(cache._known) == 2


def test_what_is_given_out_can_not_be_changed(store: Store) -> None:
    Sender(store).steps(10)
    (piece,) = store.database.read(lambda conn: read_tail(conn, key_of(conn, "x"), 0, -1))
    with pytest.raises(ValueError, match="read-only"):
        piece.values[0, 0] = 1
