from __future__ import annotations

import numpy as np
import pytest

from gradwatch.health import Incident, Monitor, Observation, Series

from .conftest import Story, loud, network, told


def only(found: list[Incident]) -> Incident:
    (one,) = found
    return one


def test_a_nan_gradient_is_critical_at_its_own_step_and_the_origin_is_the_last_in_forward_order() -> None:
    story = Story(260, seed=1)
    story.norms[200:, :5] = np.nan
    found = only(loud(story.watch()))
    assert (found.kind, found.severity, found.opened_step) == ("nonfinite", "critical", 200)
    assert (found.origin.where, found.origin.tensor) == ("tensor", "layers.2.weight")
    assert [name for name, _ in found.origin.followers] == [
        "layers.1.bias",
        "layers.1.weight",
        "layers.0.bias",
        "layers.0.weight",
    ]
    assert found.causes[0].key == "numerical_bug"
    assert found.causes[0].remedies[0].key == "eps" and "layers.2" in found.causes[0].remedies[0].text


def test_all_gradients_with_a_nan_loss_point_to_the_loss() -> None:
    story = Story(260, seed=1)
    story.norms[200:] = np.nan
    story.loss[200:] = np.nan
    assert only(loud(story.watch())).origin.where == "loss"


def test_an_input_that_is_not_finite_is_the_origin() -> None:
    story = Story(260, seed=1)
    story.norms[200:] = np.nan
    story.loss[200:] = np.nan
    story.run["input_nonfinite"] = np.where(np.arange(260) >= 200, 1.0, 0.0)
    found = only(loud(story.watch()))
    assert (found.origin.where, found.causes[0].key) == ("input", "bad_input")


def test_one_broken_weight_tensor_is_the_origin() -> None:
    story = Story(260, seed=1)
    story.norms[200:] = np.nan
    story.loss[200:] = np.nan
    story.sampled["weight_norm"] = np.ones_like(story.norms)
    story.sampled["weight_norm"][200:, 4] = np.nan
    found = only(loud(story.watch()))
    assert (found.origin.where, found.origin.tensor) == ("weights", "layers.2.weight")


def test_a_nan_changes_nothing_after_it() -> None:
    clean, broken = Story(500, seed=2), Story(500, seed=2)
    broken.norms[200, 3] = np.nan
    for story in (clean, broken):
        story.norms[400:] *= 40
        story.loss[402:] *= 8
    after = [i for i in loud(broken.watch()) if i.kind != "nonfinite"]
    assert [(i.kind, i.opened_step) for i in after] == [(i.kind, i.opened_step) for i in loud(clean.watch())]


def test_a_norm_that_overflowed_is_huge_but_not_broken() -> None:
    story = Story(260, seed=2)
    story.norms[200, 3] = np.inf
    story.sampled["grad_maxabs"] = np.full_like(story.norms, 1e20)
    assert {i.kind for i in told(story.watch())} == {"spike"}


def overflowing(n: int, skipped: list[int]) -> Story:
    story = Story(n, seed=3)
    story.run["skipped"] = np.zeros(n)
    story.run["skipped"][skipped] = 1
    story.run["loss_scale"] = np.full(n, 65536.0)
    story.norms[skipped] = np.inf
    return story


def test_single_overflow_steps_are_normal() -> None:
    assert told(overflowing(600, [0, 1, 2, 3, 4, 5, 6, 7, 150, 380, 381, 590]).watch()) == []


@pytest.mark.parametrize(("length", "severity"), [(5, "warning"), (12, "critical")])
def test_a_storm_of_overflows_is_told(length: int, severity: str) -> None:
    story = overflowing(260, list(range(200, 200 + length)))
    found = only(loud(story.watch(range(1, 260))))
    assert (found.kind, found.severity, found.first_step) == ("loss_scale", severity, 200)
    assert found.opened_step == 204
    assert found.remedies[0].key == "bf16"


def test_a_skip_without_a_loss_scaler_is_a_warning_not_silence() -> None:
    story = Story(260, seed=3)
    story.norms[200, 2] = np.nan
    story.run["skipped"] = np.where(np.arange(260) == 200, 1.0, 0.0)
    found = only(loud(story.watch()))
    assert (found.kind, found.severity) == ("nonfinite", "warning")


def test_a_rank_that_differs_is_named() -> None:
    story = Story(260, seed=4)
    ranks = np.random.default_rng(0).uniform(0.9, 1.1, (260, 4))
    ranks[220:, 2] *= 30
    story.run["rank_grad_norm"] = ranks
    found = only(loud(story.watch()))
    assert (found.kind, found.group, found.severity) == ("bad_rank", "rank 2", "critical")
    assert 220 <= found.opened_step <= 224


def test_absent_ranks_are_not_broken_ones() -> None:
    ranks = np.random.default_rng(0).uniform(0.9, 1.1, (260, 4))
    present = np.ones(ranks.shape, np.bool_)
    ranks[220:, 1], present[220:, 1] = np.nan, False
    at = np.arange(260.0)
    assert (
        Monitor(network()).observe(Observation((Series("rank_grad_norm", "run", at, at, ranks, present),)))
        == []
    )


def test_one_rank_that_is_not_finite_is_named_though_its_step_was_judged_before() -> None:
    monitor = Monitor(network())
    steps = np.arange(100.0)
    norms = Story(100).norms
    assert monitor.observe(Observation.of_arrays(steps, tensor={"grad_norm": norms})) == []
    (found,) = monitor.observe(Observation.of_arrays([50.0], run={"rank_grad_norm": [[1.0, np.inf]]}))
    assert (found.kind, found.group, found.first_step) == ("bad_rank", "rank 1", 50)


def test_replicas_that_differ_are_reported() -> None:
    monitor = Monitor(network())
    assert monitor.observe(Observation.of_arrays([0.0], run={"replica_gap": [[2e-7, 1.0]]})) == []
    (found,) = monitor.observe(Observation.of_arrays([50.0], run={"replica_gap": [[0.25, 3.0]]}))
    assert (found.kind, found.group) == ("bad_rank", "rank 3")
    assert "25 %" in found.evidence[0].text
