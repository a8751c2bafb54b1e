"""Norms of groups that are not stored come back bit by bit, whatever they were made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import func, select
from tests.server.store.helpers import RUN, WAIT, batch, declared, opened

from gradwatch_server.models import Values
from gradwatch_server.store import Store
from gradwatch_server.store import tables as t
from gradwatch_server.store.maintenance import check

MODEL = tuple(f"net.{i}.{part}.{kind}" for i in range(3) for part in "ab" for kind in ("weight", "bias"))


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened_store = Store.open(address, clock=lambda: 1000.0, background=False)
    yield opened_store
    opened_store.close()


def norms(steps: int, width: int, seed: int = 0) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).standard_normal((steps, width))).astype(np.float32)


def groups(store: Store) -> Values:
    return store.values(RUN, "grad_norm", "group", limit=100_000)


def same(one: Values, other: Values) -> None:
    for name in ("steps", "times", "present"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.values[one.present].tobytes() == other.values[other.present].tobytes()


def bytes_of_groups(store: Store) -> int:
    series = {info.scope: info for info in store.statistics(RUN)}
    assert "group" in series
    c, s = t.blocks.c, t.series.c
    mine = select(s.idx).where(s.scope == "group").scalar_subquery()
    size = select(func.sum(func.length(c.body))).where((c.level == 0) & (c.series == mine))
    return int(store.database.read(lambda conn: conn.execute(size).scalar_one()))


def test_exact_norms_of_groups_take_no_room(store: Store, address: str) -> None:
    stream = opened(store).stream
    sent = norms(3000, len(MODEL))
    sent[100, 3], sent[200, 4], sent[300, 5] = np.nan, np.inf, 0.0
    store.append(stream, [declared(names=MODEL), batch(1, 0, sent)]).done.result(WAIT)
    before = groups(store)
    squares = np.square(sent.astype(np.float64)).sum(axis=1)
    np.testing.assert_array_equal(before.values[:, 0], np.sqrt(squares).astype(np.float32).astype(np.float64))
    store.compact()
    same(before, groups(store))
    assert bytes_of_groups(store) < 3000
    assert check(address) == []


def test_absent_tensors_and_a_model_that_grows(store: Store, address: str) -> None:
    stream = opened(store).stream
    first, second = MODEL[:6], MODEL
    there = np.random.default_rng(1).random((700, len(first))) > 0.4
    store.append(
        stream, [declared(names=first), batch(1, 0, norms(700, len(first)), present=there)]
    ).done.result(WAIT)
    store.compact()
    more = [declared(2, 1, second), batch(3, 700, norms(900, len(second), 2), schema=1)]
    store.append(stream, more).done.result(WAIT)
    before = groups(store)
    store.compact()
    same(before, groups(store))
    assert check(address) == []


def test_tensors_in_another_order_are_stored_if_their_sums_differ(store: Store) -> None:
    stream = opened(store).stream
    store.append(stream, [declared(names=MODEL), batch(1, 0, norms(10, len(MODEL)))]).done.result(WAIT)
    turned = tuple(reversed(MODEL))
    more = [declared(2, 1, turned), batch(3, 10, norms(2000, len(turned), 3), schema=1)]
    store.append(stream, more).done.result(WAIT)
    before = groups(store)
    store.compact()
    same(before, groups(store))


def test_damage_to_what_they_follow_from_is_found(store: Store, address: str) -> None:
    stream = opened(store).stream
    store.append(stream, [declared(names=MODEL), batch(1, 0, norms(3000, len(MODEL)))]).done.result(WAIT)
    store.compact()
    c = t.blocks.c
    gone = t.blocks.delete().where((c.level == 0) & (c.series == 0) & (c.first_step == 256))
    store.database.write(lambda conn: conn.execute(gone).rowcount).result(WAIT)
    assert any("level 0, step 256" in problem for problem in check(address))
