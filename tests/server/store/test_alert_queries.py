"""Rules, alerts, links and messages in both kinds of database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from gradwatch.protocol import Hello
from gradwatch_server.models import (
    Alert,
    Channel,
    Notification,
    Rule,
    RuleState,
)
from gradwatch_server.store import Store, notify_queries, share_queries
from gradwatch_server.store import alert_queries as sql
from gradwatch_server.visitors import Share

T = TypeVar("T")


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store.open(address, clock=lambda: 1000.0)
    yield opened
    opened.close()


def write(store: Store, fn: Callable[[Connection], T]) -> T:
    return store.database.write(fn).result(30)


def read(store: Store, fn: Callable[[Connection], T]) -> T:
    return store.database.read(fn)


RULE = Rule(
    id="r1", name="quotes \"'; -- é", statistic="grad_norm", tensors="*", channels=("c1",), created_at=5.0
)


def an_alert(id: str = "a1", **fields: Any) -> Alert:
    values: dict[str, Any] = {
        "rule_id": "r1", "run_id": "run", "rule_name": "hot", "severity": "warning", "statistic": "loss",
        "condition": "above", "threshold": 10.0, "opened_step": 2**40, "opened_time": 100.5, "peak": 12.0, "count": 2,
        "worst": ("a", "b"), "sentence": "It is hot.",
    }  # fmt: skip
    return Alert(id=id, **{**values, **fields})


def test_rules_come_back_as_they_were(store: Store) -> None:
    write(store, lambda conn: sql.save_rule(conn, RULE))
    newer = replace(RULE, threshold=1e300, version=2)
    assert read(store, sql.list_rules) == [RULE]
    write(store, lambda conn: sql.save_rule(conn, newer))
    assert read(store, sql.list_rules) == [newer]
    write(store, lambda conn: sql.delete_rule(conn, "r1", now=9.0))
    assert read(store, sql.list_rules) == []


def test_a_removed_default_rule_stays_removed(store: Store) -> None:
    defaults = [replace(RULE, id="d1"), replace(RULE, id="d2")]
    write(store, lambda conn: sql.add_default_rules(conn, defaults))
    write(store, lambda conn: sql.save_rule(conn, replace(defaults[0], enabled=False)))
    write(store, lambda conn: sql.delete_rule(conn, "d2", now=9.0))
    write(store, lambda conn: sql.add_default_rules(conn, defaults))
    assert [(rule.id, rule.enabled) for rule in read(store, sql.list_rules)] == [("d1", False)]


@pytest.mark.parametrize("peak", [12.0, math.inf, -math.inf, math.nan])
def test_alerts_come_back_as_they_were(store: Store, peak: float) -> None:
    alert = an_alert(peak=peak)
    assert repr(write(store, lambda conn: sql.save_alert(conn, alert))) == repr(alert)
    assert repr(read(store, sql.list_alerts)) == repr([alert])


def test_an_update_keeps_what_people_said(store: Store) -> None:
    write(store, lambda conn: sql.save_alert(conn, an_alert()))
    noted = write(
        store, lambda conn: sql.note_alert(conn, "a1", acknowledged=True, note="mine", muted_until=7.0)
    )
    assert noted is not None and noted.note == "mine"
    stored = write(
        store, lambda conn: sql.save_alert(conn, an_alert(cleared_step=5, cleared_time=6.0, peak=99.0))
    )
    assert (stored.acknowledged, stored.note, stored.muted_until) == (True, "mine", 7.0)
    assert (stored.cleared_step, stored.peak) == (5, 99.0)
    assert write(store, lambda conn: sql.note_alert(conn, "none", note="x")) is None


def test_lists_are_cut_by_run_and_state_newest_first(store: Store) -> None:
    for id, run, cleared, time in (("a", "r", None, 1.0), ("b", "r", 3, 2.0), ("c", "q", None, 3.0)):
        alert = an_alert(id, run_id=run, cleared_step=cleared, cleared_time=cleared, opened_time=time)
        write(store, partial(sql.save_alert, alert=alert))

    def ids(**which: Any) -> list[str]:
        return [alert.id for alert in read(store, lambda conn: sql.list_alerts(conn, **which))]

    assert ids() == ["c", "b", "a"]
    assert ids(run_id="r") == ["b", "a"]
    assert ids(open_only=True) == ["c", "a"]
    assert ids(run_id="r", open_only=False) == ["b"]
    assert ids(limit=1) == ["c"]


def test_closing_takes_the_newest_step_of_the_run_and_forgets_states(store: Store) -> None:
    hello = Hello(run_id="run", run_key="k", project="p", name="n", stream="s", segment="g")
    store.open_stream(hello, now=1.0).result(30)
    write(store, lambda conn: sql.save_alert(conn, an_alert()))
    write(store, lambda conn: sql.save_alert(conn, an_alert("a2", rule_id="r2")))
    state = RuleState(rule_id="r1", run_id="run", version=1, step=3.0, data="{}")
    write(store, lambda conn: sql.save_state(conn, state))
    write(store, lambda conn: sql.save_state(conn, replace(state, step=4.0)))
    assert read(store, lambda conn: sql.list_states(conn, "run")) == [replace(state, step=4.0)]
    closed = write(store, lambda conn: sql.close_alerts(conn, reason="rule edited", now=50.0, rule_id="r1"))
    assert [(a.id, a.cleared_step, a.cleared_time, a.reason) for a in closed] == [
        ("a1", -1, 50.0, "rule edited")
    ]
    assert read(store, lambda conn: sql.list_states(conn, "run")) == []
    assert write(store, lambda conn: sql.close_alerts(conn, reason="x", now=60.0, rule_id="r1")) == []
    rest = write(store, lambda conn: sql.close_alerts(conn, reason="run ended", now=60.0, run_id="run"))
    assert [alert.id for alert in rest] == ["a2"]


def test_links_are_found_by_hash_and_revoked_once(store: Store) -> None:
    share = Share(id="s1", run_id="run", token_hash="h" * 64, created_at=1.0, expires_at=None, label="for é")
    write(store, lambda conn: share_queries.save_share(conn, share))
    assert read(store, lambda conn: share_queries.find_share_by_hash(conn, "h" * 64)) == share
    assert read(store, lambda conn: share_queries.find_share_by_hash(conn, "H" * 64)) is None
    write(store, lambda conn: share_queries.count_views(conn, "s1", views=2, last_seen=9.0))
    for now in (10.0, 20.0):
        revoked = write(store, partial(share_queries.revoke_share, share_id="s1", now=now))
    assert revoked == replace(share, views=2, last_seen=9.0, revoked_at=10.0)
    assert read(store, lambda conn: share_queries.list_shares(conn, "run")) == [revoked]
    assert read(store, lambda conn: share_queries.list_shares(conn, "other")) == []
    assert write(store, lambda conn: share_queries.revoke_share(conn, "none", now=1.0)) is None


CHANNEL = Channel(id="c1", name="ops", kind="webhook", address="https://x.example/secret", created_at=1.0)
MESSAGE = Notification(
    id="m1", channel_id="c1", run_id="run", alert_id="a1", kind="fired", severity="warning", title="t", text="é\n",
    link="https://x", created_at=100.0, due_at=100.0,
)  # fmt: skip


def test_messages_wait_once_until_they_are_due_and_done(store: Store) -> None:
    write(store, lambda conn: notify_queries.save_channel(conn, CHANNEL))
    for _ in range(2):
        write(store, lambda conn: notify_queries.add_message(conn, MESSAGE))
    assert read(store, lambda conn: notify_queries.due_messages(conn, 99.0, 10)) == []
    assert read(store, lambda conn: notify_queries.due_messages(conn, 100.0, 10)) == [MESSAGE]
    assert read(store, notify_queries.next_due) == 100.0
    assert read(store, lambda conn: notify_queries.fired_since(conn, "c1", "run", 99.0)) == ["warning"]
    assert read(store, lambda conn: notify_queries.fired_since(conn, "c1", "run", 100.0)) == []
    write(store, lambda conn: notify_queries.set_message(conn, "m1", state="sent", attempts=1))
    assert read(store, notify_queries.next_due) is None
    write(store, lambda conn: notify_queries.add_message(conn, MESSAGE))
    assert read(store, lambda conn: notify_queries.due_messages(conn, 1e9, 10)) == []
    write(store, lambda conn: notify_queries.sweep_messages(conn, 101.0))
    assert not read(store, lambda conn: notify_queries.has_message(conn, "m1"))


def test_a_removed_channel_takes_its_messages_along(store: Store) -> None:
    write(store, lambda conn: notify_queries.save_channel(conn, CHANNEL))
    write(store, lambda conn: notify_queries.mark_channel(conn, "c1", error="late", sent=None))
    write(store, lambda conn: notify_queries.add_message(conn, MESSAGE))
    assert read(store, notify_queries.list_channels) == [replace(CHANNEL, last_error="late")]
    assert write(store, lambda conn: notify_queries.delete_channel(conn, "c1"))
    assert not write(store, lambda conn: notify_queries.delete_channel(conn, "c1"))
    assert read(store, notify_queries.list_channels) == [] and read(store, notify_queries.next_due) is None
