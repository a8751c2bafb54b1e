"""The flight recorder: what it keeps, what it tells, in how many marks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gradwatch.flight import BEFORE, Flight
from gradwatch.outbox import FramesOnly, MarkPoint
from gradwatch.protocol.messages import FLIGHT_MARK, Incident


def incident(step: int, opened: int, **fields: Any) -> Incident:
    plain = {"id": "i", "kind": "spike", "severity": "warning", "data": {"opened_step": opened}}
    return Incident(step=step, **{**plain, **fields})


def test_fifty_steps_up_to_the_opening_and_the_step_where_it_began() -> None:
    flight = Flight()
    for step in range(300):
        flight.note(step, [step])
    (mark,) = flight.marks(incident(100, 200))
    assert mark["incident"] == "i"
    assert [one["step"] for one in mark["batches"]] == [100, *range(201 - BEFORE, 201)]
    assert mark["batches"][-1] == {"step": 200, "ids": [200], "count": 1}


def test_heard_of_too_late_the_last_steps_are_told() -> None:
    flight = Flight()
    for step in range(5_000):
        flight.note(step, [step])
    (mark,) = flight.marks(incident(10, 12))
    assert [one["step"] for one in mark["batches"]] == list(range(5_000 - BEFORE, 5_000))


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (np.array([1, 2]), [1, 2]),
        (("a", "b" * 900), ["a", "b" * 200]),
        ([(1, "x")], [[1, "x"]]),
        ("one.jpg", ["one.jpg"]),
        (range(3), [0, 1, 2]),
    ],
)
def test_ids_of_any_kind(ids: Any, told: list[Any]) -> None:
    flight = Flight()
    flight.note(0, ids)
    (mark,) = flight.marks(incident(0, 0))
    assert mark["batches"] == [{"step": 0, "ids": told, "count": len(told)}]


def test_micro_batches_of_a_step_are_joined() -> None:
    flight = Flight()
    for micro in range(4):
        flight.note(7, [micro])
    (mark,) = flight.marks(incident(7, 7))
    assert mark["batches"] == [{"step": 7, "ids": [0, 1, 2, 3], "count": 4}]


def test_much_is_told_in_several_marks_of_bounded_size() -> None:
    flight = Flight()
    for step in range(50):
        flight.note(step, ["x" * 500] * 10_000)
    marks = list(flight.marks(incident(49, 49)))
    assert [one["step"] for mark in marks for one in mark["batches"]] == list(range(50))
    assert all(one["count"] == 10_000 and len(one["ids"]) == 4_096 for m in marks for one in m["batches"])
    assert max(len(json.dumps(mark)) for mark in marks) < 1024**2 and len(marks) == 50


def test_many_ranks_share_the_ids_of_a_step_but_each_tells_some() -> None:
    for ranks, most in ((1, 4_096), (4, 1_024), (1_000, 64)):
        flight = Flight(rank=ranks - 1, ranks=ranks)
        flight.note(0, range(10_000))
        (mark,) = flight.marks(incident(0, 0))
        assert mark["rank"] == ranks - 1
        assert (len(mark["batches"][0]["ids"]), mark["batches"][0]["count"]) == (most, 10_000)


def test_a_rank_beside_the_first_sends_its_batches_and_no_other_mark() -> None:
    outbox = FramesOnly()
    outbox.put_mark(MarkPoint(1, 0.0, "phase", {"name": "b"}))
    outbox.put_mark(MarkPoint(1, 0.0, FLIGHT_MARK, {"rank": 1}))
    assert [mark.kind for mark in outbox.take_marks()] == [FLIGHT_MARK]


def test_an_incident_is_heard_of_once_and_only_if_it_is_more_than_a_remark() -> None:
    flight = Flight()
    said = [incident(0, 0, severity="info"), incident(0, 0), incident(0, 0, severity="critical")]
    assert [flight.opened(one) for one in said] == [False, True, False]
    assert not flight.opened(incident(0, 0, id="j", open=False))
