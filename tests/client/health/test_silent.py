from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradwatch.protocol import Tensor

from .conftest import Story, loud, network, told


def flat(story: Story) -> Story:
    """A loss that does not fall."""
    story.loss[:] = 2.3 + 0.01 * np.random.default_rng(9).normal(size=story.n)
    return story


def test_a_gradient_that_fades_while_the_loss_stands_is_vanishing() -> None:
    story = flat(Story(300, seed=1))
    story.norms *= np.exp2(-np.minimum(np.arange(300) * 0.08, 12))[:, None]
    found = [i for i in loud(story.watch()) if i.kind == "vanishing"]
    assert len(found) == 1 and "fading" in found[0].detectors


def test_converging_to_a_near_zero_loss_is_not_vanishing() -> None:
    story = Story(300, seed=1)
    fall = np.exp2(-np.minimum(np.arange(300) * 0.08, 14))
    story.norms *= fall[:, None]
    story.loss[:] = 2.3 * fall * np.exp2(np.random.default_rng(0).normal(0, 0.1, 300))
    assert told(story.watch()) == []


def test_a_layer_that_turns_exactly_zero_is_dead() -> None:
    story = Story(300, seed=2)
    story.norms[200:, :4] = 0.0
    (found,) = loud(story.watch(range(1, 300)))
    assert (found.kind, found.first_step) == ("dead", 200)
    assert found.opened_step <= 224
    assert found.origin.tensor == "layers.1.bias"


def test_an_exact_zero_is_not_missing_and_missing_is_not_zero() -> None:
    zero, missing = Story(120, seed=2), Story(120, seed=2)
    zero.norms[:, :2] = 0.0
    missing.norms[:, :2] = np.nan
    missing.present = np.ones_like(missing.norms, dtype=np.bool_)
    missing.present[:, :2] = False
    (dead,) = loud(zero.watch())
    (gone,) = loud(missing.watch())
    assert (dead.kind, gone.kind) == ("dead", "disconnected")
    assert "exactly zero" in dead.evidence[0].text
    assert "got no gradient" in gone.evidence[0].text


def test_dead_units_keep_the_same_share_and_sparse_activations_do_not() -> None:
    dead, sparse = Story(200, seed=3), Story(200, seed=3)
    share = np.zeros_like(dead.norms)
    share[:, 3] = 0.95
    dead.sampled["zero_fraction"] = share
    varying = share.copy()
    varying[:, 3] = np.random.default_rng(1).uniform(0.6, 0.95, 200)
    sparse.sampled["zero_fraction"] = varying
    (found,) = loud(dead.watch())
    assert (found.kind, found.origin.tensor) == ("dead", "layers.1.bias")
    assert told(sparse.watch()) == []


def test_saturated_units_are_said_after_five_samples() -> None:
    story = Story(200, seed=3)
    share = np.full_like(story.norms, np.nan)
    share[:, 2] = 0.0
    share[100:, 2] = 0.97
    story.sampled["saturated_fraction"] = share
    (found,) = loud(story.watch())
    assert (found.kind, found.first_step, found.origin.tensor) == ("saturated", 100, "layers.1.weight")


def test_parameters_outside_the_optimizer_are_named() -> None:
    tensors = network()
    tensors[2:4] = [
        Tensor(name=t.name, shape=t.shape, numel=t.numel, depth=t.depth, kind=t.kind, module=t.module)
        for t in tensors[2:4]
    ]
    (found,) = loud(Story(120, tensors=tensors).watch())
    assert (found.kind, found.origin.tensor) == ("disconnected", "layers.1.weight")
    assert found.causes[0].key == "not_in_optimizer"


def test_frozen_on_purpose_is_not_disconnected() -> None:
    tensors = [*network(2), *network(2, trainable=False)]
    story = Story(150, tensors=tensors)
    story.norms[:, 4:] = np.nan
    story.present = np.ones_like(story.norms, dtype=np.bool_)
    story.present[:, 4:] = False
    assert told(story.watch()) == []


def test_an_update_of_exactly_zero_is_told_when_there_is_a_gradient_and_a_rate() -> None:
    story = Story(120)
    story.sampled["update_ratio"][:, 4] = 0.0
    (found,) = loud(story.watch())
    assert (found.kind, found.causes[0].key) == ("disconnected", "lost_update")
    story.run["lr"][:] = 0.0
    assert told(story.watch()) == []


def test_gradients_that_add_up_are_a_missing_zero_grad() -> None:
    story = flat(Story(200, seed=5))
    story.norms[:] = story.norms[0] * np.minimum(1 + np.arange(200), 60)[:, None]
    story.sampled["grad_cosine"] = np.full_like(story.norms, 0.99)
    (found,) = loud(story.watch())
    assert (found.kind, found.causes[0].key) == ("accumulating", "missing_zero_grad")
    assert found.opened_step <= 60


def test_gradients_that_become_parallel_in_a_blow_up_do_not_add_up() -> None:
    """A missing zero_grad is there from the start; after a jump every gradient points back to where the run was."""
    story = Story(300, seed=5)
    story.norms[200:] *= 50
    story.loss[200:] *= 10
    story.sampled["grad_cosine"] = np.full_like(story.norms, 0.1)
    story.sampled["grad_cosine"][200:] = 0.98
    assert {i.kind for i in loud(story.watch())} == {"exploding"}


def test_parallel_gradients_of_a_steady_norm_are_full_batch_training() -> None:
    story = Story(200, seed=5)
    story.sampled["grad_cosine"] = np.full_like(story.norms, 0.99)
    assert told(story.watch()) == []


def adapters() -> list[Tensor]:
    """Two low-rank adapters, A and B each, and a head."""
    found = []
    for n in range(2):
        for part in "ab":
            found.append(
                Tensor(
                    name=f"lora.{n}.{part}", shape=(4, 64), numel=256, depth=2 * n, kind="weight", optimizer=0
                )
            )
    return [*found, *network(1)]


def test_an_adapter_whose_a_is_zero_at_the_start_is_healthy() -> None:
    story = Story(150, tensors=adapters())
    story.norms[0, [0, 2]] = 0.0
    assert told(story.watch()) == []


def test_an_adapter_whose_a_and_b_stay_zero_is_a_fault() -> None:
    story = Story(150, tensors=adapters())
    story.norms[:, 0:2] = 0.0
    (found,) = loud(story.watch())
    assert found.kind in ("dead", "disconnected")
    assert found.opened_step <= 24


def test_idle_experts_are_healthy() -> None:
    tensors = [
        Tensor(name=f"moe.experts.{n}.weight", shape=(8, 8), numel=64, depth=n, kind="weight", optimizer=0)
        for n in range(4)
    ]
    story = Story(300, tensors=[*tensors, *network(2)])
    story.norms[100:200, 1] = 0.0
    story.norms[:, 3] = 0.0
    assert told(story.watch()) == []


def test_what_has_been_zero_after_it_was_not_does_not_add_up() -> None:
    """Dead layers leave parallel gradients in what still lives."""
    story = Story(200, seed=4)
    story.norms[:] = story.norms[0] * np.minimum(1 + np.arange(200), 60)[:, None]
    story.sampled["grad_cosine"] = np.full_like(story.norms, 0.99)
    story.norms[15:, :2] = 0.0
    assert {i.kind for i in loud(story.watch())} == {"dead"}


def test_a_bias_that_cancels_out_of_the_loss_is_a_remark() -> None:
    """The last bias of a critic, whose outputs are subtracted; the same of a weight is a fault."""
    bias, both = Story(120, seed=2), Story(120, seed=2)
    bias.norms[:, 7] = 0.0
    both.norms[:, 6:] = 0.0
    assert [(i.kind, i.severity) for i in told(bias.watch())] == [("disconnected", "info")]
    assert loud(both.watch())


def fading(depth: int = 16) -> Story:
    """A deep net whose gradients fade, so that the first layers' updates are lost to rounding."""
    story = Story(200, tensors=network(depth, gain=1.0), seed=3)
    story.norms *= np.exp2(-2.0 * (depth - 1 - np.arange(2 * depth) // 2))
    story.sampled["update_ratio"][:, :4] = 0.0
    return story


@pytest.mark.parametrize("first", [1.0, 1.06])
def test_updates_that_are_lost_because_gradients_fade_are_part_of_it(first: float) -> None:
    """Also where the loss lost a little at first, as the last bias learnt how often each class comes."""
    story = fading()
    story.loss[:] = 2.3 + 0.005 * np.random.default_rng(1).normal(size=200)
    story.loss[:25] *= first
    (found,) = loud(story.watch())
    assert found.kind == "vanishing"
    assert {"vanishing_depth", "never_moves"} <= set(found.detectors)


@pytest.mark.parametrize("moves", [False, True])
def test_an_optimizer_made_from_another_model_is_told_by_weights_that_stand_still(moves: bool) -> None:
    """An optimizer over copies of its own holds none of the parameters either, but they move."""
    story = Story(120, tensors=[dataclasses.replace(t, optimizer=-1) for t in network()])
    if not moves:
        story.loss[:] = 2.3
        story.sampled["update_ratio"][:] = 0.0
    found = loud(story.watch())
    assert [i.kind for i in found] == ([] if moves else ["disconnected"])
    if not moves:
        assert found[0].causes[0].key == "not_in_optimizer"
        assert "Make the optimizer from this model" in found[0].remedies[0].text


def test_steps_without_any_gradient_say_nothing_of_units() -> None:
    """Margins that are kept: the loss is exactly zero, and so is every gradient."""
    story = Story(200, seed=3)
    story.norms[20:] = 0.0
    story.loss[20:] = 0.0
    share = np.zeros_like(story.norms)
    share[20:] = 1.0
    story.sampled["zero_fraction"] = share
    assert told(story.watch()) == []
