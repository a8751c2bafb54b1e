"""Norms before and after clipping, whoever clips, against plain arithmetic on copies of the gradients."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import nn

from .conftest import Recorder, Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


def total(norms: dict[str, float]) -> float:
    return sum(v**2 for v in norms.values()) ** 0.5


class Loop:
    """A training loop that clips, and what plain arithmetic says about its last step."""

    def __init__(
        self, watch: Watch, clip: Callable[[nn.Module], object], steps: int = 3, **options: object
    ) -> None:
        self.model = mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.capture, self.seen = watch(self.model, optimizers=[self.optimizer], **options)
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(X).pow(2).mean().backward()
            self.before = reference(self.model)
            clip(self.model)
            self.after = reference(self.model)
            self.optimizer.step()
        self.frame = self.seen.frames[-1]

    def check(self) -> Recorder:
        """Per-tensor and total norm are those before clipping, the clipped total is that after it."""
        close(self.seen.norms(self.frame), self.before)
        assert self.seen.number(self.frame, "global_grad_norm") == pytest.approx(total(self.before), rel=1e-5)
        assert self.seen.number(self.frame, "global_grad_norm_clipped") == pytest.approx(
            total(self.after), rel=1e-5
        )
        return self.seen


@pytest.mark.parametrize("limit", [1e-3, 1e3])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("foreach", [None, True, False])
def test_by_norm(watch: Watch, limit: float, norm_type: float, foreach: bool | None) -> None:
    loop = Loop(
        watch,
        lambda model: nn.utils.clip_grad_norm_(
            model.parameters(), limit, norm_type=norm_type, foreach=foreach
        ),
    )
    seen = loop.check()
    assert seen.number(loop.frame, "clip_limit") == limit
    assert seen.number(loop.frame, "clip_coef") == pytest.approx(
        total(loop.after) / total(loop.before), rel=1e-4
    )


@pytest.mark.parametrize("given", [list, tuple, iter, lambda p: (q for q in p)])
def test_any_iterable_of_parameters(watch: Watch, given: Callable[[Iterator[nn.Parameter]], object]) -> None:
    Loop(watch, lambda model: nn.utils.clip_grad_norm_(given(model.parameters()), max_norm=1e-3)).check()


@pytest.mark.parametrize(
    "chosen",
    [
        lambda ps: ps[::-1],
        lambda ps: ps[1:] + ps[:1],
        lambda ps: [*ps, nn.Parameter(torch.ones(3))],
        lambda ps: [ps[0].requires_grad_(False), *ps[1:]],
    ],
    ids=["backwards", "turned", "and one that is not watched", "one is frozen"],
)
def test_parameters_in_any_order(
    watch: Watch, chosen: Callable[[list[nn.Parameter]], list[nn.Parameter]]
) -> None:
    def clip(model: nn.Module) -> None:
        nn.utils.clip_grad_norm_(chosen(list(model.parameters())), 0.1)

    Loop(watch, clip, steps=4).check()


def test_gradients_of_several_types_are_heard_in_their_groups(watch: Watch) -> None:
    model = nn.Sequential(
        nn.Linear(6, 5), nn.Linear(5, 4).double(), nn.Linear(4, 3), nn.Linear(3, 2).bfloat16()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = reference(model)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    close(seen.norms(seen.frames[0]), before, rel=1e-6)


def test_a_parameter_in_the_place_of_a_dead_one_is_not_taken_for_it(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, _ = watch(model, optimizers=[optimizer])
    parameters = list(model.parameters())
    assert capture._catalog.consists_of(parameters)
    kept = parameters[:-1]
    del parameters, optimizer
    model[-1].bias = None
    assert not capture._catalog.consists_of(kept)
    model[-1].bias = nn.Parameter(torch.zeros(3))
    assert not capture._catalog.consists_of(list(model.parameters()))


def test_by_value(watch: Watch) -> None:
    loop = Loop(watch, lambda model: nn.utils.clip_grad_value_(model.parameters(), 1e-3))
    seen = loop.check()
    assert seen.number(loop.frame, "clip_coef") == pytest.approx(
        total(loop.after) / total(loop.before), rel=1e-4
    )
    assert "clip_limit" not in loop.frame.values


def test_by_total_norm_and_then_with_it(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        nn.utils.clip_grads_with_norm_(model.parameters(), 1e-3, norm)

    seen = Loop(watch, clip).check()
    assert seen.number(seen.frames[-1], "clip_limit") == 1e-3


def test_with_a_total_norm_from_elsewhere(watch: Watch) -> None:
    Loop(
        watch, lambda m: nn.utils.clip_grads_with_norm_(list(m.parameters()), 0.5, torch.tensor(5.0))
    ).check()


def test_by_hand_after_asking_for_the_norm(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        for grad in grads:
            grad.mul_(1e-3 / norm)

    loop = Loop(watch, clip)
    assert loop.check().number(loop.frame, "clip_coef") == pytest.approx(1e-3 / total(loop.before), rel=1e-4)


def test_by_norm_and_then_by_value(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        nn.utils.clip_grad_value_(model.parameters(), 1e-4)

    Loop(watch, clip).check()


def test_twice_by_norm(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        nn.utils.clip_grad_norm_(model.parameters(), 0.005)

    Loop(watch, clip).check()


def test_the_whole_and_then_a_part_of_it(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        nn.utils.clip_grad_norm_(model[0].parameters(), 0.001)  # type: ignore[index]

    Loop(watch, clip).check()


def test_parts_one_by_one_and_one_part_not_at_all(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        nn.utils.clip_grad_norm_(model[0].parameters(), 0.001)  # type: ignore[index]
        nn.utils.clip_grad_norm_(model[2].weight, 0.0005)  # type: ignore[index]

    loop = Loop(watch, clip)
    loop.check()


def test_only_asking_for_the_norm_is_not_clipping(watch: Watch) -> None:
    loop = Loop(watch, lambda model: nn.utils.get_total_norm([p.grad for p in model.parameters()]))  # type: ignore[misc]
    close(loop.seen.norms(loop.frame), loop.before)
    assert "clip_coef" not in loop.frame.values


def test_asking_for_the_norm_after_each_micro_batch_measures_the_sum(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    for _ in range(3):
        optimizer.zero_grad()
        for part in X.split(8):
            model(part).pow(2).mean().backward()
            nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        before = reference(model)
        optimizer.step()
    close(seen.norms(seen.frames[-1]), before)


def test_clipping_each_micro_batch_takes_the_last(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    for _ in range(3):
        optimizer.zero_grad()
        for part in X.split(8):
            model(part).pow(2).mean().backward()
            before = reference(model)
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        after = reference(model)
        optimizer.step()
    close(seen.norms(seen.frames[-1]), before)
    assert seen.number(seen.frames[-1], "global_grad_norm_clipped") == pytest.approx(total(after), rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_was_not_finite_is_told_from_what_clipping_made_of_it(watch: Watch, bad: float) -> None:
    def clip(model: nn.Module) -> None:
        model[2].weight.grad.view(-1)[:3] = bad  # type: ignore[index, union-attr]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    loop = Loop(watch, clip, steps=1)
    norms = loop.seen.norms(loop.frame)
    assert norms.pop("2.weight") == pytest.approx(bad, nan_ok=True)
    loop.before.pop("2.weight")
    close(norms, loop.before)
    assert loop.seen.norms(loop.frame, "grad_nonfinite") == {"2.weight": 3.0}
    assert loop.seen.norms(loop.frame, "grad_maxabs") == pytest.approx({"2.weight": bad}, nan_ok=True)


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_a_step_that_was_not_taken_leaves_nothing(watch: Watch, steps_before: int) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model)
    for step in range(steps_before + 2):
        optimizer.zero_grad()
        (model(X) * (1 + step)).pow(2).mean().backward()
        before = reference(model)
        if step == steps_before:
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        else:
            optimizer.step()
    capture.detach()
    close(seen.norms(seen.frames[-1]), before)
    assert "clip_coef" not in seen.frames[-1].values


def test_a_clip_at_a_step_that_is_not_measured_leaves_nothing(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, every=2, optimizers=[optimizer])
    for step in range(5):
        optimizer.zero_grad()
        model(X).pow(2).mean().backward()
        before = reference(model)
        if step % 2:
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
    close(seen.norms(seen.frames[-1]), before)
    assert all("clip_coef" not in frame.values for frame in seen.frames)


def test_a_refused_clip_stays_refused(watch: Watch) -> None:
    model = mlp()
    watch(model)
    model(X).pow(2).mean().backward()
    model[0].weight.grad.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)


def test_an_empty_generator_still_warns(watch: Watch) -> None:
    watch(mlp())
    with pytest.warns(UserWarning, match="empty generator"):
        nn.utils.clip_grad_norm_((p for p in ()), 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_results_are_the_same_to_the_bit(watch: Watch, dtype: torch.dtype) -> None:
    def clipped() -> tuple[list[torch.Tensor], torch.Tensor]:
        torch.manual_seed(3)
        parameters = [nn.Parameter(torch.randn(50, 7, dtype=kind)) for kind in (dtype, torch.float32, dtype)]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        model = nn.ParameterList(parameters)
        if watch.captures:
            watch(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.7)
        return [p.grad for p in model if p.grad is not None], norm

    plain, plain_norm = clipped()
    watch(mlp())
    ours, our_norm = clipped()
    assert torch.equal(plain_norm, our_norm)
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))


def test_functions_already_imported_elsewhere_are_seen_and_put_back(watch: Watch) -> None:
    original = nn.utils.clip_grad_norm_
    module = ModuleType("a_users_module")
    module.clip = original  # type: ignore[attr-defined]
    sys.modules["a_users_module"] = module
    try:
        loop = Loop(watch, lambda model: module.clip(model.parameters(), 1e-3))
        loop.check()
        wrapped = module.clip
        watch.captures[0].detach()
        assert module.clip is original and nn.utils.clip_grad_norm_ is original
        assert torch.nn.utils.clip_grad.clip_grad_norm_ is original and wrapped is not original
        wrapped(mlp().parameters(), 1.0)
    finally:
        del sys.modules["a_users_module"]


def test_two_captures_share_the_patch(watch: Watch) -> None:
    original = nn.utils.clip_grad_norm_
    first = Loop(watch, lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-3))
    second = Loop(watch, lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-3))
    first.capture.detach()
    assert nn.utils.clip_grad_norm_ is not original
    second.check()
    second.capture.detach()
    assert nn.utils.clip_grad_norm_ is original


def test_a_clip_in_another_thread_is_another_clip(watch: Watch) -> None:
    foreign = mlp()
    foreign(X).pow(2).mean().backward()

    class Limit(float):
        """A limit during the reading of which somebody else clips."""

        def __float__(self) -> float:
            clip = threading.Thread(target=nn.utils.clip_grad_norm_, args=(foreign.parameters(), 1e-4))
            clip.start()
            clip.join()
            return float.__float__(self)

    loop = Loop(watch, lambda model: nn.utils.clip_grad_norm_(model.parameters(), Limit(1e-3)))
    seen = loop.check()
    assert seen.number(loop.frame, "clip_limit") == 1e-3


@pytest.mark.parametrize("way", ["noise", "clamp", "product"])
@pytest.mark.parametrize("clip", ["norm", "value", "half"])
def test_what_a_script_does_after_clipping_is_in_the_norm_after_it(watch: Watch, way: str, clip: str) -> None:
    def change(model: nn.Module) -> None:
        parameters = list(model.parameters())[: 3 if clip == "half" else None]
        if clip == "value":
            nn.utils.clip_grad_value_(parameters, 0.01)
        else:
            nn.utils.clip_grad_norm_(parameters, 0.01)
        for parameter in parameters:
            assert parameter.grad is not None
            if way == "noise":
                parameter.grad.add_(torch.randn_like(parameter))
            elif way == "clamp":
                parameter.grad.clamp_(-1e-4, 1e-4)
            else:
                parameter.grad = parameter.grad * 0.5

    Loop(watch, change, steps=6).check()


def test_by_a_product_after_asking_for_the_norm(watch: Watch) -> None:
    def clip(model: nn.Module) -> None:
        parameters = list(model.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = parameter.grad * (1e-3 / norm)

    Loop(watch, clip).check()
