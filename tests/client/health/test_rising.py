from __future__ import annotations

import numpy as np
import pytest

from .conftest import Story, loud, network, told


def test_an_explosion_with_a_rising_loss_is_grave_and_named_within_six_steps() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= 40
    story.loss[202:] *= 8
    (found,) = loud(story.watch(range(1, 330)))
    assert (found.kind, found.severity) == ("exploding", "critical")
    assert found.first_step == 200
    assert 200 <= found.opened_step <= 206
    assert "diverging" in found.detectors


def test_gradients_alone_are_info() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= 40
    monitor = story.watch()
    assert {i.severity for i in told(monitor)} == {"info"}
    assert {i.kind for i in told(monitor)} == {"exploding"}
    assert monitor.health()[0] == "healthy"


@pytest.mark.parametrize("at", [24, 200])
@pytest.mark.parametrize(("factor", "severity"), [(40, "info"), (1e6, "warning")])
def test_without_a_loss_a_thousandfold_norm_counts_by_itself(at: int, factor: float, severity: str) -> None:
    story = Story(330, seed=1)
    story.has_loss = False
    story.norms[at:] *= factor
    monitor = story.watch()
    assert {(i.kind, i.severity) for i in told(monitor)} == {("exploding", severity)}
    assert monitor.health()[0] == ("healthy" if severity == "info" else "attention")


def test_without_a_loss_a_climb_to_a_thousandfold_norm_counts_too() -> None:
    story = Story(330, seed=1)
    story.has_loss = False
    story.norms[200:] *= np.exp2(np.minimum(np.arange(130), 20))[:, None]
    assert [i.severity for i in told(story.watch())] == ["warning"]


def test_with_a_loss_that_is_fine_it_does_not() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= 1e6
    assert {i.severity for i in told(story.watch())} == {"info"}


def test_high_updates_are_a_second_witness_under_adam_but_not_under_sgd() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= 40
    story.sampled["update_ratio"][200:] *= 200
    assert [i.severity for i in told(story.watch())] == ["warning"]
    sgd = [{"class": "SGD", "lr": 0.1}]
    assert [i.severity for i in told(story.watch(optimizers=sgd))] == ["info"]


def test_an_explosion_closes_when_it_is_over() -> None:
    story = Story(600, seed=2)
    story.norms[200:260] *= 40
    (found,) = told(story.watch())
    assert found.kind == "exploding"
    assert found.closed_step is not None and 300 < found.closed_step < 460


def test_a_gradual_explosion_is_seen_while_it_grows() -> None:
    story = Story(420, seed=3)
    story.norms[250:] *= np.exp2(0.06 * np.arange(170))[:, None]
    story.loss[330:] *= 4
    (found,) = loud(story.watch())
    assert found.kind == "exploding"
    assert "growth" in found.detectors
    assert found.opened_step < 345


def test_one_spike_is_info_at_its_own_step_and_closes() -> None:
    story = Story(330, seed=4)
    story.norms[222] *= 50
    (found,) = told(story.watch(range(1, 330)))
    assert (found.kind, found.severity, found.opened_step) == ("spike", "info", 222)
    assert found.closed_step is not None and found.closed_step < 250


def test_a_spike_that_stays_becomes_part_of_the_explosion() -> None:
    story = Story(330, seed=4)
    story.norms[222:] *= 50
    monitor = story.watch()
    (shown,) = told(monitor)
    (spike,) = [i for i in monitor.incidents if i.kind == "spike"]
    assert shown.kind == "exploding"
    assert spike.merged_into == shown.id


def test_a_score_does_not_include_the_spike_itself() -> None:
    """Twenty values with their own point can reach a z of 4.25 at most (mean and sigma of the same window)."""
    story = Story(140, seed=5)
    story.norms[130] *= 1000
    (found,) = told(story.watch())
    assert found.evidence[0].numbers["z"] > 20


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_growth_over_depth_is_an_explosion_toward_the_input_or_a_vanishing(gain: float) -> None:
    story = Story(160, tensors=network(12), seed=6)
    layer = np.repeat(np.arange(12), 2)
    story.norms *= np.exp2(-gain * layer)[None, :]
    story.loss[:] = 2.3 + 0.01 * np.random.default_rng(0).normal(size=160)
    (found,) = loud(story.watch())
    assert found.kind == ("exploding" if gain > 0 else "vanishing")
    assert found.origin.where == "depth"
    numbers = found.evidence[0].numbers
    measured = numbers.get("backward_gain_log2", numbers.get("gain_log2_per_layer"))
    assert measured == pytest.approx(gain, abs=0.2)
    assert (found.first_step, found.origin.step) == (0, 0)


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_what_grows_steep_later_began_when_it_was_found_steep_in_the_sentence_and_in_the_path(
    gain: float,
) -> None:
    story = Story(800, tensors=network(12), seed=6)
    steep = np.clip((np.arange(800) - 300) / 100, 0, 1)
    story.norms *= np.exp2(-gain * np.repeat(np.arange(12), 2)[None, :] * steep[:, None])
    story.loss[:] = 2.3 + 0.01 * np.random.default_rng(0).normal(size=800)
    deep = [one for one in loud(story.watch()) if one.origin.where == "depth"]
    assert deep
    for one in deep:
        assert one.first_step == one.origin.step > 300


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_what_grows_steep_among_the_first_steps_was_not_so_from_the_start(gain: float) -> None:
    story = Story(160, tensors=network(12), seed=6)
    story.norms[20:] *= np.exp2(-gain * np.repeat(np.arange(12), 2))
    story.loss[:] = 2.3 + 0.01 * np.random.default_rng(0).normal(size=160)
    deep = [one for one in loud(story.watch()) if one.origin.where == "depth"]
    assert deep
    for one in deep:
        assert 8 < one.first_step == one.origin.step <= 32
