"""Steps with several optimizers, told as they happen."""

from __future__ import annotations

from gradwatch.torch_.steps import Steps


def test_one_optimizer_counts_up_from_the_start_step() -> None:
    steps = Steps(100)
    assert (steps.next_step, steps.scalar_step()) == (100, 100)
    assert [steps.begin(0) for _ in range(3)] == [100, 101, 102]
    assert steps.next_step == 103


def test_a_scalar_after_a_backward_belongs_to_the_coming_step() -> None:
    steps = Steps(0)
    steps.begin(0)
    steps.taken()
    assert steps.scalar_step() == 0
    steps.saw_backward(0)
    assert steps.scalar_step() == 1
    assert steps.begin(0) == 1
    steps.taken()
    assert steps.scalar_step() == 1


def test_two_optimizers_share_a_step() -> None:
    steps = Steps(0)
    assert [steps.begin(number) for number in (0, 1, 0, 1)] == [0, 0, 1, 1]
    assert steps.complete([0, 1])


def test_five_critic_steps_for_one_of_the_generator() -> None:
    steps = Steps(0)
    assert [steps.begin(number) for number in (0, 0, 0, 1, 0)] == [0, 1, 2, 2, 3]
    assert not steps.complete([0, 1])


def test_the_generators_backward_belongs_to_the_step_that_the_critic_began() -> None:
    steps = Steps(0)
    steps.begin(0)
    steps.taken()
    steps.begin(1)
    steps.taken()
    steps.saw_backward(0)
    assert steps.scalar_step() == 1
    steps.begin(0)
    steps.taken()
    steps.saw_backward(1)
    assert steps.scalar_step() == 1
    steps.begin(1)
    steps.taken()
    steps.saw_backward(0)
    assert steps.scalar_step() == 2


def test_whoever_steps_after_the_frame_has_left_begins_a_new_step() -> None:
    steps = Steps(0)
    steps.begin(0)
    steps.close()
    assert steps.begin(1) == 1
    assert steps.begin(0) == 1
