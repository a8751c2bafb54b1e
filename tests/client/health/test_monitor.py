from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch.health import MarkPoint, Monitor, Observation, Series, from_bytes, from_plain, to_bytes

from .conftest import Story, loud, network, told


def eventful(lag: int = 0) -> Story:
    """A run in which much goes wrong: a spike, an LR jump with an explosion and a diverging loss, then NaN."""
    story = Story(420, seed=3)
    story.lag = lag
    story.norms[180] *= 30
    story.run["lr"][250:] *= 30
    story.norms[251:] *= 40
    story.loss[252:] *= np.linspace(3, 60, 420 - 252)
    story.norms[400:, 4] = np.nan
    story.loss[402:] = np.nan
    story.marks = [MarkPoint(200, "checkpoint")]
    return story


def snapshots(story: Story, cuts: list[int]) -> list[object]:
    """Final incidents as plain values."""
    return [dataclasses.asdict(i) for i in story.watch(cuts).incidents]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 419), max_size=60), st.integers(0, 3))
def test_the_same_frames_give_the_same_incidents_however_they_are_cut(cuts: list[int], lag: int) -> None:
    story = eventful(lag)
    whole = snapshots(story, [419])
    assert len(whole) >= 3
    assert snapshots(story, cuts or [7]) == whole


def test_frame_by_frame_is_the_same_as_all_at_once() -> None:
    story = eventful(lag=1)
    one = story.watch(range(1, 420))
    assert [dataclasses.asdict(i) for i in one.incidents] == snapshots(story, [419])


@pytest.mark.parametrize("stop", [100, 253, 404])
def test_a_restored_monitor_goes_on_as_if_nothing_had_happened(stop: int) -> None:
    story = eventful(lag=1)
    whole = story.watch([stop])
    first = story.monitor()
    first.observe(story.observe(0, stop))
    kept = from_bytes(to_bytes(first.state()))
    second = story.monitor()
    second.restore(kept)
    second.observe(story.observe(stop, 420))
    assert [dataclasses.asdict(i) for i in second.incidents] == [
        dataclasses.asdict(i) for i in whole.incidents
    ]
    assert second.scores() == whole.scores()
    assert second.health() == whole.health()


def test_the_state_does_not_grow_with_the_run() -> None:
    sizes = []
    for n in (600, 2400):
        state = Story(n, seed=1).watch().state()
        arrays = sum(a.nbytes for a in state["arrays"].values())
        sizes.append((arrays, len(json.dumps(state["plain"], default=str))))
    assert sizes[1][0] == sizes[0][0]
    assert sizes[1][1] <= 1.3 * sizes[0][1]


def test_a_state_of_another_model_is_refused_with_a_sentence() -> None:
    state = Story(50).watch().state()
    other = Monitor(network(2))
    with pytest.raises(ValueError, match="start a new Monitor"):
        other.restore(state)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="use 'default' or 'adversarial'"):
        Monitor([], profile="loud")


def test_gradients_are_judged_at_once_and_the_loss_when_it_comes() -> None:
    story = Story(300, seed=2)
    story.norms[200, 3] = np.nan
    monitor = story.monitor()
    monitor.observe(story.observe(0, 200))
    story.has_loss = False
    assert [i.kind for i in monitor.observe(story.observe(200, 201))] == ["nonfinite"]


def test_a_frame_waits_for_an_overdue_loss_but_not_for_ever() -> None:
    story = Story(300, seed=2)
    monitor = story.monitor()
    monitor.observe(story.observe(0, 200))
    story.has_loss = False
    monitor.observe(story.observe(200, 203))
    assert monitor.step == 200
    monitor.observe(story.observe(203, 240))
    assert monitor.step >= 235


def test_repeated_frames_change_nothing() -> None:
    story = eventful()
    once, twice = story.watch(), story.watch()
    twice.observe(story.observe(100, 300))
    assert [dataclasses.asdict(i) for i in once.incidents] == [dataclasses.asdict(i) for i in twice.incidents]


def test_columns_may_be_in_another_order_when_rows_say_so() -> None:
    story = eventful()
    flipped = story.monitor()
    order = np.arange(len(story.tensors))[::-1].copy()
    for start in range(0, 420, 20):
        whole = story.observe(start, start + 20)
        series = tuple(
            Series(s.name, s.scope, s.steps, s.times, s.values[:, order], None, order)
            if s.scope == "tensor"
            else s
            for s in whole.series
        )
        flipped.observe(Observation(series, whole.marks))
    assert [dataclasses.asdict(i) for i in flipped.incidents] == snapshots(story, [])


def test_incidents_survive_json() -> None:
    for incident in eventful().watch().incidents:
        plain = json.loads(json.dumps(dataclasses.asdict(incident)))
        assert from_plain(plain) == incident


def test_ids_depend_on_the_run_and_on_nothing_else() -> None:
    story = eventful()
    ids = [i.id for i in story.watch().incidents]
    assert ids == [i.id for i in story.watch([50, 60, 400]).incidents]
    other = Monitor(story.tensors, run="another")
    other.observe(story.observe(0, 420))
    assert not set(ids) & {i.id for i in other.incidents}


def test_health_says_learning_then_healthy_then_what_is_wrong() -> None:
    story = eventful()
    monitor = story.monitor()
    monitor.observe(story.observe(0, 40))
    assert monitor.health() == ("learning", "Learning what is normal: 40 of 100 steps.")
    monitor.observe(story.observe(40, 150))
    state, sentence = monitor.health()
    assert state == "healthy" and sentence.startswith("Healthy for 2 min, norm ")
    monitor.observe(story.observe(150, 300))
    state, sentence = monitor.health()
    assert state == "critical" and "since step 25" in sentence


def test_new_tensors_join_without_a_new_start() -> None:
    story = Story(300, seed=5)
    monitor = Monitor(story.tensors[:6], run="grows")
    whole = story.observe(0, 150)
    monitor.observe(
        Observation(
            tuple(
                Series(s.name, s.scope, s.steps, s.times, s.values[:, :6]) if s.scope == "tensor" else s
                for s in whole.series
            )
        )
    )
    monitor.declare(story.tensors)
    monitor.observe(story.observe(150, 300))
    assert monitor.step == 299
    assert loud(monitor) == []


def test_a_schema_that_drops_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match="in the same order"):
        Monitor(network(3)).declare(network(3)[1:])


def test_a_run_that_only_logs_a_loss_is_watched_too() -> None:
    story = Story(300, seed=1)
    story.loss[200:] *= 10
    steps = np.arange(300.0)
    monitor = Monitor([], run="scalars")
    monitor.observe(Observation((Series("loss", "run", steps, steps, story.loss[:, None]),)))
    assert [i.kind for i in told(monitor)] == ["diverging"]


def test_a_resumed_run_steps_back_with_a_mark() -> None:
    story = Story(300, seed=4)
    monitor = story.watch()
    again = Story(300, seed=4)
    again.marks = [MarkPoint(200, "restart")]
    again.norms[200:] *= 3
    monitor.observe(again.observe(200, 300))
    assert monitor.step == 299
    assert loud(monitor) == []


def test_stopped_is_said_when_no_step_comes_and_closes_with_the_next() -> None:
    story = Story(200)
    monitor = story.monitor()
    monitor.observe(story.observe(0, 150))
    assert monitor.tick(149 + 290.0) == []
    (found,) = monitor.tick(149 + 310.0)
    assert (found.kind, found.severity, found.first_step) == ("stopped", "warning", 149)
    assert monitor.tick(149 + 400.0) == []
    (closed,) = monitor.observe(story.observe(150, 200))
    assert closed.closed_step == 150
