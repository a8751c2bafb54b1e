"""The sender, pumped by hand against the real server session in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.client.rig import TENSORS, Rig, frame, row

from gradwatch.errors import ConnectionRefused
from gradwatch.frames import Frame
from gradwatch.outbox import MarkPoint, ReadyFrame, ScalarPoint
from gradwatch.protocol import Bye, Error, Lost, Mark
from gradwatch.protocol.messages import Incident
from gradwatch.sender import Ending
from gradwatch.shield import Shield
from gradwatch.testing import FakeClock
from gradwatch.transport import NO_SERVER


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_steps_arrive_once_and_are_acknowledged(rig: Rig) -> None:
    for step in range(10):
        rig.step(step)
        rig.pump(0.03)
    rig.pump(0.2)
    assert rig.server.stream.tensors == TENSORS
    rows = rig.server.stream.series("grad_norm")
    assert {step: values.tolist() for step, values in rows.items()} == {s: row(s).tolist() for s in range(10)}
    assert rig.server.stream.scalar("global_grad_norm") == {s: 2.0 * s for s in range(10)}
    assert rig.journal.outstanding == 0 and rig.journal.spool is None


def test_many_steps_between_two_turns_make_one_batch(rig: Rig) -> None:
    rig.pump()
    before = len(rig.server.stream.records)
    for step in range(100):
        rig.step(step)
    rig.pump(0.04)
    assert len(rig.server.stream.records) == before + 1
    assert len(rig.server.stream.series("grad_norm")) == 100


def test_a_scalar_goes_out_when_its_step_is_over_as_the_mean(rig: Rig) -> None:
    for step in range(3):
        for value in (1.0, 3.0):
            rig.outbox.put_scalar(ScalarPoint("loss", step, rig.clock(), value * (step + 1)))
        rig.step(step)
    rig.pump()
    assert rig.server.stream.scalar("loss") == {0: 2.0, 1: 4.0}
    rig.sender.end(Ending("finished", 1.0))
    rig.pump()
    assert rig.server.stream.scalar("loss") == {0: 2.0, 1: 4.0, 2: 6.0}


def test_a_scalar_that_comes_once_per_step_does_not_wait_for_the_next_step(rig: Rig) -> None:
    rig.step(0)
    rig.outbox.put_scalar(ScalarPoint("loss", 0, rig.clock(), 1.5))
    rig.pump(0.5)
    assert rig.server.stream.scalar("loss") == {}
    rig.pump(1.0)
    assert rig.server.stream.scalar("loss") == {0: 1.5}


def test_a_logged_name_that_is_also_captured_gets_a_prefix(rig: Rig) -> None:
    rig.step(0)
    rig.outbox.put_scalar(ScalarPoint("grad_norm", 0, rig.clock(), 7.0))
    rig.sender.end(Ending("finished", 1.0))
    rig.pump()
    assert rig.server.stream.scalar("log/grad_norm") == {0: 7.0}


def test_a_cut_connection_is_resumed_without_gap_or_double(rig: Rig) -> None:
    for step in range(60):
        rig.step(step)
        rig.transport.down = step % 20 in (5, 6, 7)
        rig.pump(0.3)
    rig.sender.end(Ending("finished", 1.0))
    rig.pump(20)
    assert rig.sender.delivered
    assert sorted(rig.server.stream.series("grad_norm")) == list(range(60))
    assert rig.transport.attempts > 3


@dataclass
class Late:
    """A frame whose numbers are on a device until ``ready_at``."""

    frame: Frame
    ready_at: float
    clock: FakeClock

    @property
    def step(self) -> int:
        return self.frame.step

    def ready(self) -> bool:
        return self.clock() >= self.ready_at

    def resolve(self) -> Frame:
        return self.frame


@pytest.mark.parametrize(("rate", "at_most"), [(1, 6), (10, 22), (70, 15), (1000, 15)])
def test_the_thread_wakes_few_times_a_second_however_many_steps_there_are(
    rig: Rig, rate: int, at_most: int
) -> None:
    rig.pump()
    turns = len(list(rig.live([k / rate for k in range(5 * rate)], 5)))
    assert turns <= 5 * at_most
    assert len(rig.server.stream.series("grad_norm")) >= 5 * rate - rate // 10 - 1


def test_numbers_that_come_late_from_a_device_go_out_soon_after(rig: Rig) -> None:
    rig.pump()
    late = Late(frame(0), ready_at=rig.clock() + 0.333, clock=rig.clock)
    rig.outbox.put(late)
    for now in rig.live([], 0.5):
        assert bool(rig.server.stream.series("grad_norm")) == (now >= 0.333)
        if now >= 0.333:
            assert now < 0.36
            break


def test_at_ten_steps_a_second_each_goes_out_at_once(rig: Rig) -> None:
    rig.pump()
    steps = [0.1 * k + 0.004 * (k % 3) for k in range(50)]
    for now in rig.live(steps, 5):
        stored = len(rig.server.stream.series("grad_norm"))
        assert stored >= sum(at < now - 0.01 for at in steps)


def test_a_server_that_hangs_is_given_up_and_tried_again(rig: Rig) -> None:
    rig.pump(0.1)
    rig.transport.stuck = True
    rig.step(0)
    rig.pump(60, every=0.5)
    assert rig.transport.attempts >= 2
    rig.transport.stuck = False
    rig.pump(60, every=0.1)
    assert sorted(rig.server.stream.series("grad_norm")) == [0]


def test_a_server_that_cannot_be_reached_is_told_once(rig: Rig) -> None:
    rig.transport.down = True
    rig.step(0)
    rig.pump(60, every=0.1)
    assert rig.transport.attempts > 3
    assert [text for text in rig.told if "reached" in text] == [
        "no server can be reached (nobody listens). Steps are kept on disk and sent later"
    ]
    rig.transport.down = False
    rig.pump(60, every=0.1)
    assert sorted(rig.server.stream.series("grad_norm")) == [0]


def test_that_nobody_has_named_a_server_is_told_elsewhere(rig: Rig) -> None:
    rig.transport.down, rig.transport.why = True, NO_SERVER
    rig.step(0)
    rig.pump(60, every=0.1)
    assert rig.transport.attempts > 3 and not rig.told


def test_a_refusal_is_told_once_and_ends_the_attempts(rig: Rig) -> None:
    rig.server.refuse = ConnectionRefused("fenced", "another process writes to this run")
    rig.step(0)
    rig.pump(30, every=0.5)
    assert rig.transport.attempts == 1
    assert [text for text in rig.told if "another process" in text] == [
        "the server refused this run: another process writes to this run. Steps are kept on disk"
    ]
    rig.sender.end(Ending("finished", 1.0))
    rig.pump()
    assert rig.sender.ended.is_set() and not rig.sender.delivered


def test_marks_and_the_end_arrive(rig: Rig) -> None:
    rig.outbox.put_mark(MarkPoint(3, 5.0, "checkpoint", {"path": "x.pt"}))
    rig.pump()
    rig.sender.end(Ending("failed", 9.0, "", {"type": "ValueError"}))
    rig.pump()
    assert rig.sender.ended.is_set()
    (mark,), (bye,) = rig.server.stream.of(Mark), rig.server.stream.of(Bye)
    assert isinstance(mark, Mark) and (mark.kind, mark.step, mark.data) == ("checkpoint", 3, {"path": "x.pt"})
    assert isinstance(bye, Bye) and (bye.state, bye.error) == ("failed", {"type": "ValueError"})
    assert rig.server.stream.records[-1] is bye


def test_over_budget_is_told_once_with_the_reason(rig: Rig) -> None:
    rig.sender._cost = lambda: {"share_of_step": 0.031, "budget": 0.01, "thinned": 4.0}
    rig.pump(seconds=20)
    (told,) = rig.told
    assert "3.1% of a step, more than budget=0.01" in told and "4 times rarer" in told
    assert rig.server.heartbeats[-1].cost["budget"] == 0.01


def test_heartbeats_come_however_long_a_step_takes(rig: Rig) -> None:
    rig.pump(21, every=0.25)
    assert len(rig.server.heartbeats) in (4, 5)


def test_a_step_that_does_not_rise_is_left_out_and_told(rig: Rig) -> None:
    for step in (5, 6, 6, 2, 7):
        rig.step(step)
    rig.pump()
    assert sorted(rig.server.stream.series("grad_norm")) == [5, 6, 7]
    assert len(rig.told) == 1 and "did not come after the last" in rig.told[0]


def test_dropped_frames_become_a_lost_record(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.outbox._limit = 10
    for step in range(25):
        rig.step(step)
    rig.pump()
    (lost,) = rig.server.stream.of(Lost)
    assert isinstance(lost, Lost) and (lost.from_step, lost.to_step, lost.frames) == (0, 14, 15)
    assert sorted(rig.server.stream.series("grad_norm")) == list(range(15, 25))


def test_what_is_too_large_for_a_message_is_left_out_and_the_rest_goes_on(rig: Rig) -> None:
    rig.step(0)
    rig.outbox.put_mark(MarkPoint(0, 1.0, "note", {"text": "x" * 17_000_000}))
    rig.pump()
    rig.step(1)
    rig.pump()
    (mark,) = rig.server.stream.of(Mark)
    assert isinstance(mark, Mark) and "at most" in mark.data["left out"]
    assert sorted(rig.server.stream.series("grad_norm")) == [0, 1]


@pytest.mark.parametrize("step", [-1, 2**40, 10**30])
def test_a_step_that_no_server_takes_is_left_out_and_told(rig: Rig, step: int) -> None:
    rig.outbox.put_scalar(ScalarPoint("loss", step, 1.0, 1.0))
    rig.outbox.put_scalar(ScalarPoint("loss", 1, 1.0, 2.0))
    rig.step(1)
    rig.pump(1.5)
    assert rig.server.stream.scalar("loss") == {1: 2.0}
    assert len(rig.told) == 1 and "left out" in rig.told[0]


def test_what_the_server_says_before_it_goes_away_for_a_while_is_told_once(rig: Rig) -> None:
    rig.server.warn = Error(code="store", message="the disk is full.", fatal=False)
    rig.step(0)
    rig.pump(3)
    rig.server.warn = None
    rig.pump(30, every=0.1)
    assert rig.told == ["the server says: the disk is full. Steps are kept and sent later"]
    assert sorted(rig.server.stream.series("grad_norm")) == [0]


def test_an_incident_that_is_told_again_after_a_cut_is_passed_on_once_and_a_graver_one_again(
    rig: Rig,
) -> None:
    warning = Incident(id="i", kind="exploding", severity="warning", step=3, data={"opened_step": 4})
    rig.server.incidents = [warning]
    rig.pump(1)
    rig.transport.down = True
    rig.step(0)
    rig.pump(1)
    rig.transport.down = False
    rig.pump(30, every=0.1)
    assert rig.server.connections == 2 and rig.heard == [warning]
    graver = replace(warning, severity="critical")
    rig.server.incidents = [graver]
    rig.transport.down = True
    rig.step(1)
    rig.pump(1)
    rig.transport.down = False
    rig.pump(30, every=0.1)
    assert rig.heard == [warning, graver]


def test_a_step_that_cannot_be_put_together_costs_no_other(
    tmp_path: Path, swallowed: list[Exception]
) -> None:
    """It is counted as lost, so that the page has a gap there and says so."""
    rig = Rig(tmp_path)
    shield = Shield(rig.told.append)
    rig.sender._resolve = lambda pending: shield.attempt(pending.resolve, "putting a step together")

    class Broken(ReadyFrame):
        def resolve(self) -> Frame:
            raise ValueError("what nobody thought of")

    for step in range(9):
        rig.outbox.put((Broken if step in (3, 6, 7) else ReadyFrame)(frame(step)))
    rig.pump(1)
    assert sorted(rig.server.stream.series("grad_norm")) == [0, 1, 2, 4, 5, 8]
    lost = [record for record in rig.server.stream.records if isinstance(record, Lost)]
    assert [(one.from_step, one.to_step, one.frames) for one in lost] == [(3, 3, 1), (6, 7, 2)]
    assert rig.sender.lost_frames == 3
    assert shield.counts == {"putting a step together": 3} and "what nobody thought of" in rig.told[0]
    swallowed.clear()
