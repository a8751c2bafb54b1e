"""What a rule makes of the numbers, against the same thing written plainly for one series."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch_server.alerts.signals import breaches, history, is_plain, judge
from gradwatch_server.models import Rule

from .builders import a_rule

NAN = math.nan


def signals(rule: Rule, values: list[float], first: int = 0) -> list[float]:
    """The rule's signal for one series, NaN where the verdict is withheld."""
    before = history(rule)
    table = np.concatenate([np.full(before, NAN), np.array(values, np.float64)])[:, None]
    steps = np.concatenate([np.full(before, -1.0), np.arange(first, first + len(values), dtype=np.float64)])
    judged = judge(rule, table, None, steps, steps, len(values))
    assert judged.signal.shape == judged.verdicts.shape == (len(values), 1)
    met = (
        breaches(rule, judged.signal[:, 0])
        if rule.aggregate != "share"
        else judged.signal[:, 0] >= rule.share
    )
    held = judged.verdicts[:, 0] == -1
    assert ((judged.verdicts[:, 0] == 1) == (met & ~held)).all()
    return [NAN if hold else float(x) for x, hold in zip(judged.signal[:, 0], held, strict=True)]


def plain_aggregate(rule: Rule, values: list[float], i: int) -> float:
    window = [x for x in values[max(0, i - rule.window + 1) : i + 1] if not math.isnan(x)]
    if math.isnan(values[i]) or 2 * len(window) < rule.window:
        return NAN
    if rule.aggregate == "share":
        return sum(x > rule.threshold for x in window) / len(window)
    if rule.aggregate == "mean":
        return statistics.fmean(window)
    return min(window) if rule.aggregate == "min" else max(window)


def plain_change(rule: Rule, values: list[float], i: int) -> float:
    def mean(end: int) -> float:
        window = [x for x in values[max(0, end - rule.window) : max(0, end)] if not math.isnan(x)]
        return statistics.fmean(window) if 2 * len(window) >= rule.window else NAN

    now, before = mean(i + 1), mean(i + 1 - rule.window)
    if math.isnan(values[i]) or math.isnan(now) or math.isnan(before):
        return NAN
    if rule.condition in ("rises", "falls"):
        return now - before if rule.condition == "rises" else before - now
    return now / before if before > 0 else NAN


values = st.lists(st.one_of(st.floats(-5, 50), st.just(NAN)), min_size=1, max_size=40)


@settings(deadline=None)
@given(values=values, window=st.integers(2, 9), aggregate=st.sampled_from(["min", "max", "mean", "share"]))
def test_aggregates(values: list[float], window: int, aggregate: str) -> None:
    rule = a_rule(window=window, aggregate=aggregate)
    expected = [plain_aggregate(rule, values, i) for i in range(len(values))]
    assert signals(rule, values) == pytest.approx(expected, nan_ok=True, abs=1e-9)


@settings(deadline=None)
@given(
    values=values, window=st.integers(1, 7), condition=st.sampled_from(["rises", "falls", "grows", "shrinks"])
)
def test_changes_against_the_window_before(values: list[float], window: int, condition: str) -> None:
    rule = a_rule(window=window, condition=condition)
    expected = [plain_change(rule, values, i) for i in range(len(values))]
    assert signals(rule, values) == pytest.approx(expected, nan_ok=True, rel=1e-6, abs=1e-6)


def test_infinity_in_a_window_is_infinite_and_leaves_with_it() -> None:
    rule = a_rule(window=2, aggregate="mean")
    assert signals(rule, [1.0, math.inf, 3.0, 5.0]) == [1.0, math.inf, math.inf, 4.0]


def test_unusual_is_a_robust_z_score_of_the_logarithm() -> None:
    rule = a_rule(condition="unusual", window=16, threshold=6.0)
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(0, 0.4, 200)).tolist()
    values[150] *= 40
    values[90] = NAN
    got = signals(rule, values)
    logs = [math.log2(x) for x in values]
    for i in range(len(values)):
        start = i // 2 * 2
        window = [x for x in logs[max(0, start - 16) : start] if not math.isnan(x)]
        if 2 * len(window) < 16 or math.isnan(logs[i]):
            assert math.isnan(got[i])
            continue
        median = statistics.median(window)
        spread = max(1.4826 * statistics.median(abs(x - median) for x in window), 0.15)
        assert got[i] == pytest.approx((logs[i] - median) / spread)
    assert [i for i, z in enumerate(got) if z > 6] == [150]


def test_silence_is_the_time_since_the_row_before() -> None:
    rule = a_rule(condition="silent", threshold=5.0)
    times = np.array([NAN, 10.0, 11.0, 20.0, 21.0])
    judged = judge(rule, np.ones((5, 1)), None, np.arange(5.0), times, 4)
    assert judged.signal[:, 0].tolist() == [0.0, 1.0, 9.0, 1.0]
    assert judged.verdicts[:, 0].tolist() == [0, 0, 1, 0]


def test_only_thresholds_on_single_values_are_plain() -> None:
    assert is_plain(a_rule()) and is_plain(a_rule(aggregate="mean", window=1))
    assert not is_plain(a_rule(aggregate="mean", window=2))
    assert not is_plain(a_rule(condition="nonfinite"))
    assert [history(a_rule(window=8, **fields)) for fields in (
        {}, {"aggregate": "max"}, {"condition": "rises"}, {"condition": "unusual"},
    )] == [0, 7, 15, 8]  # fmt: skip
