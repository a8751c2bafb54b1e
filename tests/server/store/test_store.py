"""The whole store through its public face: what is appended is what comes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.server.store.helpers import NAMES, WAIT, batch, declared, opened

from gradwatch.errors import ProtocolError
from gradwatch.protocol import Bye, Lost, Mark, Schema, Statistic
from gradwatch_server.errors import NotFound, RunKeyRefused, StreamFenced
from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store.open(address, clock=lambda: 1000.0)
    yield opened
    opened.close()


def test_values_come_back_as_they_were_sent(store: Store) -> None:
    stream = opened(store).stream
    sent = np.random.default_rng(1).random((20, 4), dtype=np.float32)
    done = store.append(stream, [declared(), batch(1, 5, sent[:12]), batch(2, 17, sent[12:])]).done
    assert done.result(WAIT) == 3
    values = store.values("digits-1", "grad_norm")
    np.testing.assert_array_equal(values.steps, np.arange(5, 25))
    np.testing.assert_array_equal(values.values, sent.astype(np.float64))
    assert values.present.all()
    series = store.series("digits-1", SeriesQuery(statistic="grad_norm", from_step=5, rows=(2, 0)))
    assert (series.width, series.first_bucket, series.last_step) == (1, 5, 24)
    np.testing.assert_array_equal(series.last, sent[:, [2, 0]].T)


def test_group_norms_are_made_from_the_tensors_below(store: Store) -> None:
    stream = opened(store).stream
    sent = np.array([[3, 4, 12, 84], [1e-25, 1e-25, 0, 0]], np.float32)
    appended = store.append(stream, [declared(), batch(1, 0, sent)])
    appended.done.result(WAIT)
    groups = {group.path: group for group in store.groups("digits-1")}
    assert set(groups) == {"", "net", "net.0"}
    assert (groups["net.0"].parent, groups["net"].parent, groups[""].parent) == (
        groups["net"].index,
        groups[""].index,
        -1,
    )
    got = store.values("digits-1", "grad_norm", "group").values
    assert got[0, groups["net.0"].index] == 5
    assert got[0, groups["net"].index] == 13
    assert got[0, groups[""].index] == 85
    np.testing.assert_allclose(got[1, groups[""].index], np.sqrt(2) * 1e-25, rtol=1e-6)
    assert [block.scope for block in appended.blocks] == ["tensor", "group"]


def test_absent_is_neither_zero_nor_nan(store: Store) -> None:
    stream = opened(store).stream
    sent = np.array([[1, 0, np.nan, 7], [2, 3, np.inf, 9]], np.float32)
    present = np.array([[1, 1, 1, 0], [1, 0, 1, 0]], np.bool_)
    store.append(stream, [declared(), batch(1, 0, sent, present=present)]).done.result(WAIT)
    series = store.series("digits-1", SeriesQuery(statistic="grad_norm", points=1))
    assert series.width == 4
    assert series.flags[:, 0].tolist() == [1, 1 | 8, 1 | 2 | 4, 0]
    np.testing.assert_array_equal(series.last[:, 0], np.array([2, 0, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(series.high[:, 0], np.array([2, 0, np.nan, np.nan], np.float32))
    root = store.values("digits-1", "grad_norm", "group", rows=(0,)).values[:, 0]
    assert np.isnan(root[0]) and np.isposinf(root[1])


def test_a_resent_record_changes_nothing_and_a_skipped_one_is_refused(store: Store) -> None:
    first = opened(store)
    assert (first.next_seq, first.created) == (0, True)
    ones = np.ones((3, 4), np.float32)
    store.append(first.stream, [declared(), batch(1, 0, ones)]).done.result(WAIT)
    again = opened(store)
    assert (again.next_seq, again.created) == (2, False)
    with pytest.raises(StreamFenced):
        store.append(first.stream, [batch(2, 3, ones)])
    store.append(again.stream, [batch(1, 0, ones), batch(2, 3, ones)]).done.result(WAIT)
    assert len(store.values("digits-1", "grad_norm").steps) == 6
    with pytest.raises(ProtocolError, match="record 9 arrived where 3 was expected"):
        store.append(again.stream, [batch(9, 6, ones)])


def test_a_refused_record_leaves_those_before_it(store: Store) -> None:
    stream = opened(store).stream
    ones = np.ones((3, 4), np.float32)
    with pytest.raises(ProtocolError, match="step 1 of 'grad_norm' came after step 2"):
        store.append(stream, [declared(), batch(1, 0, ones), batch(2, 1, ones)])
    assert opened(store).next_seq == 2
    assert len(store.values("digits-1", "grad_norm").steps) == 3


def test_another_key_does_not_get_the_run(store: Store) -> None:
    stream = opened(store).stream
    with pytest.raises(RunKeyRefused, match="another client already owns run"):
        opened(store, run_key="guess", stream="s1")
    with pytest.raises(RunKeyRefused):
        opened(store, run_key="guess")
    store.append(stream, [declared()]).done.result(WAIT)


def test_a_newer_stream_takes_over(store: Store) -> None:
    old = opened(store).stream
    new = opened(store, stream="s1").stream
    with pytest.raises(StreamFenced, match="newer process"):
        store.append(old, [declared()])
    with pytest.raises(StreamFenced):
        opened(store, stream="s0")
    store.append(new, [declared()]).done.result(WAIT)


def test_an_older_segment_may_still_bring_what_it_had_left(store: Store) -> None:
    ones = np.ones((4, 4), np.float32)
    store.append(opened(store).stream, [declared(), batch(1, 0, ones)]).done.result(WAIT)
    new = opened(store, stream="s1", segment="g1", start_step=6).stream
    store.append(new, [declared(), batch(1, 6, 3 * ones)]).done.result(WAIT)
    late = opened(store)
    assert late.next_seq == 2
    store.append(late.stream, [batch(2, 4, 2 * ones)]).done.result(WAIT)
    values = store.values("digits-1", "grad_norm", rows=(0,))
    np.testing.assert_array_equal(values.steps, np.arange(10))
    assert values.values[:, 0].tolist() == [1] * 4 + [2] * 2 + [3] * 4
    run = store.run("digits-1")
    assert run is not None and run.last_step == 9 and run.state == "running"


def test_later_segments_replace_earlier_ones_from_their_start(store: Store) -> None:
    ones = np.ones((10, 4), np.float32)
    store.append(opened(store).stream, [declared(), batch(1, 0, ones)]).done.result(WAIT)
    second = opened(store, stream="s1", segment="g1", start_step=6).stream
    store.append(second, [declared(), batch(1, 6, 2 * ones)]).done.result(WAIT)
    third = opened(store, stream="s2", segment="g2", start_step=3).stream
    store.append(third, [declared(), batch(1, 3, 3 * ones[:2])]).done.result(WAIT)
    joined = store.values("digits-1", "grad_norm", rows=(0,))
    assert joined.steps.tolist() == [0, 1, 2, 3, 4]
    assert joined.values[:, 0].tolist() == [1, 1, 1, 3, 3]
    alone = store.series("digits-1", SeriesQuery(statistic="grad_norm", rows=(0,), segment=0))
    assert alone.last[0].tolist() == [1] * 10


def test_tensors_of_later_schemas_get_rows_by_name(store: Store) -> None:
    stream = opened(store).stream
    store.append(stream, [declared(), batch(1, 0, np.full((1, 4), 1, np.float32))]).done.result(WAIT)
    names = ("head.weight", "extra.weight", "net.0.bias")
    sent = np.array([[10, 20, 30]], np.float32)
    store.append(stream, [declared(2, 1, names), batch(3, 1, sent, schema=1)]).done.result(WAIT)
    assert [tensor.name for tensor in store.tensors("digits-1")] == [*NAMES, "extra.weight"]
    values = store.values("digits-1", "grad_norm")
    np.testing.assert_array_equal(values.values[1], [np.nan, 30, np.nan, 10, 20])
    assert values.present.tolist() == [[1, 1, 1, 1, 0], [0, 1, 0, 1, 1]]


def test_marks_losses_and_the_end_are_told(store: Store) -> None:
    stream = opened(store).stream
    appended = store.append(
        stream,
        [
            declared(),
            Mark(seq=1, step=3, time=5.0, kind="note", data={"text": "<b>"}),
            Lost(seq=2, from_step=4, to_step=6, frames=3, reason="the disk was full"),
            Bye(seq=3, state="failed", time=9.0, error={"type": "ValueError", "message": "no"}),
        ],
    )
    assert appended.state == "failed"
    appended.done.result(WAIT)
    assert [mark.revision for mark in appended.marks] == [1]
    assert store.marks("digits-1") == appended.marks
    assert store.marks("digits-1", since=1) == []
    run = store.run("digits-1")
    assert run is not None
    assert (run.state, run.finished_at, run.lost_frames) == ("failed", 9.0, 3)
    assert run.error == {"type": "ValueError", "message": "no"}
    again = opened(store)
    assert again.run.state == "failed", "a stream that has said goodbye doesn't start the run again"
    assert opened(store, stream="s1", segment="g1").run.state == "running"


def test_a_silent_run_is_lost_until_it_gives_a_sign(store: Store) -> None:
    stream = opened(store).stream
    assert store.mark_lost(now=1059.0).result(WAIT) == []
    assert store.mark_lost(now=1061.0).result(WAIT) == ["digits-1"]
    assert store.mark_lost(now=1062.0).result(WAIT) == []
    assert stream.run.state == "lost"
    store.beat("digits-1", now=1070.0, step=0, cost={"us_per_step": 12.5}).result(WAIT)
    run = store.run("digits-1")
    assert run is not None and run.state == "running" and run.cost == {"us_per_step": 12.5}
    store.mark_lost(now=1200.0).result(WAIT)
    assert store.append(stream, [declared()]).state == "running"


def test_runs_are_found_by_project_state_and_words(store: Store) -> None:
    opened(store)
    opened(store, run_id="b", project="other", name="100%_sure", stream="s1")
    store.update_run("b", tags=["Sweep"], notes="try again").result(WAIT)
    assert {run.id for run in store.runs()} == {"digits-1", "b"}
    assert [run.id for run in store.runs(project="other")] == ["b"]
    assert [run.id for run in store.runs(text="sweep SURE")] == ["b"]
    assert [run.id for run in store.runs(text="0%_")] == ["b"]
    assert store.runs(text="_____") == []
    assert [run.id for run in store.runs(ids={"b", "unknown"})] == ["b"]
    assert store.runs(state="finished") == []
    page = store.page(limit=1)
    assert (len(page.runs), page.total) == (1, 2)
    with pytest.raises(NotFound):
        store.update_run("unknown", notes="x").result(WAIT)


def test_runs_are_found_by_who_started_them(store: Store) -> None:
    opened(store, context={"who": "Ann", "host": {"name": "bob-1"}})
    opened(store, run_id="annual", stream="s1", context={"who": "bob" * 100})
    opened(store, run_id="c", stream="s2", context={"who": {"name": "ann"}})
    assert [run.who for run in store.runs(text="who:ann")] == ["Ann"]
    assert {run.id for run in store.runs(text="ann")} == {"digits-1", "annual"}
    assert [run.who for run in store.runs(text="who:bob")] == [("bob" * 100)[:64]]
    assert store.runs(text="who:ann who:bob") == []
    assert [run.id for run in store.page(text="ann", by_who=False).runs] == ["annual"]
    assert store.page(text="who:ann", by_who=False).runs == []
    assert store.runs(ids={"c"})[0].who == ""


def test_a_deleted_run_is_gone(store: Store) -> None:
    stream = opened(store).stream
    store.append(stream, [declared(), batch(1, 0, np.ones((3, 4), np.float32))]).done.result(WAIT)
    store.delete_run("digits-1").result(WAIT)
    assert store.run("digits-1") is None and store.tensors("digits-1") == []
    with pytest.raises(NotFound):
        store.series("digits-1", SeriesQuery(statistic="grad_norm"))
    with pytest.raises(StreamFenced, match="deleted"):
        store.append(stream, [])
    assert opened(store, run_key="another").created


def test_everything_is_there_after_a_restart(address: str) -> None:
    sent = np.random.default_rng(2).random((6, 4), dtype=np.float32)
    first = Store.open(address, clock=lambda: 1000.0)
    stream = opened(first).stream
    first.append(stream, [declared(), batch(1, 0, sent[:3])]).done.result(WAIT)
    before = first.run("digits-1")
    first.close()
    second = Store.open(address, clock=lambda: 1000.0)
    assert second.run("digits-1") == before
    again = opened(second)
    assert again.next_seq == 2
    with pytest.raises(ProtocolError, match="steps must rise"):
        second.append(again.stream, [batch(2, 2, sent[:3])])
    again = opened(second)
    second.append(again.stream, [batch(2, 3, sent[3:])]).done.result(WAIT)
    np.testing.assert_array_equal(second.values("digits-1", "grad_norm").values, sent.astype(np.float64))
    assert len(second.groups("digits-1")) == 3
    second.close()


def test_percentiles_leave_out_what_is_not_finite(store: Store) -> None:
    stream = opened(store).stream
    sent = np.tile(np.arange(101, dtype=np.float32)[:, None], 4)
    sent[7, 1] = np.nan
    store.append(stream, [declared(), batch(1, 0, sent)]).done.result(WAIT)
    assert store.percentiles("digits-1", "grad_norm", "tensor", 0, [0, 50, 95]) == [0, 50, 95]
    expected = np.percentile(np.delete(np.arange(101), 7), 50)
    assert store.percentiles("digits-1", "grad_norm", "tensor", 1, [50]) == [expected]


@pytest.mark.parametrize(
    ("statistics", "sentence"),
    [
        ((Statistic(name="x", scope="tensor", width=3),), "3 columns for 4 tensors"),
        ((Statistic(name="x", scope="run"), Statistic(name="x", scope="run")), "declared twice"),
        ((Statistic(name="x", scope="module", width=2),), "this server takes run, tensor and histogram"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(
    store: Store, statistics: tuple[Statistic, ...], sentence: str
) -> None:
    stream = opened(store).stream
    schema = Schema(seq=0, id=0, statistics=statistics, tensors=declared().tensors)
    with pytest.raises(ProtocolError, match=sentence):
        store.append(stream, [schema])


def test_a_batch_that_does_not_fit_its_schema_is_refused(store: Store) -> None:
    stream = opened(store).stream
    with pytest.raises(ProtocolError, match="3 columns where 4 were declared"):
        store.append(stream, [declared(), batch(1, 0, np.ones((2, 3), np.float32))])
    stream = opened(store).stream
    with pytest.raises(ProtocolError, match="schema 5, which was never declared"):
        store.append(stream, [batch(1, 0, np.ones((2, 4), np.float32), schema=5)])
