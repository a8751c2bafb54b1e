"""Values of remedies, computed from the run that they are for."""

from __future__ import annotations

import numpy as np
import pytest

from gradwatch.health import Monitor, Observation
from gradwatch.protocol import Tensor

from .conftest import Story, loud


@pytest.mark.parametrize("rise", [1.04, 1.01])
def test_a_raised_learning_rate_goes_back_to_what_it_was_before_it_rose(rise: float) -> None:
    random = np.random.default_rng(0)
    steps = np.arange(700)
    lr = 0.01 * rise ** np.maximum(0, steps - 300.0)
    over = np.maximum(0.0, np.log(lr / 0.1))
    norms = np.exp(random.normal(0, 0.1, (700, 3)) + 0.8 * over[:, None])
    loss = np.exp(-steps / 400) + random.normal(0, 0.01, 700) + 2 * over
    tensors = [Tensor(name=f"{n}.weight", shape=(4, 4), numel=16, depth=n, module=str(n)) for n in range(3)]
    monitor = Monitor(tensors, optimizers=[{"class": "SGD", "lr": 0.01}], run="r")
    found = {
        incident.id: incident
        for incident in monitor.observe(
            Observation.of_arrays(steps, tensor={"grad_norm": norms}, run={"loss": loss, "lr": lr})
        )
    }
    cuts = [
        r
        for one in found.values()
        for r in one.remedies
        if r.key == "lr_cut" and "before it was raised" in r.text
    ]
    assert cuts
    assert all(cut.value == pytest.approx(0.01, rel=0.25) for cut in cuts)


def test_what_came_to_grief_at_the_start_is_cut_by_its_longest_step_not_by_how_little_it_moves_now() -> None:
    story = Story(60, lr=15.0)
    story.loss[1:] = 2.0 * np.linspace(50, 80, 59)
    story.norms[1:] *= 1e3
    story.sampled["update_ratio"][:10] = 0.5
    story.sampled["update_ratio"][10:] = 1e-6
    (found,) = loud(story.watch(optimizers=[{"class": "SGD", "lr": 15.0}]))
    cut = next(r for r in found.remedies if r.key == "lr_cut")
    assert cut.value == pytest.approx(0.15)
    assert "a step changed the weights by 50 %" in cut.text
    clip = next(r for r in found.remedies if r.key == "clip_norm")
    assert clip.value is not None and clip.value < 10 * np.sqrt((story.norms[0] ** 2).sum())


def test_units_that_died_in_an_explosion_are_told_no_clip_limit_of_its_size() -> None:
    story = Story(200, lr=15.0)
    story.loss[100:] *= np.linspace(5, 50, 100)
    story.norms[100:] *= 1e6
    story.norms[130:, :2] = 0.0
    found = {i.kind: i for i in loud(story.watch(optimizers=[{"class": "SGD", "lr": 15.0}]))}
    clip = next(r for r in found["dead"].remedies if r.key == "clip_norm")
    assert clip.value is not None and clip.value < 2 * np.sqrt((story.norms[:100] ** 2).sum(axis=1)).max()
