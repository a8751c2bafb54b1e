"""A rule tried on a stored run says what it would have said live, though most of the run isn't looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.alerts.builders import a_rule, a_run, block, tensors
from tests.server.alerts.test_incidents import incident

from gradwatch.protocol import Batch, Block, Bye, Hello, Schema, Statistic, Tensor
from gradwatch_server.alerts.engine import Engine
from gradwatch_server.backtesting import suggest, try_on_healthy, try_rule
from gradwatch_server.models import Rule, Run
from gradwatch_server.store import Store
from gradwatch_server.store.health_queries import save_incidents

NAMES = ("blocks.0.weight", "blocks.1.weight", "head.weight")
STEPS = 6_000


def a_course() -> np.ndarray[Any, Any]:
    """Healthy norms with spikes, long plateaus, NaN and Inf here and there."""
    rng = np.random.default_rng(7)
    values = np.exp(rng.normal(0, 0.3, (STEPS, len(NAMES)))).astype(np.float32)
    for start, length, column, factor in (
        (900, 1, 0, 100),
        (1500, 400, 1, 50),
        (1905, 3, 2, 70),
        (4000, 7, 0, 30),
    ):
        values[start : start + length, column] *= factor
    values[2500:2600, 2] = 1e-6
    values[3000, 0], values[3001, 1], values[3100:3110, 2] = np.nan, np.inf, np.nan
    values[5990:, 1] *= 100
    return values


VALUES = a_course()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Run]]:
    store = Store.open(str(tmp_path_factory.mktemp("backtest") / "gradwatch.db"))
    hello = Hello(run_id="run1", run_key="k", project="digits", name="baseline", stream="s", segment="g")
    stream = store.open_stream(hello, now=1.0).result(30).stream
    statistic = Statistic(name="grad_norm", scope="tensor", width=len(NAMES))
    schema = Schema(seq=0, id=0, statistics=(statistic,), tensors=tuple(Tensor(name=name) for name in NAMES))
    store.append(stream, [schema])
    for part in range(STEPS // 500):
        steps = np.arange(part * 500, part * 500 + 500, dtype=np.float64)
        one = Block(
            statistic=0, steps=steps, times=1000.0 + steps, values=VALUES[part * 500 : part * 500 + 500]
        )
        appended = store.append(stream, [Batch(seq=part + 1, schema=0, blocks=(one,))])
    appended.done.result(30)
    run = store.run("run1")
    assert run is not None
    yield store, run
    store.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's store lives on after a test, with its writer thread."""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"for_steps": 3, "recover_steps": 5},
        {"tensors": "blocks.*", "recover_steps": 20},
        {"threshold": 1.0, "for_steps": 4, "recover_steps": 6},
        {"condition": "below", "threshold": 1e-3},
        {"condition": "outside", "threshold": 0.01, "upper": 40.0, "cooldown_steps": 1000},
        {"condition": "nonfinite", "recover_steps": 3},
        {"aggregate": "mean", "window": 30, "threshold": 5.0},
        {"aggregate": "share", "window": 50, "share": 0.1, "threshold": 20.0},
        {"aggregate": "min", "window": 5, "threshold": 20.0},
        {"condition": "grows", "window": 10, "threshold": 8.0},
        {"condition": "unusual", "window": 32, "threshold": 9.0},
    ],
)
def test_it_says_what_live_would_have_said(stored: tuple[Store, Run], fields: dict[str, Any]) -> None:
    store, run = stored
    rule: Rule = a_rule(**{"statistic": "grad_norm", "tensors": "*", **fields})
    engine = Engine([rule])
    alerts: dict[str, Any] = {}
    for start in range(0, STEPS, 100):
        rows = block("grad_norm", VALUES[start : start + 100], first=start)
        for change in engine.observe(a_run(), tensors(*NAMES), [rows]).changes:
            alerts[change.alert.id] = change.alert
    trial = try_rule(store, run, rule)
    live = [(a.opened_step, a.cleared_step, a.peak, a.count, a.worst[0]) for a in alerts.values()]
    assert live and trial.complete and trial.to_step == STEPS - 1
    assert repr([(f.step, f.cleared, f.value, f.count, f.series) for f in trial.firings]) == repr(live)


def test_very_many_firings_are_cut_off_and_that_is_said(stored: tuple[Store, Run]) -> None:
    store, run = stored
    trial = try_rule(store, run, a_rule(statistic="grad_norm", tensors="*", threshold=1.5))
    assert len(trial.firings) >= 200 and not trial.complete and trial.to_step < STEPS - 1


def test_time_is_bounded_and_what_is_missing_is_said(stored: tuple[Store, Run]) -> None:
    store, run = stored
    ticks = iter(range(0, 10_000, 60))
    rule = a_rule(statistic="grad_norm", tensors="*")
    trial = try_rule(store, run, rule, timer=lambda: float(next(ticks)))
    assert [f.step for f in trial.firings] == [900] and not trial.complete
    assert 900 <= trial.to_step < STEPS - 1


def test_a_statistic_or_layer_that_the_run_lacks_never_fires(stored: tuple[Store, Run]) -> None:
    store, run = stored
    for fields in (
        {"statistic": "loss"},
        {"statistic": "grad_norm", "tensors": "none.*"},
        {"statistic": "grad_norm"},
    ):
        trial = try_rule(store, run, a_rule(**fields))
        assert (trial.firings, trial.series, trial.complete) == ([], 0, True)


def test_a_rule_about_incidents_is_tried_on_those_that_were_found(stored: tuple[Store, Run]) -> None:
    store, run = stored
    found = [
        incident(id="i1"),
        incident(id="i2", kind="spike", opened_step=3, closed_step=5, closed_time=9.0),
    ]
    store.database.write(lambda conn: save_incidents(conn, run.id, found)).result(30)
    rule = a_rule(statistic="health", condition="incident", incidents="*")
    assert [(f.step, f.cleared) for f in try_rule(store, run, rule).firings] == [(3, 5), (9, None)]
    assert len(try_rule(store, run, a_rule(condition="incident", incidents="spike")).firings) == 1
    gone = [incident(id=one["id"], merged_into="i0") for one in found]
    store.database.write(lambda conn: save_incidents(conn, run.id, gone)).result(30)


def test_the_suggested_threshold_is_beyond_what_is_usual(stored: tuple[Store, Run]) -> None:
    store, run = stored
    above = suggest(store, run, a_rule(statistic="grad_norm", tensors="head.*"))
    below = suggest(store, run, a_rule(statistic="grad_norm", tensors="blocks.*", condition="below"))
    usual = np.exp(np.random.default_rng(1).normal(0, 0.3, 100_000))
    assert above is not None and usual.max() < above < 20
    assert below is not None and 0.05 < below < usual.min()
    assert suggest(store, run, a_rule(statistic="grad_norm", tensors="*", condition="nonfinite")) is None
    assert suggest(store, run, a_rule(statistic="lr")) is None


def test_an_incident_does_not_raise_the_threshold_that_is_suggested(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "gradwatch.db"))
    hello = Hello(run_id="run1", run_key="k", project="p", name="n", stream="s", segment="g")
    stream = store.open_stream(hello, now=1.0).result(30).stream
    steps = np.arange(400, dtype=np.float64)
    norms = np.where(steps < 300, 1.0 + 0.001 * (steps % 7), 4e15)[:, None]
    statistic = Statistic(name="global_grad_norm", scope="run", dtype="f8")
    one = Block(statistic=0, steps=steps, times=steps, values=norms)
    store.append(stream, [Schema(seq=0, id=0, statistics=(statistic,))])
    store.append(stream, [Batch(seq=1, schema=0, blocks=(one,))]).done.result(30)
    run = store.run("run1")
    assert run is not None
    rule = a_rule(statistic="global_grad_norm")
    assert suggest(store, run, rule) == 8e15

    def told(**fields: Any) -> float | None:
        body = incident(opened_step=310, **fields)
        store.database.write(lambda conn: save_incidents(conn, "run1", [body])).result(30)
        return suggest(store, run, rule)

    assert told(first_step=300) == 2.0
    assert told(first_step=300, kind="dead") == 8e15, "a dead layer leaves the norm as it was"
    assert told(first_step=0) == 2.0, "never well: the calmest part"
    assert told(first_step=300, closed_step=310) == 8e15
    store.close()


def test_it_is_tried_on_healthy_runs_of_the_project(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "gradwatch.db"))
    for index, (project, top, state) in enumerate(
        [
            ("p", 1, "finished"),
            ("p", 50, "finished"),
            ("p", 50, "failed"),
            ("q", 50, "finished"),
            ("p", 50, "running"),
            ("p", 50, "finished"),
            ("p", 50, "finished"),
        ]
    ):
        hello = Hello(
            run_id=f"run{index}", run_key="k", project=project, name="n", stream=f"s{index}", segment="g"
        )
        stream = store.open_stream(hello, now=1.0).result(30).stream
        statistic = Statistic(name="loss", scope="run", dtype="f8")
        steps = np.arange(3, dtype=np.float64)
        one = Block(statistic=0, steps=steps, times=steps, values=np.array([[1.0], [top], [1.0]]))
        records: list[Any] = [
            Schema(seq=0, id=0, statistics=(statistic,)),
            Batch(seq=1, schema=0, blocks=(one,)),
        ]
        if state != "running":
            records.append(Bye(seq=2, state=state, time=3.0))  # type: ignore[arg-type]
        store.append(stream, records).done.result(30)
    run = store.run("run4")
    assert run is not None
    for ill, severity in (("run5", "warning"), ("run6", "info")):
        found = [incident(severity=severity)]
        store.database.write(lambda conn, ill=ill, found=found: save_incidents(conn, ill, found)).result(30)
    assert try_on_healthy(store, run, a_rule(statistic="loss")) == (3, 2)
    store.close()
