from __future__ import annotations

import numpy as np
import pytest

from .conftest import Story, loud, network


def test_shares_are_shares_of_the_squared_norm() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= np.array([1, 1, 1, 1, 100, 1, 1, 1.0])
    story.loss[202:] *= 8
    (found,) = loud(story.watch())
    squares = story.norms[found.opened_step] ** 2
    best = int(squares.argmax())
    assert found.shares[0].name == story.tensors[best].name
    assert found.shares[0].share == pytest.approx(squares[best] / squares.sum(), rel=1e-3)
    assert sum(s.share for s in found.shares) <= 1.0 + 1e-9


def test_the_first_tensor_and_the_order_in_which_others_followed() -> None:
    story = Story(330, seed=1)
    starts = {5: 200, 4: 202, 3: 203, 2: 203}
    for tensor, step in starts.items():
        story.norms[step:, tensor] *= 200
    story.loss[203:] *= 8
    (found,) = loud(story.watch())
    assert (found.origin.step, found.origin.tensor, found.origin.module) == (200, "layers.2.bias", "layers.2")
    assert dict(found.origin.followers) == {
        "layers.2.weight": 202,
        "layers.1.bias": 203,
        "layers.1.weight": 203,
    }
    assert "began in layers.2.bias, 3 tensors followed within 3 steps" in found.sentence


def test_all_at_once_has_no_first_tensor_in_the_sentence() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= 40
    story.loss[202:] *= 8
    (found,) = loud(story.watch())
    assert found.origin.where == "model"
    assert found.sentence == "Exploding since step 200."


def test_a_weight_that_jumped_by_itself_is_the_origin_whatever_the_gradients_say() -> None:
    story = Story(330, seed=1)
    story.norms[200:] *= 40
    story.loss[202:] *= 8
    story.sampled["weight_norm"] = np.ones_like(story.norms)
    story.sampled["weight_norm"][200:, 2] = 50.0
    (found,) = loud(story.watch())
    assert (found.origin.where, found.origin.tensor) == ("weights", "layers.1.weight")
    assert found.causes[0].key == "weights_damaged"


def test_the_gain_over_depth_does_not_depend_on_the_sizes_of_layers() -> None:
    tensors = network(10)
    story = Story(100, tensors=tensors, seed=2)
    rms = np.exp2(-0.9 * np.repeat(np.arange(10), 2))
    numel = np.array([t.numel for t in tensors])
    story.norms = np.exp2(np.random.default_rng(0).normal(0, 0.1, story.norms.shape)) * rms * np.sqrt(numel)
    story.loss[:] = 2.3
    (found,) = [i for i in story.watch().incidents if i.group == "depth"]
    assert found.evidence[0].numbers["backward_gain_log2"] == pytest.approx(0.9, abs=0.05)
