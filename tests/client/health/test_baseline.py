from __future__ import annotations

import math

import numpy as np
import pytest

from gradwatch.health.baseline import Quantile, Tracker, TurnRate, mad, median, theil_sen


def test_median_and_mad_agree_with_numpy() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 100):
        values = rng.normal(size=n).tolist()
        assert median(values) == pytest.approx(np.median(values))
        expected = 1.4826 * np.median(np.abs(np.array(values) - np.median(values)))
        assert mad(values, median(values)) == pytest.approx(expected)


def test_theil_sen_is_the_median_of_all_slopes_and_shrugs_off_an_outlier() -> None:
    y = 3.0 + 0.5 * np.arange(20.0)
    y[7] = 1e6
    slopes = [(y[j] - y[i]) / (j - i) for i in range(20) for j in range(i + 1, 20)]
    assert theil_sen(y) == pytest.approx(np.median(slopes))
    assert theil_sen(y) == pytest.approx(0.5, abs=1e-6)
    assert theil_sen(np.zeros(1)) == 0.0


def fed(values: list[float]) -> Tracker:
    tracker = Tracker()
    for value in values:
        tracker.learn(value)
    return tracker


def test_a_nan_in_the_baseline_changes_nothing_after_it() -> None:
    values = np.random.default_rng(1).normal(size=200).tolist()
    broken = [*values[:100], math.nan, math.inf, -math.inf, *values[100:]]
    assert fed(values) == fed(broken)


def test_a_score_never_includes_its_own_point() -> None:
    tracker = fed(np.random.default_rng(2).normal(scale=0.3, size=300).tolist())
    before = tracker.score(50.0)
    assert before > 100
    tracker.learn(50.0)
    assert tracker.score(50.0) > 0.9 * before


def test_no_score_before_there_is_a_baseline() -> None:
    assert fed([0.0] * 29).score(100.0) == 0.0
    assert fed([0.0] * 30).score(100.0) > 100


def test_quantile_keeps_a_window_and_the_first_maximum() -> None:
    quantile = Quantile()
    for value in range(2000):
        quantile.learn(float(value))
    quantile.learn(math.nan)
    assert len(quantile.values) == 512
    assert quantile.at(0.5) == pytest.approx(np.quantile(np.arange(1488, 2000), 0.5), abs=1)
    assert quantile.first_max == 99


def test_turn_rate_tells_a_zigzag_from_noise_and_from_a_slope() -> None:
    zigzag, noise, slope = TurnRate(), TurnRate(), TurnRate()
    random = np.random.default_rng(3).normal(size=400)
    for n in range(400):
        zigzag.learn((-1.0) ** n)
        noise.learn(float(random[n]))
        slope.learn(float(n))
    assert zigzag.rate == 1.0
    assert 0.5 < noise.rate < 0.8
    assert slope.rate == 0.0
