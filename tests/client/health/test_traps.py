"""Runs that look wrong and are not: silent, or info at most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradwatch.health import MarkPoint
from gradwatch.protocol import Tensor

from .conftest import Story, loud, network


def warm_up(story: Story) -> None:
    ramp = np.minimum((1 + np.arange(story.n)) / 100, 1.0)
    story.run["lr"] = 1e-3 * ramp
    story.norms *= (4 - 3 * ramp)[:, None]


def cyclic(story: Story) -> None:
    wave = 0.1 + 0.9 * np.abs((np.arange(story.n) % 200) / 100 - 1)
    story.run["lr"] = 1e-2 * wave
    story.norms *= np.exp2(1.0 * wave)[:, None]
    story.loss *= 1 + 0.15 * wave


def decaying(story: Story) -> None:
    """The norm rises while the rate goes to zero, as with weight decay and normalisation layers."""
    left = np.linspace(1, 0.01, story.n)
    story.run["lr"] = 1e-3 * left
    story.norms *= (left**-0.5)[:, None]


def new_phase(story: Story) -> None:
    story.marks = [MarkPoint(400, "phase", {"name": "finetune"})]
    story.loss[400:] += 3.0
    story.norms[400:] *= 20


def harder_data(story: Story) -> None:
    story.loss[400:] += 1.5 * np.exp(-np.arange(story.n - 400) / 20)
    story.norms[400:] *= (1 + 5 * np.exp(-np.arange(story.n - 400) / 20))[:, None]


def thawed_backbone(story: Story) -> None:
    story.tensors = [*network(2, trainable=False), *network(4)[4:]]
    story.present = np.ones_like(story.norms, dtype=np.bool_)
    story.present[:400, :4] = False
    story.norms[:400, :4] = np.nan
    story.norms[400:, :4] *= 10


def game(story: Story) -> None:
    """Two losses that chase each other: no level is the right one."""
    t = np.arange(story.n)
    story.loss[:] = 1.4 + 0.6 * np.sin(t / 40) + 0.1 * np.random.default_rng(0).normal(size=story.n)
    story.norms *= np.exp2(1.5 * np.sin(t / 55))[:, None]


def policy(story: Story) -> None:
    """A policy gradient: the loss is noise around zero, heavy-tailed; so are the gradients."""
    rng = np.random.default_rng(1)
    story.loss[:] = rng.standard_t(3, story.n) * 0.2
    story.norms *= np.exp2(rng.normal(0, 1.2, story.n))[:, None]


def batch_of_one(story: Story) -> None:
    """Most samples are learnt (loss and gradient near zero), some are not."""
    rng = np.random.default_rng(2)
    hard = rng.random(story.n) < 0.15
    story.loss[:] = np.where(hard, rng.exponential(2.0, story.n), 1e-3 * rng.random(story.n))
    story.norms *= np.where(hard, 1.0, 1e-3)[:, None] * np.exp2(rng.normal(0, 1.0, story.n))[:, None]
    story.sampled["zero_fraction"] = rng.uniform(0.4, 0.95, story.norms.shape)


def label_noise(story: Story) -> None:
    story.loss[:] = (
        2.0 + 0.3 * np.exp(-np.arange(story.n) / 100) + 0.1 * np.random.default_rng(3).normal(size=story.n)
    )


def dropout(story: Story) -> None:
    rng = np.random.default_rng(4)
    story.loss *= np.exp2(rng.normal(0, 0.4, story.n))
    story.norms *= np.exp2(rng.normal(0, 0.6, story.n))[:, None]


def resumed(story: Story) -> None:
    """After a restart the optimizer is cold: the first updates are larger."""
    story.marks = [MarkPoint(400, "restart")]
    story.norms[400:420] *= 5
    story.loss[400:420] *= 1.3


def hard_samples(story: Story) -> None:
    """Nearly everything is learnt; one sample now and then is not."""
    rng = np.random.default_rng(5)
    fall = np.exp(-np.arange(story.n) / 60) + 1e-3
    hard = (rng.random(story.n) < 0.02) & (np.arange(story.n) > 150)
    story.loss[:] = 2.3 * fall * np.exp2(rng.normal(0, 0.3, story.n)) * np.where(hard, 100, 1)
    story.norms *= (fall * np.exp2(rng.normal(0, 0.8, story.n)) * np.where(hard, 100, 1))[:, None]


STORIES: list[Callable[[Story], None]] = [
    warm_up,
    cyclic,
    decaying,
    new_phase,
    harder_data,
    thawed_backbone,
    game,
    policy,
    batch_of_one,
    label_noise,
    dropout,
    resumed,
    hard_samples,
]


@pytest.mark.parametrize("happens", STORIES, ids=lambda f: f.__name__)
def test_nothing_above_info_is_said(happens: Callable[[Story], None]) -> None:
    story = Story(800, seed=11)
    happens(story)
    profile = "adversarial" if happens is game else "default"
    assert [(i.kind, i.severity, i.first_step, i.evidence) for i in loud(story.watch(profile=profile))] == []


def test_a_plain_healthy_run_is_silent_altogether() -> None:
    assert Story(1500, seed=12).watch().incidents == []


def test_sparse_embeddings_that_rest_are_silent() -> None:
    table = Tensor(name="emb.weight", shape=(1000, 8), numel=8000, kind="embedding", sparse=True, optimizer=0)
    story = Story(400, tensors=[table, *network()], seed=13)
    story.norms[100:200, 0] = 0.0
    story.norms[300, 0] *= 100
    assert loud(story.watch()) == []


def test_two_optimizers_make_a_game_whose_loss_need_not_fall() -> None:
    tensors = [*network(2), *network(2, optimizer=1)]
    story = Story(600, tensors=tensors, seed=14)
    story.loss[300:] *= 3
    assert loud(story.watch()) == []


def test_a_loss_logged_now_and_then_is_enough() -> None:
    """Every tenth step has a loss; the others have none. A divergence is still seen."""
    story = Story(3000, seed=15)
    story.loss[2000:] *= 6
    story.has_loss = False
    story.scalars["loss"] = [(s, float(story.loss[s])) for s in range(0, 3000, 10)]
    (found,) = loud(story.watch())
    assert found.kind == "diverging"
    assert 1990 <= found.first_step <= 2010
