from __future__ import annotations

import numpy as np
import pytest

from gradwatch.health.losses import ELEVATED, LossTrack

from .conftest import Story, loud, told


def test_a_diverging_loss_is_critical_even_when_gradients_are_silent() -> None:
    story = Story(330, seed=1)
    story.loss[200:] *= 6
    (found,) = loud(story.watch(range(1, 330)))
    assert (found.kind, found.severity) == ("diverging", "critical")
    assert abs(found.first_step - 200) <= 2
    assert found.opened_step <= 206


def test_a_jump_that_falls_again_with_usual_updates_stays_info() -> None:
    """New data: the loss jumps, and learning goes on. Neither the LR nor the updates rose."""
    story = Story(400, seed=2)
    fall = 1 + 4 * np.exp(-np.arange(200) / 15)
    story.loss[200:] *= fall
    found = told(story.watch())
    assert [(i.kind, i.severity) for i in found] == [("diverging", "info")]


def test_the_same_jump_after_a_raise_of_the_rate_is_not_excused() -> None:
    story = Story(400, seed=2)
    story.loss[200:] *= 1 + 4 * np.exp(-np.arange(200) / 15)
    story.run["lr"][199:] *= 10
    (found,) = loud(story.watch())
    assert found.kind == "diverging"
    assert found.causes[0].key == "lr_too_high"


def test_the_same_jump_with_inputs_that_grew_tenfold_is_not_excused() -> None:
    """The gradient of the first weight over that of its bias tells the input's size."""
    story = Story(400, seed=2)
    story.loss[200:] *= 1 + 4 * np.exp(-np.arange(200) / 15)
    assert loud(story.watch()) == []
    story.norms[200:, 0] *= 20
    assert {i.kind for i in loud(story.watch())} == {"exploding"}


def test_the_same_jump_after_one_sgd_step_that_threw_the_weights_over_is_not_excused() -> None:
    """With SGD an update that no sample saw follows from the gradient; Adam's is of the usual size."""
    story = Story(400, seed=2)
    story.sampled["weight_norm"] = np.full_like(story.norms, 5.0)
    story.run["lr"][:] = 1.0
    story.norms[201] *= 9
    story.loss[202:] *= 1 + 4 * np.exp(-np.arange(198) / 15)
    assert loud(story.watch()) == []
    assert [i.kind for i in loud(story.watch(optimizers=[{"class": "SGD", "lr": 1.0}]))] == ["diverging"]


def test_the_same_jump_after_one_norm_ten_times_as_large_as_any_before_is_not_excused() -> None:
    """A bad batch: new data of the same kind has no such gradients."""
    story = Story(400, seed=2)
    story.norms[201] *= 40
    story.loss[202:] *= 1 + 4 * np.exp(-np.arange(198) / 15)
    assert [i.kind for i in loud(story.watch())] == ["diverging"]


def test_the_same_jump_after_a_rate_that_was_high_for_two_steps_is_not_excused() -> None:
    story = Story(400, seed=2)
    story.run["lr"][199:201] *= 100
    story.loss[200:] *= 1 + 4 * np.exp(-np.arange(200) / 15)
    (found,) = loud(story.watch())
    assert (found.kind, found.causes[0].key) == ("diverging", "lr_too_high")
    remedy = next(r for r in found.remedies if r.key == "lr_cut")
    assert remedy.value == pytest.approx(1e-3)


def test_a_loss_that_wanders_and_then_leaves_for_good_is_told() -> None:
    track = LossTrack()
    rng = np.random.default_rng(0)
    for step in range(90):
        course = 0.95 if step < 15 else min(1 + 0.15 * (step - 15), 4.0)
        track.learn(step, 4.0 * course * 2 ** rng.normal(0, 0.4))
    assert track.level == ELEVATED


def test_losses_below_zero_never_alarm() -> None:
    story = Story(600, seed=3)
    story.loss[:] = np.random.default_rng(0).normal(0, 1, 600)
    story.loss[300:] += 3
    assert loud(story.watch()) == []


def test_a_zigzag_that_does_not_improve_is_a_warning_only_with_opposing_gradients() -> None:
    story = Story(300, seed=4)
    story.loss[:] = 2.0 + 0.4 * (-1.0) ** np.arange(300) * (1 + 0.002 * np.arange(300))
    quiet = told(story.watch())
    assert all(i.severity == "info" for i in quiet)
    story.sampled["grad_cosine"] = np.full_like(story.norms, -0.6)
    (found,) = loud(story.watch())
    assert (found.kind, found.causes[0].key) == ("oscillating", "lr_too_high")
    assert found.opened_step <= 100


def test_a_zigzag_that_improves_is_the_edge_of_stability() -> None:
    story = Story(300, seed=4)
    story.loss[:] = (2.0 + 0.2 * (-1.0) ** np.arange(300)) * np.exp(-np.arange(300) / 150)
    story.sampled["grad_cosine"] = np.full_like(story.norms, -0.6)
    assert told(story.watch()) == []


def test_updates_too_small_to_matter_are_a_stall_with_the_rate_to_use() -> None:
    story = Story(260, seed=5, lr=1e-7)
    story.loss[:] = 2.3 + 0.02 * np.random.default_rng(0).normal(size=260)
    story.sampled["update_ratio"][:] = 1e-6
    (found,) = loud(story.watch())
    assert found.kind == "stalled"
    assert found.remedies[0].key == "lr_up"
    assert found.remedies[0].value == pytest.approx(1e-4, rel=0.5)
    assert found.opened_step <= 200


def test_a_plateau_with_usual_updates_is_info() -> None:
    story = Story(500, seed=5)
    story.loss[:] = 2.3 + 0.02 * np.random.default_rng(0).normal(size=500)
    assert {(i.kind, i.severity) for i in told(story.watch())} == {("stalled", "info")}


def test_a_long_warm_up_is_not_a_stall() -> None:
    story = Story(260, seed=5)
    ramp = np.linspace(1e-4, 1, 260)
    story.loss[:] = 2.3 + 0.02 * np.random.default_rng(0).normal(size=260)
    story.run["lr"] = 1e-3 * ramp
    story.sampled["update_ratio"] = 2e-6 * ramp[:, None] * np.ones_like(story.norms)
    assert loud(story.watch()) == []


def test_overfitting_is_a_remark_with_the_best_step() -> None:
    story = Story(600, seed=6)
    curve = [1.0, 0.8, 0.7, 0.65, 0.6, 0.62, 0.66, 0.7, 0.75]
    story.scalars["val/loss"] = [(50 + 60 * n, v) for n, v in enumerate(curve)]
    (found,) = told(story.watch())
    assert (found.kind, found.severity, found.first_step) == ("overfitting", "info", 290)


@pytest.mark.parametrize("rate", [1.02, 1.008])
def test_a_slow_climb_with_the_rate_is_told_before_the_loss_has_doubled(rate: float) -> None:
    """A ramp poisons a rolling baseline; the rate says where to look for an older one."""
    story = Story(1000, seed=5)
    times = np.minimum(rate ** np.maximum(np.arange(1000) - 300, 0), 50.0)
    course = np.maximum(times / 3.0, 1.0) ** 0.5
    story.run["lr"] *= times
    story.sampled["update_ratio"] *= times[:, None]
    story.loss *= course
    (found,) = loud(story.watch())
    assert (found.kind, found.causes[0].key) == ("diverging", "lr_too_high")
    assert found.warned_step is not None
    assert 1.0 < course[found.warned_step] < 2.0


def test_a_rate_that_goes_where_it_was_before_excuses_nothing_and_accuses_nothing() -> None:
    """Cycles come back to rates at which the loss was a little higher: no remark."""
    story = Story(1200, seed=6)
    wave = 1.0 - 0.9 * np.abs((np.arange(1200) % 200) / 100 - 1)
    story.run["lr"] *= wave
    story.loss *= 1.0 + 0.3 * wave
    assert loud(story.watch()) == []


def test_a_loss_far_above_its_first_values_is_told_within_fifteen_steps() -> None:
    track = LossTrack()
    rng = np.random.default_rng(1)
    for step in range(15):
        track.learn(step, (4.0 if step < 3 else 14.0) * 2 ** rng.normal(0, 0.2))
    assert track.level == ELEVATED


def test_a_first_overshoot_that_comes_back_is_not_told() -> None:
    track = LossTrack()
    levels = []
    for step, value in enumerate([4.0] * 3 + [14.0] * 6 + [5.0] * 20):
        track.learn(step, value)
        levels.append(track.level)
    assert max(levels) < ELEVATED


def test_a_spike_that_became_part_of_a_divergence_does_not_explain_it() -> None:
    """What is explained by another incident rings no alert: the one told of must stand alone."""
    story = Story(400, seed=4)
    story.norms[250] *= 10
    story.loss[252:] *= np.exp(np.minimum(0.1 * np.arange(148), 5.0))
    monitor = story.watch()
    (shown,) = told(monitor)
    (spike,) = [i for i in monitor.incidents if i.kind == "spike"]
    assert (shown.kind, shown.severity, shown.caused_by) == ("diverging", "critical", "")
    assert spike.merged_into == shown.id


def ran_out(peak_steps: int, n: int = 300) -> Story:
    """A schedule that leaves a millionth of the rate after ``peak_steps``, and a loss that has not fallen."""
    story = Story(n, seed=6)
    story.loss[:] = 2.3 + 0.005 * np.random.default_rng(1).normal(size=n)
    story.run["lr"][peak_steps:] *= 1e-6
    story.sampled["update_ratio"][peak_steps:] *= 1e-6
    return story


def test_a_schedule_that_ran_out_after_a_few_steps_is_told_with_what_to_look_at() -> None:
    (found,) = loud(ran_out(10).watch())
    assert (found.kind, found.causes[0].key) == ("stalled", "lr_decayed")
    assert "once per batch" in found.remedies[0].text
    assert {c.key for c in found.causes} == {"lr_decayed"}


def test_the_end_of_a_schedule_is_no_fault_however_little_the_loss_fell() -> None:
    """A model that was trained before hardly gets better."""
    assert loud(ran_out(250, 400).watch()) == []


def test_updates_that_are_exactly_zero_at_the_end_of_a_schedule_are_no_fault() -> None:
    story = Story(400, seed=6)
    story.run["lr"][300:] *= 1e-8
    story.sampled["update_ratio"][300:] = 0.0
    assert loud(story.watch()) == []


def test_weight_decay_that_eats_the_weights_is_named() -> None:
    story = Story(300, seed=6, lr=0.05)
    story.loss[:] = 2.3 + 0.005 * np.random.default_rng(1).normal(size=300)
    story.sampled["update_ratio"][:] = 0.051
    (found,) = loud(story.watch(optimizers=[{"class": "SGD", "lr": 0.05, "weight_decay": 1.0}]))
    assert (found.kind, found.causes[0].key) == ("stalled", "weight_decay")
    assert found.remedies[0].value == pytest.approx(0.002)


def test_a_loss_without_a_floor_is_told_by_its_gradients() -> None:
    story, flow = Story(200, seed=7), Story(200, seed=7)
    sinking = -2.3 * np.exp(np.arange(200) / 25)
    story.loss[:], flow.loss[:] = sinking, sinking
    story.norms *= np.exp(np.arange(200) / 25)[:, None]
    story.sampled["grad_cosine"] = np.full_like(story.norms, 0.99)
    (found,) = loud(story.watch())
    assert (found.kind, found.causes[0].key) == ("exploding", "no_floor")
    assert loud(flow.watch()) == []


def test_a_jump_that_stays_where_a_run_begins_is_no_new_task() -> None:
    """Shuffled labels: the loss falls to what guessing gives, and stays for longer than the run took to leave it at first."""
    labels, task = Story(500, seed=2), Story(500, seed=2)
    for story, left in ((labels, 2.3), (task, 0.5)):
        course = 0.5 + 1.8 * np.exp(-np.arange(500) / 25)
        since = np.arange(200)
        jump = 2.3 if left == 2.3 else course[:200]
        course[300:] = jump + 4 * np.exp(-since / 8)
        story.loss[:] = course * np.exp2(np.random.default_rng(1).normal(0, 0.03, 500))
    (found,) = loud(labels.watch())
    assert (found.kind, found.warned_step is not None and found.warned_step <= 355) == ("diverging", True)
    assert loud(task.watch()) == []
