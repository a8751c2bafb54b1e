"""The hub by itself: who hears what, and what happens to those who don't listen."""

from __future__ import annotations

import numpy as np
import pytest

from gradwatch_server.hub import Event, Hub, Mailbox, Update
from gradwatch_server.models import StoredBlock
from gradwatch_server.visitors import Viewer

OWNER = Viewer(role="owner")
LINK = Viewer(role="viewer", runs=frozenset({"a"}), share_id="s1")


def event(kind: str, run: str | None = None, revision: int = 0, **data: object) -> Event:
    return Event(kind=kind, run=run, data=dict(data), revision=revision)


def update(step: int, run: str = "a", statistic: str = "grad_norm", cells: int = 1) -> Update:
    steps = np.array([float(step)])
    block = StoredBlock(
        statistic=statistic,
        scope="tensor",
        steps=steps,
        times=steps,
        values=np.ones((1, cells), np.float32),
        rows=np.arange(cells, dtype=np.int32),
    )
    return Update(run_id=run, segment=0, blocks=(block,))


def steps_in(box: Mailbox, subscription: int) -> list[int]:
    pending = box.pending(subscription)
    assert pending is not None
    return [int(block.steps[0]) for _, block in pending.take()[0]]


def kinds(box: Mailbox) -> list[str]:
    return [one.kind for one in box.take_events()]


def test_updates_reach_those_who_want_them() -> None:
    hub = Hub()
    one, other = hub.mailbox(OWNER), hub.mailbox(OWNER)
    one.want(1, "a", "tensor", "grad_norm")
    one.want(2, "a", "tensor", "weight_norm")
    other.want(1, "b", "tensor", "grad_norm")
    hub.publish(update(5))
    assert one.wake.is_set()
    assert not other.wake.is_set()
    assert steps_in(one, 1) == [5]
    assert steps_in(one, 2) == []
    one.unwant(1)
    hub.publish(update(6))
    assert one.pending(1) is None


def test_a_closed_mailbox_leaves_nothing_behind() -> None:
    hub = Hub()
    box = hub.mailbox(OWNER)
    box.want(1, "a", "tensor", "grad_norm")
    box.want(1, "b", "tensor", "grad_norm")
    box.close()
    assert not hub.readers
    assert not hub.mailboxes


def test_what_nobody_reads_is_dropped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradwatch_server.hub.MOST_CELLS", 10)
    hub = Hub()
    box = hub.mailbox(OWNER)
    box.want(1, "a", "tensor", "grad_norm")
    for step in range(100):
        hub.publish(update(step, cells=4))
    pending = box.pending(1)
    assert pending is not None
    assert pending.take() == ([], True)
    hub.publish(update(100, cells=4))
    assert steps_in(box, 1) == [100]


def test_events_are_for_those_who_may_see_them() -> None:
    hub = Hub()
    owner, link = hub.mailbox(OWNER), hub.mailbox(LINK)
    for one in (
        event("run", "a"),
        event("run", "b"),
        event("alert", "a"),
        event("rule"),
        event("share", "a"),
        event("status", "b"),
        event("run_deleted", "b"),
    ):
        hub.announce(one)
    assert kinds(owner) == ["run", "run", "alert", "rule", "share", "run_deleted", "status"]
    assert kinds(link) == ["run", "alert"]


def test_private_parts_are_for_owners() -> None:
    one = Event(kind="run", run="a", data={"name": "x", "error": None}, private={"error": "path"})
    assert one.plain(OWNER)["data"] == {"name": "x", "error": "path"}
    assert one.plain(LINK)["data"] == {"name": "x", "error": None}


def test_following_a_run_leaves_out_what_happens_in_others() -> None:
    hub = Hub()
    box = hub.mailbox(OWNER)
    box.run = "a"
    for one in (event("mark", "a"), event("mark", "b"), event("run", "b"), event("rule")):
        hub.announce(one)
    assert kinds(box) == ["mark", "run", "rule"]


def test_a_status_replaces_the_one_before() -> None:
    hub = Hub()
    box = hub.mailbox(OWNER)
    for step in range(1000):
        hub.announce(event("status", "a", last_step=step))
    assert [one.data for one in box.take_events()] == [{"last_step": 999}]


def test_a_withdrawn_link_is_noticed_by_its_own_mailboxes_only() -> None:
    hub = Hub()
    mine, other = hub.mailbox(LINK), hub.mailbox(Viewer(role="viewer", runs=frozenset({"a"}), share_id="s2"))
    hub.announce(event("share", "a", id="s1", revoked=True))
    assert (mine.revoked, other.revoked) == (True, False)


def test_missed_events_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(revision=10)
    assert hub.since(10) == []
    assert hub.since(9) is None
    assert hub.since(11) is None
    for revision in range(11, 3000):
        hub.announce(event("rule", revision=revision))
    missed = hub.since(2990)
    assert missed is not None
    assert [one.revision for one in missed] == list(range(2991, 3000))
    assert hub.since(10) is None
    assert hub.since(950) is None
    kept = hub.since(951)
    assert kept is not None
    assert [one.revision for one in kept] == list(range(952, 3000))


def test_too_many_events_make_a_mailbox_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradwatch_server.hub.MOST_EVENTS", 3)
    hub = Hub()
    box = hub.mailbox(OWNER)
    for revision in range(4):
        hub.announce(event("rule", revision=revision))
    assert box.stale
    assert kinds(box) == []
