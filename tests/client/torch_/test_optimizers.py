"""Several optimizers and models in one run, and optimizers that are none of ours."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from .conftest import Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


class Generator(nn.Sequential):
    """Makes."""


class Critic(nn.Sequential):
    """Judges."""


def gan() -> tuple[Generator, Critic]:
    return Generator(nn.Linear(4, 6)), Critic(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))


@pytest.mark.parametrize("explicit", [True, False])
def test_a_gan_gives_one_frame_for_both_steps(watch: Watch, explicit: bool) -> None:
    maker, critic = gan()
    of_maker = torch.optim.Adam(maker.parameters(), lr=1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), lr=2e-3)
    capture, seen = watch(maker, critic, optimizers=[of_critic, of_maker] if explicit else None)
    noise = torch.randn(8, 4)
    expected, tags = [], []
    for _ in range(4):
        of_critic.zero_grad()
        (critic(maker(noise).detach()).mean() - critic(X).mean()).backward()
        tags.append(capture.scalar_step())
        norms = {f"critic.{name}": v for name, v in reference(critic).items()}
        of_critic.step()
        of_maker.zero_grad()
        (-critic(maker(noise)).mean()).backward()
        tags.append(capture.scalar_step())
        norms |= {f"generator.{name}": v for name, v in reference(maker).items()}
        of_maker.step()
        tags.append(capture.scalar_step())
        expected.append(norms)
    capture.detach()
    assert [frame.step for frame in seen.frames] == [0, 1, 2, 3]
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms)
        assert sorted(frame.values["lr"]) == [1e-3, 2e-3]
    assert tags == [step for step in range(4) for _ in range(3)]


def test_critic_steps_between_are_steps_of_their_own(watch: Watch) -> None:
    maker, critic = gan()
    of_maker = torch.optim.SGD(maker.parameters(), lr=1e-3)
    of_critic = torch.optim.SGD(critic.parameters(), lr=1e-3)
    capture, seen = watch(maker, critic)
    for _ in range(2):
        for _ in range(3):
            of_critic.zero_grad()
            critic(X).mean().backward()
            of_critic.step()
        of_maker.zero_grad()
        (-critic(maker(torch.randn(8, 4))).mean()).backward()
        of_maker.step()
    capture.detach()
    assert [frame.step for frame in seen.frames] == [0, 1, 2, 3, 4, 5]
    held = ["generator.0.weight" in seen.norms(frame) for frame in seen.frames]
    assert held == [False, False, True, False, False, True]


def test_one_clip_over_both_models(watch: Watch) -> None:
    maker, critic = gan()
    both = [*maker.parameters(), *critic.parameters()]
    optimizers = [torch.optim.SGD(maker.parameters(), lr=0.1), torch.optim.SGD(critic.parameters(), lr=0.1)]
    _, seen = watch(maker, critic)
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        critic(maker(torch.randn(8, 4))).pow(2).mean().backward()
        expected = {f"generator.{k}": v for k, v in reference(maker).items()}
        expected |= {f"critic.{k}": v for k, v in reference(critic).items()}
        nn.utils.clip_grad_norm_(both, 1e-4)
        for optimizer in optimizers:
            optimizer.step()
    close(seen.norms(seen.frames[-1]), expected)
    assert seen.number(seen.frames[-1], "global_grad_norm_clipped") == pytest.approx(1e-4, rel=1e-2)


def test_models_are_named_by_key_class_or_index(watch: Watch) -> None:
    watch(mlp(), mlp())
    _, seen = watch(mlp((2, 2)), mlp((2, 2)))
    assert [t.name for t in seen.schemas[0][0]] == ["0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias"]


def test_foreign_optimizers_make_no_steps(watch: Watch) -> None:
    model, other = mlp(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    foreign = torch.optim.SGD(other.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])

    def elsewhere() -> None:
        for _ in range(5):
            other(X).mean().backward()
            nn.utils.clip_grad_norm_(other.parameters(), 0.1)
            foreign.step()

    for _ in range(2):
        model(X).mean().backward()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        optimizer.step()
    assert [frame.step for frame in seen.frames] == [0, 1]
    assert "clip_coef" not in seen.frames[0].values


def test_only_the_given_optimizer_counts(watch: Watch) -> None:
    model = mlp()
    first, second = (torch.optim.SGD(model.parameters(), lr=lr) for lr in (0.1, 0.2))
    capture, seen = watch(model, optimizers=[second])
    model(X).mean().backward()
    first.step()
    second.step()
    assert len(seen.frames) == 1 and list(seen.frames[0].values["lr"]) == [0.2]
    (described,) = capture.describe_optimizers()
    assert described["class"] == "SGD" and described["groups"][0]["lr"] == 0.2
    assert described["groups"][0]["params"] == 6


def test_an_optimizer_that_joins_late_steps_along(watch: Watch) -> None:
    maker, critic = gan()
    of_critic = torch.optim.SGD(critic.parameters(), lr=0.1)
    of_maker = torch.optim.SGD(maker.parameters(), lr=0.3)
    capture, seen = watch(maker, critic)
    for step in range(6):
        of_critic.zero_grad()
        critic(X).mean().backward()
        of_critic.step()
        if step >= 3:
            of_maker.zero_grad()
            critic(maker(torch.randn(8, 4))).mean().backward()
            of_maker.step()
    capture.detach()
    steps = [frame.step for frame in seen.frames]
    assert steps == sorted(set(steps)) and list(seen.frames[-1].values["lr"]) == [0.1, 0.3]


def test_learning_rates_are_those_of_the_step(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(1.0), foreach=False)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    _, seen = watch(model, optimizers=[optimizer])
    for _ in range(3):
        model(X).mean().backward()
        optimizer.step()
        scheduler.step()
    assert [float(frame.values["lr"][0]) for frame in seen.frames] == [1.0, 0.5, 0.25]
