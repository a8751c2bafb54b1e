from __future__ import annotations

import numpy as np
import pytest

from gradwatch.health import what_if

from .conftest import Story


def reference_spike_score(total: np.ndarray) -> float:
    """OLMo 2's definition over plain arrays: 7 sigma above the mean of the 1,000 before (128 at least)."""
    hits = judged = 0
    for n in range(128, len(total)):
        window = total[max(n - 1000, 0) : n]
        window = window[np.isfinite(window)]
        judged += 1
        hits += not total[n] <= window.mean() + 7 * window.std()
    return 1000.0 * hits / judged


def test_the_spike_score_is_that_of_the_definition() -> None:
    story = Story(2600, seed=1)
    for step in (300, 900, 901, 1700, 2500):
        story.norms[step] *= 30
    story.norms[2000, 1] = np.nan
    total = np.sqrt((story.norms**2).sum(axis=1))
    scores = story.watch().scores()
    assert scores["spike_score_olmo2"] == pytest.approx(reference_spike_score(total))
    assert scores["spike_score"] > 0
    assert scores["first_bad_step"] == 2000


def test_the_share_of_clipped_steps() -> None:
    story = Story(200)
    story.run["clip_coef"] = np.where(np.arange(200) % 4 == 0, 0.5, 1.0)
    assert story.watch().scores()["clipped_share"] == 0.25


def test_scores_of_nothing_are_unknown_not_zero() -> None:
    scores = Story(20).monitor().scores()
    assert [scores[k] for k in ("spike_score_olmo2", "spike_score", "first_bad_step", "clipped_share")] == [
        None
    ] * 4


def test_what_a_limit_would_have_clipped() -> None:
    norms = np.array([0.5, 2.0, 1.0, np.inf, 0.1])
    found = what_if([10, 11, 12, 13, 14], norms, max_norm=1.0)
    assert found.steps == (11, 13)
    assert found.share == pytest.approx(0.4)


def test_a_percentile_and_the_suggested_limit() -> None:
    norms = np.arange(1, 101, dtype=float)
    found = what_if(np.arange(100), norms, percentile=90)
    assert found.share == pytest.approx(0.1, abs=0.011)
    assert found.suggested == pytest.approx(1.5 * np.percentile(norms, 95))
    assert what_if(np.arange(100), norms).share == 0.0


def test_a_limit_is_suggested_by_what_is_usual_and_where_nothing_is_by_the_calmest_part() -> None:
    norms = np.concatenate([np.arange(1, 101, dtype=float), np.full(400, 4e15)])
    usual = norms < 1e9
    found = what_if(np.arange(500), norms, usual=usual)
    assert found.suggested == pytest.approx(1.5 * np.percentile(norms[usual], 95))
    assert found.share == pytest.approx(0.8)
    assert what_if(np.arange(500), norms, usual=np.zeros(500, np.bool_)).suggested < 100


def test_bad_questions_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="not both"):
        what_if([0], [1.0], max_norm=1.0, percentile=50)
    with pytest.raises(ValueError, match="no finite norm"):
        what_if([0], [np.nan])
