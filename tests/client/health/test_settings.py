from __future__ import annotations

import numpy as np
import pytest

from gradwatch.protocol import Tensor

from .conftest import Story, loud, network, told

SGD = [{"class": "SGD", "lr": 0.1}]


def stuck(story: Story) -> Story:
    story.loss[:] = 2.3 + 0.01 * np.random.default_rng(9).normal(size=story.n)
    return story


@pytest.mark.parametrize(("gain", "cause"), [(8.0, "init_too_large"), (0.01, "init_too_small")])
def test_an_init_far_out_of_range_is_a_warning_once_the_loss_is_stuck(gain: float, cause: str) -> None:
    story = stuck(Story(120, tensors=network(gain=gain)))
    (found,) = loud(story.watch())
    assert (found.kind, found.first_step, found.causes[0].key) == ("bad_init", 0, cause)
    assert found.remedies[0].key == "init_he"
    assert found.evidence[0].numbers["gain"] == pytest.approx(gain)


@pytest.mark.parametrize("gain", [1.41, 1.0, 0.577, 0.08])
def test_known_schemes_pass(gain: float) -> None:
    assert told(Story(120, tensors=network(gain=gain)).watch()) == []


def test_zero_adapters_and_gates_are_no_bad_init() -> None:
    zero = [
        Tensor(
            name=f"b.{n}",
            shape=(64, 4),
            numel=256,
            depth=n,
            kind="weight",
            fan_in=4,
            init_std=0.0,
            optimizer=0,
        )
        for n in range(4)
    ]
    assert told(Story(120, tensors=[*network(4), *zero]).watch()) == []


def clipped(coef: float) -> Story:
    story = stuck(Story(160, seed=2))
    story.run["clip_coef"] = np.full(160, coef)
    story.run["clip_limit"] = np.full(160, 1e-3)
    return story


def test_clipping_to_a_thousandth_under_sgd_is_a_warning_with_a_limit_to_use() -> None:
    story = clipped(0.001)
    (found,) = loud(story.watch(optimizers=SGD))
    assert (found.kind, found.causes[0].key) == ("clip_too_tight", "clip_limit")
    assert found.opened_step <= 60
    total = np.sqrt((story.norms**2).sum(axis=1))
    assert found.remedies[0].value == pytest.approx(np.quantile(total[: found.opened_step], 0.9), rel=0.3)


def test_under_adam_the_same_clipping_is_info() -> None:
    assert [i.severity for i in told(clipped(0.001).watch()) if i.kind == "clip_too_tight"] == ["info"]


def test_clipping_half_of_each_step_is_usual() -> None:
    assert [i for i in told(clipped(0.5).watch(optimizers=SGD)) if i.kind == "clip_too_tight"] == []


def outgrowing(story: Story, times: float, steps: int = 20) -> Story:
    """All weights grow to ``times`` their initial norm within ``steps`` steps."""
    starts = np.array([(t.init_std or 0.01) * np.sqrt(t.numel) for t in story.tensors])
    course = np.minimum(1 + (times - 1) * np.arange(story.n) / steps, times)
    story.sampled["weight_norm"] = course[:, None] * starts
    return story


def test_steps_that_wipe_out_the_initial_weights_without_gain_are_told_though_neither_loss_nor_norm_rises() -> (
    None
):
    story = outgrowing(stuck(Story(120)), 6.0)
    story.sampled["update_ratio"][:30] = 0.3
    (found,) = loud(story.watch())
    assert (found.kind, found.detectors, found.first_step) == ("exploding", ("outgrown",), 0)
    assert found.opened_step <= 20
    assert found.causes[0].key == "lr_too_high"
    assert found.remedies[0].key == "lr_cut"
    assert found.evidence[0].numbers["growth"] >= 3.0


def test_weights_that_grow_while_the_loss_falls_are_learning() -> None:
    story = outgrowing(Story(120), 6.0, 110)
    story.loss[:] = 2.3 * np.exp(-np.arange(120) / 20)
    assert told(story.watch()) == []


@pytest.mark.parametrize("gain", [0.08, 0.0])
def test_weights_that_start_tiny_have_to_grow(gain: float) -> None:
    story = outgrowing(stuck(Story(120, tensors=network(gain=gain))), 6.0)
    assert "outgrown" not in {d for i in story.watch().incidents for d in i.detectors}


def test_weights_that_grow_as_in_healthy_runs_are_silent_also_while_the_loss_stands() -> None:
    assert loud(outgrowing(stuck(Story(120)), 2.0).watch()) == []
