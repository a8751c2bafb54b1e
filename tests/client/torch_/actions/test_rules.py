"""The rules, on numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradwatch.errors import ConfigError
from gradwatch.torch_.actions.record import Action, Budget, Purse
from gradwatch.torch_.actions.rules import LossLevel, NormLevel, Patience, Window


def noise(n: int, seed: int = 0) -> list[float]:
    return list(np.exp(np.random.default_rng(seed).normal(0, 0.2, n)))


def test_the_limit_is_the_quantile_of_the_last_norms_times_the_factor() -> None:
    level = NormLevel(q=0.95, factor=1.5, window=256, warmup=25)
    norms = noise(600)
    for k, norm in enumerate(norms):
        assert (level.limit is None) == (k < 25)
        level.add(norm)
    assert level.limit == pytest.approx(1.5 * np.quantile(norms[-256:], 0.95))
    assert not level.exploding


def test_what_is_not_finite_is_forgotten() -> None:
    level, other = NormLevel(), NormLevel()
    for norm in noise(100):
        level.add(norm)
        level.add(math.nan)
        level.add(math.inf)
        other.add(norm)
    assert level.limit == other.limit


def test_a_single_spike_hardly_moves_the_limit_and_is_no_explosion() -> None:
    level = NormLevel()
    for norm in noise(300):
        level.add(norm)
    before = level.limit
    assert before is not None
    level.add(1e6)
    assert level.limit == pytest.approx(before, rel=0.05) and not level.exploding


def test_an_explosion_freezes_the_limit_until_it_is_over() -> None:
    level = NormLevel()
    for norm in noise(300):
        level.add(norm)
    before = level.limit
    for k in range(100):
        level.add(20.0 * 1.1**k)
        assert level.limit == pytest.approx(before, rel=0.2)
    assert level.exploding
    frozen = level.limit
    for norm in noise(7, seed=1):
        level.add(norm)
        assert level.exploding and level.limit == frozen
    level.add(1.0)
    assert not level.exploding


def test_a_rise_that_lasts_is_the_new_normal() -> None:
    level = NormLevel(window=64)
    for norm in noise(100):
        level.add(norm)
    for norm in noise(200, seed=2):
        level.add(50 * norm)
    assert not level.exploding
    assert level.limit is not None and level.limit > 60


def test_held_from_outside_it_stays_as_it_is() -> None:
    level = NormLevel()
    for norm in noise(100):
        level.add(norm)
    before = level.limit
    for norm in noise(100, seed=3):
        level.add(1.4 * norm, hold=True)
    assert level.limit == before


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_level_is_silent_about_noise_and_sees_a_rise(seed: int) -> None:
    rule = LossLevel()
    start = [2.3 * math.exp(-k / 200) * v for k, v in enumerate(noise(1500, seed))]
    assert not any(map(rule.add, start))
    risen = [rule.add(1.5 * v) for v in noise(20, seed)]
    assert risen.index(True) <= 10
    assert risen[-1] and not rule.add(math.nan)
    calm = [rule.add(start[-1]) for _ in range(20)]
    assert not calm[-1], "back at its level"


def test_a_new_level_is_accepted_in_the_end() -> None:
    rule = LossLevel(patience=50)
    for value in noise(200):
        rule.add(value)
    bad = [rule.add(3.0) for _ in range(300)]
    assert all(bad[10:50]) and not any(bad[-100:])


def test_a_rise_far_below_the_first_losses_is_no_trouble() -> None:
    rule = LossLevel()
    for value in [2.3] * 20 + [0.001] * 200:
        rule.add(value)
    assert not any(rule.add(0.01) for _ in range(50))


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_patience(mode: str, sign: float) -> None:
    rule = Patience(3, 0.1, mode)  # type: ignore[arg-type]
    values = [5.0, 4.0, 3.95, 3.0, 2.95, math.nan, 2.95]
    assert [rule.add(sign * value) for value in values] == [False] * 6 + [True]
    assert rule.best == sign * 3.0 and rule.since == 3


def test_the_purse_counts_within_its_window_and_a_stretch_of_skips_as_one() -> None:
    purse = Purse(Budget(actions=2, window=100, skips=3))
    assert [purse.skip(step) for step in (10, 11, 12)] == ["", "", ""]
    assert "4 steps in a row" in purse.skip(13)
    assert purse.skip(50) == ""
    assert not purse.allows(60)
    assert "more than 2 actions within 100 steps" in purse.skip(60)
    assert purse.allows(111)


@pytest.mark.parametrize("field", ["actions", "window", "skips"])
def test_a_budget_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match="from 1 on"):
        Budget(**{field: 0})


def test_an_action_is_plain_data() -> None:
    action = Action(kind="lr_cut", step=7, reason="because", old=1.0, new=0.5, bounds={"least": 0.05})
    assert action.plain() == {
        "action": "lr_cut", "reason": "because", "old": 1.0, "new": 0.5, "bounds": {"least": 0.05},
    }  # fmt: skip


def test_quantiles_of_a_window_are_numpys() -> None:
    window, values = Window(50), noise(300, seed=4)
    for k, value in enumerate(values, start=1):
        window.add(value)
        assert len(window) == min(k, 50)
        for q in (0.0, 0.3, 0.95, 1.0):
            assert window.quantile(q) == pytest.approx(np.quantile(values[max(0, k - 50) : k], q))
