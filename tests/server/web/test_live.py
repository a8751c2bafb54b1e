"""The live socket: what a page sees is what is stored, live, for its eyes only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.server.live_server import Page, Running, Trainer, batch, hello, schema
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gradwatch.protocol import Bye, Mark
from gradwatch_server.hub import Event
from gradwatch_server.web.view_codec import DELTA, SNAPSHOT, View


def norms(steps: range, tensors: int = 3) -> np.ndarray[Any, Any]:
    return np.array([[1 + step + 1000 * i for i in range(tensors)] for step in steps], dtype=np.float32)


class Screen:
    """What a page would draw of a view: the newest value of each bucket."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], float] = {}
        self.high: dict[tuple[int, int], float] = {}
        self.last_step = -1

    def take(self, view: View) -> None:
        if view.kind == SNAPSHOT:
            self.cells, self.high = {}, {}
        series = view.series
        for row, column in zip(*np.nonzero(series.flags & 1), strict=True):
            key = int(row), series.first_bucket + int(column)
            self.cells[key] = float(series.last[row, column])
            self.high[key] = float(series.high[row, column])
        self.last_step = series.last_step

    def until(self, page: Page, subscription: int, step: int) -> None:
        while self.last_step < step:
            self.take(page.view(subscription))


def share(server: Running, run: str = "run-1") -> tuple[str, str]:
    """Token and id of a new share link."""
    with server.owner() as api:
        made = api.post("/api/v1/shares", json={"run": run})
    assert made.status_code == 201, made.text
    return made.json()["token"], made.json()["share"]["id"]


@pytest.mark.parametrize("points", [1000, 10])
def test_a_page_sees_every_step_from_before_and_after_it_came(server: Running, points: int) -> None:
    screen = Screen()
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(), batch(1, range(50), norms(range(50))))
        trainer.wait_acked(2)
        page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm", rows=[2, 0], points=points)
        first = page.view(1)
        assert (first.kind, first.series.last_step) == (SNAPSHOT, 49)
        screen.take(first)
        for i in range(10):
            steps = range(50 + 5 * i, 55 + 5 * i)
            trainer.send(batch(2 + i, steps, norms(steps)))
        screen.until(page, 1, 99)
    width = first.series.width
    assert width == (1 if points == 1000 else 16)
    wanted = {
        (row, step // width): float(1 + step + 1000 * i) for row, i in ((0, 2), (1, 0)) for step in range(100)
    }
    assert screen.cells == wanted
    assert screen.high == wanted


def test_a_statistic_that_comes_later_appears(server: Running) -> None:
    screen = Screen()
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema())
        trainer.wait_acked(1)
        page.say(type="subscribe", id=7, run="run-1", statistic="loss", scope="run")
        assert page.view(7).series.last.size == 0
        trainer.send(batch(1, [0, 1], norms(range(2)), [0.5, 0.25]))
        screen.until(page, 7, 1)
    assert screen.cells == {(0, 0): 0.5, (0, 1): 0.25}


def test_a_later_segment_replaces_what_came_before(server: Running) -> None:
    screen = Screen()
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(), batch(1, range(10), norms(range(10))))
        trainer.wait_acked(2)
        page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm", rows=[0])
        screen.until(page, 1, 9)
        with Trainer(server, hello(stream="second", segment="second", start_step=5)) as resumed:
            resumed.send(schema(), batch(1, [5, 6], -norms(range(5, 7))))
            while screen.last_step != 6:
                screen.take(page.view(1))
    wanted = {(0, step): float(1 + step) for step in range(5)} | {(0, 5): -6.0, (0, 6): -7.0}
    assert screen.cells == wanted


def test_an_end_given_is_kept_and_an_unsubscribed_view_is_silent(server: Running) -> None:
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(), batch(1, [0], norms(range(1))))
        trainer.wait_acked(2)
        page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm", to=2)
        page.say(type="subscribe", id=2, run="run-1", statistic="grad_norm")
        page.say(type="subscribe", id=3, run="run-1", statistic="grad_norm")
        for number in (1, 2, 3):
            assert page.view(number).kind == SNAPSHOT
        page.say(type="unsubscribe", id=2)
        page.say(type="ping")
        page.hear("pong")
        trainer.send(batch(2, range(1, 5), norms(range(1, 5))))
        seen: dict[int, list[int]] = {1: [], 2: [], 3: []}
        while not seen[3] or seen[3][-1] < 4:
            message = page.next()
            if isinstance(message, View):
                assert message.kind == DELTA
                seen[message.subscription].append(message.series.last_step)
        assert seen[1] == [1]
        assert seen[2] == []


def test_events_come_with_revisions_and_are_caught_up_with(server: Running) -> None:
    with Trainer(server, hello()) as trainer, Page(server) as page:
        since = page.welcome["revision"]
        trainer.send(schema(), Mark(seq=1, step=3, time=1.7e9, kind="note", data={"text": "here"}))
        first = page.hear("event", kind="mark")
        assert first["data"]["data"] == {"text": "here"}
        assert first["run"] == "run-1"
        assert first["revision"] > 0
        trainer.send(Bye(seq=2, state="finished", time=1.7e9))
        trainer.wait_acked(3)
        ended = page.hear("event", kind="run")
        while ended["data"]["state"] != "finished":
            ended = page.hear("event", kind="run")
    with Page(server, since=since) as back:
        caught = [back.hear("event") for _ in range(2)]
        assert all(event["revision"] > since for event in caught)
    with Page(server, since=10**9) as stranger:
        stranger.hear("stale")


def test_status_events_tell_of_progress(server: Running) -> None:
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(), batch(1, range(3), norms(range(3)), [3.0, float("nan"), 1.5]))
        status = page.hear("event", kind="status")
        while status["data"]["last_step"] != 2:
            status = page.hear("event", kind="status")
        assert status["data"]["summary"]["loss"] == 1.5
        assert status["data"]["state"] == "running"


def test_a_slow_page_gets_a_fresh_snapshot_and_slows_nobody(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradwatch_server.hub.MOST_CELLS", 30)
    screen = Screen()
    with Trainer(server, hello()) as trainer, Page(server) as page:
        trainer.send(schema(), batch(1, [0], norms(range(1))))
        trainer.wait_acked(2)
        page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm", rows=[0])
        screen.until(page, 1, 0)
        for i in range(40):
            trainer.send(batch(2 + i, range(1 + 10 * i, 11 + 10 * i), norms(range(1 + 10 * i, 11 + 10 * i))))
        trainer.wait_acked(42)
        screen.until(page, 1, 400)
    assert screen.cells == {(0, step): float(1 + step) for step in range(401)}


def test_a_share_link_sees_its_run_and_nothing_else(server: Running) -> None:
    with Trainer(server, hello()) as trainer, Trainer(server, hello("run-2")) as other:
        for one in (trainer, other):
            one.send(schema(), batch(1, [0], norms(range(1))))
            one.wait_acked(2)
        token, _ = share(server)
        with Page(server, share=token) as page:
            page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm")
            assert page.view(1).series.last_step == 0
            page.say(type="subscribe", id=2, run="run-2", statistic="grad_norm")
            assert page.hear("error", id=2)["code"] == "not_found"
            page.say(type="subscribe", id=3, run="no-such-run", statistic="grad_norm")
            assert page.hear("error", id=3)["message"] == "There is no such run. It may have been deleted."
            page.say(type="follow", run=None)
            other.send(Mark(seq=2, step=0, time=1.7e9, kind="secret of another run"))
            other.wait_acked(3)
            trainer.send(
                Bye(seq=2, state="failed", time=1.7e9, reason="/home/me", error={"message": "secret-host"})
            )
            trainer.wait_acked(3)
            event = page.hear("event")
            while event["kind"] != "run" or event["data"]["state"] != "failed":
                assert event["run"] == "run-1"
                assert "secret" not in str(event)
                event = page.hear("event")
            assert "secret" not in str(event)
            assert "/home/me" not in str(event)


def test_a_withdrawn_link_is_cut_off(server: Running) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
        token, link = share(server)
        with Page(server, share=token) as page, server.owner() as api:
            assert api.delete(f"/api/v1/shares/{link}").status_code == 204
            page.hear("revoked")
            with pytest.raises(ConnectionClosed) as closed:
                page.hear("never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4403
        with pytest.raises(ConnectionClosed):
            Page(server, share=token)


def test_who_is_nobody_is_refused(server: Running) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        Page(server, origin="https://evil.example")
    with pytest.raises(ConnectionClosed) as closed:
        Page(server, share="not-a-token-at-all-0000")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


BAD = {
    "not JSON": "{",
    "not an object": "[]",
    "unknown": '{"type":"teapot"}',
    "no id": '{"type":"subscribe","run":"run-1","statistic":"loss"}',
    "bad rows": '{"type":"subscribe","id":1,"run":"run-1","statistic":"loss","rows":[-1]}',
    "bad points": '{"type":"subscribe","id":1,"run":"run-1","statistic":"loss","points":1e99}',
    "bad range": '{"type":"subscribe","id":1,"run":"run-1","statistic":"loss","from":5,"to":5}',
    "a huge number": '{"type":"subscribe","id":1,"run":"run-1","statistic":"loss","from":' + "9" * 400 + "}",
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_message_is_answered_with_a_sentence(server: Running, name: str) -> None:
    with Page(server) as page:
        page.socket.send(BAD[name])
        error = page.hear("error")
        assert error["code"] in ("malformed", "invalid")
        assert len(error["message"]) > 10
        page.say(type="ping")
        page.hear("pong")


def test_events_that_pile_up_make_a_page_start_over(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradwatch_server.hub.MOST_EVENTS", 3)
    with Page(server) as page:

        def flood() -> None:
            for i in range(9):
                server.services.hub.announce(Event(kind="rule", run=None, data={}, revision=1000 + i))

        server.on_loop(flood)
        assert page.hear("stale")["revision"] == 1008
