"""Whatever numbers come, the engine judges them without an error and without a warning of numpy's."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch.health import from_bytes, to_bytes

from .conftest import Story

STRANGE = (0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, 1e-300, 1e38, 1e300, -1.0, 1.0)


def sprinkle(values: npt.NDArray[np.float64], rng: np.random.Generator, share: float) -> None:
    hit = rng.random(values.shape) < share
    values[hit] = rng.choice(STRANGE, hit.sum())


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from((0.01, 0.2, 1.0)))
def test_strange_numbers_anywhere(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    story = Story(260, seed=seed)
    for values in (story.norms, story.loss, story.run["lr"], *story.sampled.values()):
        sprinkle(values, rng, share)
    width = story.norms.shape
    story.sampled |= {
        "weight_norm": np.ones(width),
        "grad_cosine": rng.uniform(-1, 1, width),
        "zero_fraction": rng.uniform(0, 1, width),
        "grad_maxabs": np.ones(width),
        "adam_ratio": np.ones(width),
        "saturated_fraction": rng.uniform(0, 1, width),
    }
    story.run |= {k: np.ones(story.n) for k in ("clip_coef", "clip_limit", "loss_scale", "skipped")}
    for values in (*story.sampled.values(), *story.run.values()):
        sprinkle(values, rng, share / 3)
    monitor = story.watch()
    assert monitor.step == 259 and monitor.health()[1]
    monitor.restore(from_bytes(to_bytes(monitor.state())))


@pytest.mark.parametrize("value", STRANGE)
def test_the_same_strange_number_for_ever(value: float) -> None:
    """A loss, or every norm, that is this number from the beginning, or from the middle on."""
    for start in (0, 150):
        story = Story(320, seed=1)
        story.loss[start:] = value
        assert story.watch().step == 319
        story.norms[start:] = abs(value)
        assert story.watch().step == 319
