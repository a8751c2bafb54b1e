"""Sampled statistics against plain arithmetic on whole tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from gradwatch.protocol.histogram import CELLS, count
from gradwatch.torch_.draft import Draft
from gradwatch.torch_.sampled import HISTOGRAM, SAMPLED, Cadence, Sample

from .conftest import Watch, mlp

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


class History:
    """A loop that keeps copies of everything."""

    def __init__(
        self, watch: Watch, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 12
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.capture, self.seen = watch(model, optimizers=[optimizer], budget=1e6)
        self.weights: list[dict[str, torch.Tensor]] = [self.copies()]
        self.grads: list[dict[str, torch.Tensor]] = []
        self.moments: list[dict[str, torch.Tensor]] = []
        for _ in range(steps):
            optimizer.zero_grad()
            model(X).pow(2).mean().backward()
            self.grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
            state = {n: optimizer.state.get(p, {}) for n, p in model.named_parameters()}
            self.moments.append({n: s["exp_avg_sq"].clone() for n, s in state.items() if "exp_avg_sq" in s})
            optimizer.step()
            self.weights.append(self.copies())
            assert len(self.seen.frames) == len(self.grads)

    def copies(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def small(watch: Watch) -> History:
    model = mlp()
    return History(watch, model, torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95)))


def test_they_come_every_ten_steps_and_are_declared_as_irregular(watch: Watch) -> None:
    seen = small(watch).seen
    held = [[name for name in SAMPLED if name in frame.values] for frame in seen.frames]
    assert held[0] == ["weight_norm", "update_ratio", "zero_fraction"]
    assert held[10] == list(SAMPLED) and not any(held[1:10]) and not held[11]
    assert {s.cadence for s in seen.schemas[-1][1] if s.name in SAMPLED} == {0}


def test_each_is_what_its_formula_says(watch: Watch) -> None:
    history = small(watch)
    seen, frame = history.seen, history.seen.frames[10]
    before, after, grad, previous = (
        history.weights[10],
        history.weights[11],
        history.grads[10],
        history.grads[9],
    )
    for name in before:
        w, w2, g, g2 = (x[name].double().flatten() for x in (before, after, grad, previous))
        v = (history.moments[10][name].double().flatten() / (1 - 0.95**10)).clamp(min=1e-16)
        expected = {
            "weight_norm": w.norm(),
            "update_ratio": (w2 - w).norm() / w.norm(),
            "grad_cosine": torch.dot(g, g2) / (g.norm() * g2.norm()),
            "sign_flips": (g * g2 < 0).double().mean(),
            "zero_fraction": (g == 0).double().mean(),
            "adam_ratio": (g**2 / v).mean().sqrt(),
        }
        for statistic, value in expected.items():
            assert seen.norms(frame, statistic)[name] == pytest.approx(float(value), rel=1e-5), statistic


def test_a_large_tensor_is_estimated_within_its_error(watch: Watch) -> None:
    model = nn.Sequential(nn.Linear(6, 500), nn.ReLU(), nn.Linear(500, 400))
    history = History(watch, model, torch.optim.SGD(model.parameters(), lr=0.1), steps=1)
    w, w2, g = history.weights[0]["2.weight"], history.weights[1]["2.weight"], history.grads[0]["2.weight"]
    seen, frame = history.seen, history.seen.frames[0]
    assert seen.norms(frame, "weight_norm")["2.weight"] == pytest.approx(float(w.double().norm()), rel=1e-5)
    assert seen.norms(frame, "update_ratio")["2.weight"] == pytest.approx(
        float((w2 - w).norm() / w.norm()), rel=0.3
    )
    assert seen.norms(frame, "zero_fraction")["2.weight"] == pytest.approx(
        float((g == 0).double().mean()), abs=0.08
    )


def test_dead_units_show_in_the_bias(watch: Watch) -> None:
    model = mlp((6, 10, 3))
    with torch.no_grad():
        model[0].bias[:7] = -100.0
    history = History(watch, model, torch.optim.SGD(model.parameters(), lr=0.01), steps=1)
    assert history.seen.norms(history.seen.frames[0], "zero_fraction")["0.bias"] >= 0.69


def test_what_has_no_meaning_is_absent(watch: Watch) -> None:
    model = mlp((6, 4, 3))
    nn.init.zeros_(model[0].bias)
    model[2].weight.requires_grad_(False)
    history = History(watch, model, torch.optim.SGD(model.parameters(), lr=0.01), steps=1)
    seen, frame = history.seen, history.seen.frames[0]
    assert set(seen.norms(frame, "update_ratio")) == {"0.weight", "2.weight", "2.bias"}
    assert "2.weight" not in seen.norms(frame, "zero_fraction")
    assert seen.norms(frame, "update_ratio")["2.weight"] == 0.0
    assert "adam_ratio" not in frame.values


def test_nan_gradients_stay_nan(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer])
    model(X * float("nan")).mean().backward()
    optimizer.step()
    assert math.isnan(seen.norms(seen.frames[0], "update_ratio")["4.weight"])


def test_a_skipped_step_has_none(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    _, seen = watch(model, optimizers=[optimizer])
    scaler.scale(model(X * float("inf")).mean()).backward()
    scaler.step(optimizer)
    assert seen.number(seen.frames[0], "skipped") == 1.0 and not set(SAMPLED) & set(seen.frames[0].values)


def test_scaled_gradients_are_unscaled_for_fused_adam(watch: Watch) -> None:
    ratios = []
    for scale in (1.0, 4096.0):
        torch.manual_seed(4)
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        _, seen = watch(model, optimizers=[optimizer], budget=1e6)
        for _ in range(11):
            assert seen.frames or not seen.pending
            optimizer.zero_grad()
            scaler.scale(model(X).pow(2).mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        ratios.append(seen.norms(seen.frames[10], "adam_ratio"))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-3)


def test_one_sample_waits_at_most(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer], budget=1e6)

    def steps(n: int) -> int:
        for _ in range(n):
            optimizer.zero_grad()
            model(X).mean().backward()
            optimizer.step()
        drafts = [frame for frame in seen.pending if isinstance(frame, Draft)]
        return sum(isinstance(sample, Sample) for draft in drafts for sample in draft.samples)

    assert steps(35) == 1
    assert seen.frames
    assert steps(10) == 2


def test_no_budget_no_samples(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer], budget=0.0)
    for _ in range(11):
        model(X).mean().backward()
        optimizer.step()
    assert not any(set(SAMPLED) & set(frame.values) for frame in seen.frames)


def test_the_cadence_keeps_the_budget() -> None:
    cadence = Cadence(0.01)
    assert cadence.every == 10 and cadence.thinned == 1.0
    for _ in range(30):
        cadence.account(cost=0.003, step_time=0.01)
    assert cadence.every == 40 and 0.003 / cadence.every <= 0.01 * 0.01
    for _ in range(60):
        cadence.account(cost=0.0005, step_time=0.01)
    assert cadence.every == 10
    cadence.account(cost=1e9, step_time=1e-9)
    assert cadence.every == 40_960


def test_what_every_step_costs_comes_first() -> None:
    cadence = Cadence(0.01)
    cadence.account(cost=0.00055, step_time=0.01, fixed=0.00004)
    assert cadence.every == 10
    cadence.account(cost=0.00055, step_time=0.01, fixed=0.00008)
    assert cadence.every == 40, "a quarter of the budget is left"
    cadence.account(cost=0.00055, step_time=0.01, fixed=1.0)
    assert cadence.every == 40


@pytest.mark.parametrize(("pause", "thinned"), [(0.01, True), (1000.0, False)])
def test_over_budget_only_samples_are_thinned(watch: Watch, pause: float, thinned: bool) -> None:
    now = [0.0]

    def timer() -> float:
        now[0] += 0.001
        return now[0]

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model, optimizers=[optimizer], timer=timer)
    for _ in range(200):
        model(X).mean().backward()
        now[0] += pause
        optimizer.step()
        seen.pending[-1].resolve()
    cost = capture.cost()
    assert (cost["thinned"] > 1) == thinned
    assert (cost["share_of_step"] > cost["budget"]) == thinned
    assert len(seen.pending) == 200
    seen.pending, seen._frames = seen.pending[-1:], []
    assert len(seen.frames[0].values["grad_norm"]) == 6


def test_due_steps_are_on_the_grid_of_the_cadence() -> None:
    cadence = Cadence(0.01)
    due = [step for step in range(100) if cadence.due(step)]
    assert {b - a for a, b in pairwise(due)} == {10}
    assert [step for step in range(100) if cadence.eve(step)] == [step - 1 for step in due[1:]] + [99]
    assert not any(Cadence(0.0).due(step) for step in range(100))


def test_looked_at_closely_every_step_has_them_however_many_wait(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    capture, seen = watch(model, optimizers=[optimizer], budget=1e6)
    for step in range(20):
        if step == 12:
            assert len(seen.frames) == 12  # resolves them; the samples that follow all wait
            capture.look_closely(5)
        optimizer.zero_grad()
        model(X).pow(2).mean().backward()
        optimizer.step()
    held = [frame.step for frame in seen.frames if "weight_norm" in frame.values]
    assert held == [0, 12, 13, 14, 15, 16]
    assert all("grad_cosine" in seen.frames[step].values for step in (13, 14, 15, 16))


def test_looking_closely_keeps_to_no_budget_at_all() -> None:
    cadence = Cadence(0.0)
    cadence.closely_until = 100
    assert not cadence.wants(5) and not cadence.due(5)


def plain_histogram(values: torch.Tensor) -> list[int]:
    """Counted one by one, with comparisons."""
    cells = [0] * CELLS
    for value in values.double().flatten().tolist():
        size = abs(value)
        if not math.isfinite(size):
            cells[47] += 1
        elif size == 0:
            cells[0] += 1
        else:
            cells[1 + sum(size >= 2.0**exponent for exponent in range(-38, 7))] += 1
    return cells


def test_a_histogram_of_a_small_tensor_counts_every_element(watch: Watch) -> None:
    history = small(watch)
    seen = history.seen
    assert [frame.step for frame in seen.frames if HISTOGRAM in frame.values] == [0]
    names, row = seen.names(seen.frames[0]), seen.frames[0].values[HISTOGRAM].reshape(-1, CELLS)
    for name, cells in zip(names, row, strict=True):
        assert cells.tolist() == plain_histogram(history.grads[0][name]), name
    (declared,) = (s for s in seen.schemas[-1][1] if s.name == HISTOGRAM)
    assert (declared.scope, declared.width, declared.cadence) == ("histogram", len(names) * CELLS, 50)
    assert 4 * CELLS / declared.cadence <= 4.2


def test_every_cell_of_a_histogram_begins_at_its_power_of_two() -> None:
    edges = 2.0 ** np.arange(-38, 7)
    values = np.concatenate(
        [edges, np.nextafter(edges, 0), [0.0, -0.0, 5e-324, 1e300, np.inf, -np.inf, np.nan]]
    )
    cells = count(np.concatenate([values, -values]), np.array([len(values), len(values)]))
    assert cells[0].tolist() == cells[1].tolist()
    assert cells[0].sum() == len(values)
    assert cells[0].tolist() == plain_histogram(torch.tensor(values))


def test_a_histogram_of_a_large_tensor_is_within_its_error_of_the_whole(watch: Watch) -> None:
    model = nn.Sequential(nn.Linear(6, 500), nn.Tanh(), nn.Linear(500, 400))
    history = History(watch, model, torch.optim.SGD(model.parameters(), lr=0.1), steps=1)
    seen = history.seen
    sampled = (
        seen.frames[0].values[HISTOGRAM].reshape(-1, CELLS)[seen.names(seen.frames[0]).index("2.weight")]
    )
    grad = history.grads[0]["2.weight"]
    n, shares = sampled.sum(), np.array(plain_histogram(grad)) / grad.numel()
    assert 900 <= n <= 1024
    # Rows of this gradient have their unit's scale in common, so that elements of a row do not count as independent.
    error = np.sqrt(shares * (1 - shares) / n)
    assert np.all(np.abs(sampled / n - shares) <= 5 * error + 1e-12)
    assert abs(np.cumsum(sampled / n) - np.cumsum(shares)).max() < 0.1


def test_histograms_are_of_the_gradient_that_the_optimizer_uses(watch: Watch) -> None:
    """Still scaled where the optimizer is fused and unscales by itself; NaN and zeros are counted apart."""
    model = mlp((6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=True)
    _, seen = watch(model, optimizers=[optimizer])
    scale, found = torch.tensor(2.0**16), torch.tensor(0.0)
    optimizer.grad_scale, optimizer.found_inf = scale, found  # type: ignore[attr-defined]
    grad = torch.tensor([1.5 * 2.0**-20, 0.0, float("nan")])
    model[0].bias.grad, model[0].weight.grad = grad * 2.0**16, None
    optimizer.step()
    frame = seen.frames[0]
    cells = dict(
        zip(seen.names(frame), frame.values[HISTOGRAM].reshape(-1, CELLS).astype(float), strict=True)
    )
    assert cells["0.bias"].tolist() == plain_histogram(grad)
    assert not frame.present[HISTOGRAM].reshape(-1, CELLS)[seen.names(frame).index("0.weight")].any()


def test_histograms_are_rarer_than_samples_and_come_oftener_around_an_incident() -> None:
    cadence = Cadence(0.01)
    assert [step for step in range(120) if cadence.due(step) and cadence.histogram(step)] == [0, 50, 100]
    cadence.closely_until = 20
    assert [step for step in range(60) if cadence.due(step) and cadence.histogram(step)] == [0, 5, 10, 15, 50]


class Foreign(torch.optim.Optimizer):
    """As optimizers outside torch are: steps counted by an ``int``, a second moment of each row."""

    def __init__(self, parameters: Iterable[nn.Parameter], by_row: bool) -> None:
        self.by_row = by_row
        super().__init__(parameters, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            state, square = self.state[parameter], parameter.grad**2
            state["step"] = state.get("step", 0) + 1
            v = square.reshape(len(square), -1).mean(1, keepdim=True) if self.by_row else square
            state["exp_avg_sq"] = 0.999 * state.get("exp_avg_sq", torch.zeros_like(v)) + 0.001 * v
            parameter.sub_(1e-3 * parameter.grad)


@pytest.mark.parametrize("by_row", [False, True])
def test_an_optimizer_from_elsewhere_is_sampled_as_far_as_it_is_understood(
    watch: Watch, by_row: bool
) -> None:
    model = mlp()
    history = History(watch, model, Foreign(model.parameters(), by_row))
    frame, g, v = history.seen.frames[10], history.grads[10]["0.weight"], history.moments[10]["0.weight"]
    assert "grad_cosine" in frame.values
    found = history.seen.norms(frame, "adam_ratio") if "adam_ratio" in frame.values else {}
    if by_row:
        assert "0.weight" not in found
    else:
        v = v / (1 - 0.999**10)
        assert found["0.weight"] == pytest.approx(float((g**2 / v).mean().sqrt()), rel=1e-4)


def test_adam_without_memory_has_a_second_moment_from_its_first_step(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.0))
    history = History(watch, model, optimizer)
    g, v = history.grads[10]["0.weight"], history.moments[10]["0.weight"]
    ratio = history.seen.norms(history.seen.frames[10], "adam_ratio")["0.weight"]
    assert ratio == pytest.approx(float((g**2 / v.clamp_min(1e-16)).mean().sqrt()), rel=1e-4)
