"""Did it help: levels, trends, and what is not finite."""

from __future__ import annotations

import numpy as np
import pytest

from gradwatch.health import changes, effect_of

STEPS = np.arange(200, dtype=np.float64)
NOISE = np.exp(np.random.default_rng(0).normal(0, 0.05, 200))
NONE = (np.zeros(0), np.zeros(0))


def split(before: object, after: object) -> np.ndarray:
    return np.where(STEPS < 100, before, after) * NOISE  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (4.0, 1.0, "helped"),
        (1.0, 4.0, "worse"),
        (2.0, 2.0, "no difference"),
        (2.0 ** ((STEPS - 100) / 40), 1.0, "helped"),
        (2.0 ** (-(STEPS - 100) / 40), 2.0 ** (-(STEPS - 100) / 40), "no difference"),
        (2.0 ** (-(STEPS - 100) / 40), 1.0, "worse"),
    ],
    ids=["lower", "higher", "the same", "a rise ended", "the fall goes on", "a fall ended"],
)
def test_what_follows_is_compared_with_the_trend(before: object, after: object, verdict: str) -> None:
    effect = effect_of(100, NONE, (STEPS, split(before, after)))
    assert effect.verdict == verdict
    assert effect.norm is None and effect.loss is not None


def test_the_sentence_has_the_numbers() -> None:
    rising = 2.0 ** ((STEPS - 100) / 50)
    effect = effect_of(100, (STEPS, np.where(STEPS < 100, rising, 0.25)), (STEPS, np.full(200, 3.0)))
    assert effect.sentence == (
        "It helped: the norm went from 1 to 0.25, where its trend led to 1.42; the loss went from 3 to 3."
    )


def test_not_finite_before_and_fine_after_is_help_whatever_the_level() -> None:
    losses = split(1.0, 1.0)
    losses[95:99] = np.nan
    effect = effect_of(100, NONE, (STEPS, losses))
    assert effect.verdict == "helped" and "4 values before and 0 after were not finite" in effect.sentence
    losses = split(1.0, np.nan)
    assert effect_of(100, NONE, (STEPS, losses)).verdict == "worse"


def test_too_early_is_said() -> None:
    assert effect_of(195, NONE, (STEPS, split(1.0, 1.0))).verdict == "too early"
    assert effect_of(5, NONE, NONE).verdict == "too early"


def test_changes_by_hand_stand_out_from_schedules() -> None:
    by_hand = np.where(STEPS < 120, 0.1, 0.05)
    assert changes(STEPS, by_hand) == [(120, 0.1, 0.05)]
    assert changes(STEPS, 0.1 * 0.5 ** (STEPS / 200)) == []
    assert changes(STEPS, np.where(STEPS < 10, (STEPS + 1) / 1000, 0.01)) == []
    assert changes(STEPS, np.full(200, 0.1)) == []
    assert changes(STEPS[:1], by_hand[:1]) == []
