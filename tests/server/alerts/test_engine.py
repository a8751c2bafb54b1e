"""Rules over blocks: what fires, on which layers, as how many alerts; and that cutting rows otherwise changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch_server.alerts.engine import Engine, Outcome, applies
from gradwatch_server.models import Alert, Rule

from .builders import a_rule, a_run, block, fired, observe, tensors

NAN, INF = math.nan, math.inf


def steps_fired(rule: Rule, values: list[float]) -> list[int]:
    return [step for _, step in fired(observe(Engine([rule]), values))]


@pytest.mark.parametrize(
    ("rule", "values", "steps"),
    [
        (a_rule(), [1, 10, 11, 12, 9, 13], [2, 5]),
        (a_rule(for_steps=2), [11, 9, 11, 12, 13], [3]),
        (a_rule(condition="below"), [11, 10, 9, 8], [2]),
        (a_rule(condition="outside", upper=20.0), [15, 21, 15, 9, 15], [1, 3]),
        (a_rule(), [1, INF, 1], [1]),
        (a_rule(condition="below"), [11, -INF, 11], [1]),
        (a_rule(), [1, NAN, 1], []),
        (a_rule(condition="below"), [11, NAN], []),
        (a_rule(for_steps=2), [11, NAN, 11], [2]),
        (a_rule(condition="nonfinite"), [1, NAN, 1, INF, -INF], [1, 3]),
    ],
)
def test_conditions_on_single_values(rule: Rule, values: list[float], steps: list[int]) -> None:
    assert steps_fired(rule, values) == steps


def test_nan_keeps_an_alert_open() -> None:
    engine = Engine([a_rule()])
    observe(engine, [11.0])
    assert not observe(engine, [NAN], first=1)
    assert [change.kind for change in observe(engine, [1.0], first=2).changes] == ["closed"]


@pytest.mark.parametrize(
    ("glob", "layers"),
    [
        ("*", ["blocks.0.attn.weight", "blocks.0.mlp.weight", "blocks.1.attn.weight", "head.weight"]),
        ("blocks.*.attn.*", ["blocks.0.attn.weight", "blocks.1.attn.weight"]),
        ("head.weight, blocks.0.mlp.*", ["blocks.0.mlp.weight", "head.weight"]),
        ("nothing.*", []),
    ],
)
def test_a_glob_chooses_the_layers(glob: str, layers: list[str]) -> None:
    engine = Engine([a_rule(statistic="grad_norm", tensors=glob)])
    outcome = observe(engine, [[11, 12, 13, 14]])
    assert [series for series, _ in fired(outcome)] == layers


def test_many_layers_are_one_alert_that_names_the_worst() -> None:
    names = [f"layers.{index}" for index in range(5000)]
    engine = Engine([a_rule(statistic="grad_norm", tensors="*")])
    values = np.where(np.arange(5000) % 5 < 3, 100.0 + np.arange(5000), 1.0)[None, :]
    outcome = engine.observe(a_run(), tensors(*names), [block("grad_norm", values)])
    (change,) = outcome.changes
    assert (change.kind, change.alert.count, change.alert.peak) == ("opened", 3000, 5097.0)
    assert change.alert.worst == ("layers.4997", "layers.4996", "layers.4995", "layers.4992", "layers.4991")
    assert change.alert.sentence == (
        "The gradient norm of layers.4997 and 2,999 more is above 10 since step 0 (peak: 5,097)."
    )


def test_the_alert_stays_until_the_last_layer_is_fine() -> None:
    engine = Engine([a_rule(statistic="grad_norm", tensors="*")])
    kinds = [
        [change.kind for change in observe(engine, [row], first=step).changes]
        for step, row in enumerate([[11, 1, 1, 1], [1, 12, 1, 1], [1, 12, 1, 1], [1, 1, 1, 1]])
    ]
    assert kinds == [["opened"], ["updated"], [], ["closed"]]


def test_firing_again_in_the_cool_down_is_the_same_alert_quietly() -> None:
    engine = Engine([a_rule(cooldown_steps=3)])
    changes = observe(engine, [11, 1, 1, 12, 1, 1, 1, 13]).changes
    assert [(change.kind, change.quiet) for change in changes] == [
        ("opened", False), ("closed", False), ("opened", True), ("closed", False), ("opened", False),
    ]  # fmt: skip
    ids = [change.alert.id for change in changes]
    assert len(set(ids[:4])) == 1 and ids[4] != ids[0]
    assert changes[2].alert.peak == 12.0


def test_editing_takes_instances_back_to_normal_and_says_so() -> None:
    rule = a_rule()
    engine = Engine([rule])
    opened = observe(engine, [11.0]).changes[0].alert
    outcome = engine.replace_rule(replace(rule, threshold=20.0, version=2))
    assert [(t.old, t.new, t.reason) for t in outcome.transitions] == [("firing", "normal", "rule edited")]
    assert [(c.kind, c.alert.id, c.alert.reason) for c in outcome.changes] == [
        ("closed", opened.id, "rule edited")
    ]
    assert not observe(engine, [11.0], first=1)
    assert observe(engine, [21.0], first=2).changes[0].alert.id != opened.id


def test_a_rule_comes_and_goes_while_a_run_is_on() -> None:
    engine = Engine()
    assert not observe(engine, [11.0])
    engine.replace_rule(a_rule())
    assert engine.worst("rule1") == "normal"
    assert observe(engine, [11.0], first=1).changes
    assert engine.worst("rule1") == "firing"
    assert [c.alert.reason for c in engine.remove_rule("rule1").changes] == ["rule removed"]
    assert not observe(engine, [11.0], first=2)


def test_disabled_rules_and_rules_about_other_runs_are_silent() -> None:
    run = a_run()
    assert not applies(a_rule(enabled=False), run)
    assert not applies(a_rule(project="other*"), run)
    assert not applies(a_rule(run="other*"), run)
    assert applies(a_rule(run="base*", project="dig*"), run)
    assert applies(a_rule(run=run.id), run)


def test_absent_layers_hold_and_are_not_nan() -> None:
    engine = Engine([a_rule(statistic="grad_norm", tensors="*", condition="nonfinite", recover_steps=1)])
    row = [[NAN, 1, 1, 1]]
    assert not observe(engine, row, present=[[False, True, True, True]])
    assert observe(engine, row, first=1, present=[[True, True, True, True]]).changes[0].alert.count == 1
    assert not observe(engine, row, first=2, present=[[False, True, True, True]])


def test_a_block_of_some_layers_leaves_the_others_as_they_are() -> None:
    engine = Engine([a_rule(statistic="grad_norm", tensors="*")])
    observe(engine, [[11, 1, 1, 1]])
    assert not observe(engine, [[1, 1]], first=1, rows=[2, 3])
    assert [c.kind for c in observe(engine, [[1, 1]], first=2, rows=[3, 0]).changes] == ["closed"]


def test_layers_that_come_later_are_judged_too() -> None:
    engine = Engine([a_rule(statistic="grad_norm", tensors="*.weight", for_steps=2)])
    engine.observe(a_run(), tensors("a.weight", "b.bias"), [block("grad_norm", [[11, 11]])])
    outcome = engine.observe(
        a_run(), tensors("a.weight", "b.bias", "c.weight"), [block("grad_norm", [[11, 11, 11]] * 2, first=1)]
    )
    assert fired(outcome) == [("a.weight", 1), ("c.weight", 2)]


def test_the_end_of_a_run_closes_its_alerts() -> None:
    engine = Engine([a_rule()])
    observe(engine, [11.0])
    (change,) = engine.end_run(a_run(state="failed", last_step=7, last_time=1007.0)).changes
    assert (change.alert.reason, change.alert.cleared_step) == ("run ended", 7)


def final_alerts(outcomes: list[Outcome]) -> dict[str, Alert]:
    return {change.alert.id: change.alert for outcome in outcomes for change in outcome.changes}


RULES = [
    a_rule(id="plain", statistic="grad_norm", tensors="*", recover_steps=2),
    a_rule(
        id="slow", statistic="grad_norm", tensors="blocks.*", for_steps=3, recover_steps=2, cooldown_steps=4
    ),
    a_rule(id="low", statistic="grad_norm", tensors="*", condition="below", threshold=2.0, for_steps=2),
    a_rule(id="band", statistic="grad_norm", tensors="head.*", condition="outside", threshold=2.0, upper=9.0),
    a_rule(id="nan", statistic="grad_norm", tensors="*", condition="nonfinite", recover_steps=3),
    a_rule(id="mean", statistic="grad_norm", tensors="*", aggregate="mean", window=5, threshold=6.0),
    a_rule(id="max", statistic="grad_norm", tensors="*", aggregate="max", window=3),
    a_rule(id="share", statistic="grad_norm", tensors="*", aggregate="share", window=6, share=0.5),
    a_rule(id="grows", statistic="grad_norm", tensors="*", condition="grows", window=3, threshold=2.0),
    a_rule(id="falls", statistic="grad_norm", tensors="*", condition="falls", window=2, threshold=3.0),
    a_rule(id="odd", statistic="grad_norm", tensors="*", condition="unusual", window=16, threshold=3.0),
]
numbers = st.one_of(st.floats(0.25, 20, width=32), st.sampled_from([NAN, INF, 0.0, 11.0, 11.0, 5.0, 1.0]))


@settings(max_examples=30, deadline=None)
@given(
    table=st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=48),
    gone=st.sets(st.tuples(st.integers(0, 47), st.integers(0, 3)), max_size=20),
    cuts=st.sets(st.integers(1, 47), max_size=10),
)
def test_alerts_do_not_depend_on_how_rows_are_cut(
    table: list[tuple[float, ...]], gone: set[tuple[int, int]], cuts: set[int]
) -> None:
    values = np.array(table, np.float32)
    present = np.ones(values.shape, np.bool_)
    for row, column in gone:
        if row < len(table):
            present[row, column] = False
    whole = observe(Engine(RULES), values, present=present)
    engine = Engine(RULES)
    edges = sorted({0, len(table), *(cut for cut in cuts if cut < len(table))})
    parts = [
        observe(engine, values[start:end], first=start, present=present[start:end])
        for start, end in zip(edges, edges[1:], strict=False)
    ]
    in_parts = [t for part in parts for t in part.transitions]
    for rule in RULES:
        expected = [t for t in whole.transitions if t.rule_id == rule.id]
        assert repr([t for t in in_parts if t.rule_id == rule.id]) == repr(expected)
    assert repr(sorted(final_alerts([whole]).items())) == repr(sorted(final_alerts(parts).items()))
