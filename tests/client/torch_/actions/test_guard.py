"""The guard around an optimizer's steps: what is left of a bad step, of a learning rate, of a loop that should end."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import gradwatch
from gradwatch.errors import ConfigError, GradwatchStop
from gradwatch.health import table
from gradwatch.torch_.actions import Action, AdaptiveClip, Budget, CutLR, Guard, SkipNonFinite, StopOn
from gradwatch.torch_.actions.parts import KINDS

from ..conftest import Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01),
    "fused": lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True),
    "foreach": lambda ps: torch.optim.Adam(ps, lr=0.01, foreach=True),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.1),
}


class Loop:
    """A guarded training loop."""

    def __init__(self, *parts: Any, optimizer: str = "sgd", **options: Any) -> None:
        torch.manual_seed(0)
        self.model = mlp()
        self.optimizer = OPTIMIZERS[optimizer](list(self.model.parameters()))
        self.guard = gradwatch.guard(self.optimizer, parts, **options)

    def step(self, factor: float = 1.0) -> None:
        self.optimizer.zero_grad()
        (factor * self.model(X).pow(2).mean()).backward()
        self.optimizer.step()

    def state(self) -> list[torch.Tensor]:
        """Everything that a step changes, copied."""
        numbers = [
            v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)
        ]
        return [t.detach().clone() for t in (*self.model.parameters(), *numbers)]

    @property
    def kinds(self) -> list[str]:
        return [action.kind for action in self.guard.actions]


@pytest.fixture(autouse=True)
def unhooked() -> Any:
    before = len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)
    made: list[Guard] = []
    original = Guard.attach

    def attach(self: Guard) -> None:
        made.append(self)
        original(self)

    Guard.attach = attach  # type: ignore[method-assign]
    yield
    Guard.attach = original  # type: ignore[method-assign]
    for guard in made:
        guard.remove()
    assert (len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)) == before


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_leaves_no_trace(optimizer: str, bad: float) -> None:
    loop = Loop(SkipNonFinite(), optimizer=optimizer)
    twin = Loop(optimizer=optimizer)
    for _ in range(3):
        loop.step()
        twin.step()
    before = loop.state()
    loop.step(bad)
    assert all(torch.equal(a, b) for a, b in zip(before, loop.state(), strict=True))
    assert not hasattr(loop.optimizer, "found_inf")
    for _ in range(3):
        loop.step()
        twin.step()
    assert all(torch.equal(a, b) for a, b in zip(twin.state(), loop.state(), strict=True))
    (action,) = loop.guard.actions
    assert (action.kind, action.step) == ("skip", 3)


def test_without_skipping_the_same_step_would_have_broken_the_model() -> None:
    loop = Loop()
    loop.step(math.nan)
    assert not loop.model[0].weight.isfinite().any()


@pytest.mark.parametrize("optimizer", ["sgd", "fused"])
def test_too_many_skips_in_a_row_stop_with_the_reason(optimizer: str) -> None:
    loop = Loop(SkipNonFinite(), optimizer=optimizer, budget=Budget(skips=3))
    for _ in range(3):
        loop.step(math.nan)
    with pytest.raises(GradwatchStop, match="4 steps in a row had gradients that are not finite"):
        loop.step(math.nan)
    assert loop.kinds == ["skip", "stop"]


def test_too_many_actions_stop_with_the_reason() -> None:
    loop = Loop(SkipNonFinite(), budget=Budget(actions=2, window=50))
    for _ in range(2):
        loop.step(math.nan)
        loop.step()
    with pytest.raises(GradwatchStop, match="more than 2 actions within 50 steps"):
        loop.step(math.nan)


def test_a_watched_run_sees_the_norms_before_the_clip_and_that_the_step_was_skipped(watch: Watch) -> None:
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    _, seen = watch(model, optimizers=[optimizer])
    gradwatch.guard(optimizer, [AdaptiveClip(warmup=5), SkipNonFinite()])
    for k in range(12):
        optimizer.zero_grad()
        factor = {8: 100.0, 10: math.nan}.get(k, 1.0)
        (factor * model(X).pow(2).mean()).backward()
        before = reference(model)
        optimizer.step()
        frame = seen.frames[-1]
        close(seen.norms(frame), before)
        assert ("skipped" in frame.values) == (k == 10)
        if k == 8:
            ratio = seen.number(frame, "global_grad_norm") / seen.number(frame, "global_grad_norm_clipped")
            assert ratio == pytest.approx(100 / 1.5, rel=1e-3)


@pytest.mark.parametrize("tensor", [False, True])
def test_schedulers_never_see_the_multiplier(tensor: bool) -> None:
    cut = CutLR(hold=5, quiet=1000)
    torch.manual_seed(0)
    model, twin = mlp(), None
    twin = copy.deepcopy(model)
    rate = torch.tensor(0.1) if tensor else 0.1
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    guard = gradwatch.guard(optimizer, [cut])
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda o, a, k: used.append(float(o.param_groups[0]["lr"])))
    for k in range(6):
        optimizer.zero_grad()
        model(X).pow(2).mean().backward()
        if k == 2:
            guard.incident("a", "diverging", "critical", "the server says so", open=True)
        optimizer.step()
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 * 0.9**k)
        schedule.step()
    assert used == pytest.approx([0.1 * 0.9**k * (0.5 if k >= 3 else 1.0) for k in range(6)])
    (action,) = guard.actions
    assert (action.kind, action.step, action.old, action.new) == ("lr_cut", 3, 1.0, 0.5)
    assert action.reason == "the server says so" and action.bounds == {"least": 0.05, "most": 1.0}
    assert twin is not None


def test_the_rate_is_put_back_after_a_step_that_raised() -> None:
    loop = Loop(CutLR())
    loop.guard.incident("a", "diverging", "warning", "", open=True)
    loop.step()
    with pytest.raises(ZeroDivisionError):
        loop.optimizer.register_step_pre_hook(lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]
        loop.step()
    loop.guard.remove()
    assert loop.optimizer.param_groups[0]["lr"] == 0.1


def test_a_loss_that_leaves_its_level_cuts_the_rate_and_quiet_steps_let_it_recover() -> None:
    cut = CutLR(hold=200, quiet=10, recover=1.5)
    loop = Loop(cut)
    for k in range(150):
        loop.guard.log(loss=1.0 + 0.01 * math.sin(k))
        loop.step()
    assert cut.multiplier == 1.0
    for _ in range(12):
        loop.guard.log(loss=2.0)
        loop.step()
    assert cut.multiplier == 0.5 and loop.kinds == ["lr_cut"]
    for _ in range(30):
        loop.guard.log(loss=1.0)
        loop.step()
    assert cut.multiplier == 1.0 and loop.kinds == ["lr_cut", "lr_recover", "lr_recover"]


def test_a_budget_of_cuts_ends_with_a_stop() -> None:
    loop = Loop(CutLR(hold=1), budget=Budget(actions=2))
    for k in range(2):
        loop.guard.incident(str(k), "exploding", "critical", "again", open=True)
        loop.step()
        loop.step()
    loop.guard.incident("3", "exploding", "critical", "again", open=True)
    loop.step()
    with pytest.raises(GradwatchStop, match="as often as the budget allows, and still: again"):
        loop.step()


def test_stop_on_what_this_process_sees_after_the_checkpoint() -> None:
    saved: list[int] = []
    loop = Loop(StopOn("nonfinite", after=2, checkpoint=lambda: saved.append(1)))
    loop.step(math.nan)
    with pytest.raises(GradwatchStop, match="training stops at step 1: gradients are not finite"):
        loop.step()
    assert saved == [1] and loop.kinds == ["stop"]
    loop.step()
    assert loop.kinds == ["stop"], "the guard is gone"


def test_stop_on_exploding_norms() -> None:
    loop = Loop(StopOn("exploding"))
    loop.optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(40):
        loop.step()
    with pytest.raises(GradwatchStop, match="gradient norms explode"):
        for _ in range(20):
            loop.step(50.0)


def test_stop_on_incidents_of_the_right_kind_and_severity() -> None:
    loop = Loop(StopOn("vanishing", severity="warning"))
    loop.guard.incident("a", "exploding", "critical", "", open=True)
    loop.guard.incident("b", "vanishing", "info", "", open=True)
    loop.step()
    loop.guard.incident("c", "vanishing", "critical", "all layers vanish", open=True)
    with pytest.raises(GradwatchStop, match="all layers vanish"):
        loop.step()


def test_an_incident_that_gets_worse_is_heard_again() -> None:
    """What the gradients alone say opens as info and rises when the loss agrees."""
    loop = Loop(StopOn("exploding"))
    for severity in ("info", "warning", "warning"):
        loop.guard.incident("a", "exploding", severity, "", open=True)
        loop.step()
    loop.guard.incident("a", "exploding", "critical", "now the loss too", open=True)
    with pytest.raises(GradwatchStop, match="now the loss too"):
        loop.step()


@pytest.mark.parametrize(
    ("told", "stops"),
    [
        ([("a", "diverging", "")], True),
        ([("a", "nonfinite", "")], False),
        ([("x", "loss_scale", ""), ("a", "nonfinite", "x")], False),
        ([("x", "exploding", ""), ("a", "nonfinite", "x")], True),
        ([("a", "dead", "")], False),
    ],
)
def test_an_explosion_may_be_told_by_what_it_ended_in(told: list[tuple[str, str, str]], stops: bool) -> None:
    loop = Loop(StopOn("exploding"))
    for id, kind, cause in told:
        # The cause is known as a remark, which does not stop by itself.
        severity = "critical" if id == "a" else "info"
        loop.guard.incident(id, kind, severity, kind, open=True, cause=cause)
    if stops:
        with pytest.raises(GradwatchStop, match=told[-1][1]):
            loop.step()
    loop.step()


def test_norms_that_explode_into_nan_stop_the_run_and_one_nan_in_calm_does_not() -> None:
    loop = Loop(SkipNonFinite(), StopOn("exploding", after=3))
    loop.optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(40):
        loop.step()
    for factor in (math.nan, math.nan, math.nan, 1.0, 1.0):
        loop.step(factor)
    loop.step(50.0)
    with pytest.raises(GradwatchStop, match="gradient norms explode"):
        for _ in range(3):
            loop.step(math.nan)


def test_stop_on_several_kinds() -> None:
    loop = Loop(StopOn({"vanishing", "dead"}))
    loop.guard.incident("a", "diverging", "critical", "", open=True)
    loop.step()
    loop.guard.incident("b", "dead", "critical", "units are dead", open=True)
    with pytest.raises(GradwatchStop, match="units are dead"):
        loop.step()


def test_a_kind_that_does_not_exist_would_never_stop_anything() -> None:
    with pytest.raises(ConfigError, match="StopOn knows no 'explodng'; its kinds are accumulating"):
        StopOn("explodng")
    assert sorted(table.KINDS) == list(KINDS)


def test_early_stopping_on_a_metric() -> None:
    loop = Loop(StopOn.metric("val/loss", patience=3, min_delta=0.01))
    for value in (1.0, 0.9, 0.895, 0.9):
        loop.guard.value("val/loss", value)
        loop.guard.value("loss", 100.0)
        loop.step()
    loop.guard.value("val/loss", torch.tensor(0.9))
    with pytest.raises(GradwatchStop, match=r"val/loss has not improved on 0.9 in 3 values"):
        loop.step()


def test_an_open_incident_holds_the_limit() -> None:
    clip = AdaptiveClip(warmup=5)
    loop = Loop(clip)
    for _ in range(10):
        loop.step()
    loop.guard.incident("a", "oscillating", "info", "", open=True)
    loop.step()
    limit = clip.limit
    for _ in range(5):
        loop.step(1.3)
    assert clip.limit == limit
    loop.guard.incident("a", "oscillating", "info", "", open=False)
    for _ in range(3):
        loop.step(1.3)
    assert clip.limit != limit


@pytest.mark.parametrize("optimizer", ["adamw", "fused"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_under_a_grad_scaler(optimizer: str, accumulate: int) -> None:
    """The limit is in units of the true gradients; what overflows is the scaler's to skip, and no action."""
    loop = Loop(clip := AdaptiveClip(warmup=3), SkipNonFinite(), optimizer=optimizer)
    twin = Loop(optimizer=optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def step(factor: float) -> None:
        loop.optimizer.zero_grad()
        for _ in range(accumulate):
            scaler.scale(factor / accumulate * loop.model(X).pow(2).mean()).backward()
        scaler.step(loop.optimizer)
        scaler.update()

    norms = []
    for _ in range(3):
        step(1.0)
        twin.step()
        norms.append(math.sqrt(sum(v**2 for v in reference(twin.model).values())))
    clip.settle()
    for a, b in zip(loop.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert clip.limit == pytest.approx(1.5 * np.quantile(norms, 0.95), rel=1e-4)
    before = loop.state()
    step(math.inf)
    assert all(torch.equal(a, b) for a, b in zip(before, loop.state(), strict=True))
    assert loop.kinds == []


def test_one_part_may_be_given_by_itself() -> None:
    loop = Loop()
    guard = gradwatch.guard(loop.optimizer, SkipNonFinite())
    loop.step(math.nan)
    assert [action.kind for action in guard.actions] == ["skip"]


def test_bad_parts_are_told_before_the_first_step() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parts, sentence in [
        (["clip"], "takes AdaptiveClip"),
        ([CutLR(), CutLR()], "takes one CutLR"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            gradwatch.guard(optimizer, parts)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="LBFGS"):
        gradwatch.guard(torch.optim.LBFGS(model.parameters()), [SkipNonFinite()])
    with pytest.raises(ConfigError, match="torch optimizer"):
        gradwatch.guard(model, [SkipNonFinite()])  # type: ignore[arg-type]
    for make in (
        lambda: CutLR(factor=2), lambda: StopOn(severity="bad"), lambda: StopOn(after=0),  # type: ignore[arg-type]
        lambda: StopOn.metric("x", patience=0), lambda: StopOn.metric("x", 3, mode="up"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            make()


def test_other_optimizers_are_left_alone() -> None:
    loop = Loop(SkipNonFinite())
    other = mlp()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    (math.nan * other(X).mean()).backward()
    optimizer.step()
    assert not other[0].weight.isfinite().any() and not loop.guard.actions


def test_actions_are_told_as_they_happen() -> None:
    told: list[Action] = []
    loop = Loop(SkipNonFinite(), on_action=told.append)
    loop.step(math.nan)
    assert [action.kind for action in told] == ["skip"]
