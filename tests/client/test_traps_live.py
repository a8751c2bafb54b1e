"""Healthy trainings that look wrong, each a real one: watched from the live model, nothing above info is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwatch
from gradwatch import Run

STEPS = 220
Training = Callable[[Callable[..., Run]], Run]


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    monkeypatch.delenv("GRADWATCH_MODE", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def blobs(n: int, classes: int = 4, noise: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.randint(classes, (n,))
    centres = torch.randn(10, 8, generator=torch.Generator().manual_seed(5)) * 1.5
    return centres[y] + noise * torch.randn(n, 8), y


def net(width: int = 24) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
    )


def loop(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = STEPS,
    size: int = 16,
    batch: Callable[[int], tuple[torch.Tensor, torch.Tensor]] | None = None,
    each: Callable[[int], None] = lambda step: None,
) -> Run:
    for step in range(steps):
        each(step)
        x, y = batch(step) if batch is not None else blobs(size)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        run.log(loss=loss)
    return run


def lora(watch: Callable[..., Run]) -> Run:
    """B is zero, so A's gradient is exactly zero at the first step; the base is frozen on purpose."""

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base, self.head = nn.Linear(8, 24), nn.Linear(24, 4)
            self.base.requires_grad_(False)
            self.lora_a = nn.Parameter(torch.randn(2, 8) / 3)
            self.lora_b = nn.Parameter(torch.zeros(24, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(F.relu(self.base(x) + x @ self.lora_a.T @ self.lora_b.T))

    model = Adapted()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    return loop(watch(model, optimizer), model, optimizer)


def adaln_zero(watch: Callable[..., Run]) -> Run:
    """Conditioned blocks whose modulation starts at zero: the whole block gets exactly nothing at first."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(16, elementwise_affine=False)
            self.inner = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
            self.modulation = nn.Linear(16, 48)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shift, scale, gate = self.modulation(F.silu(x)).chunk(3, -1)
            return x + gate * self.inner(self.norm(x) * (1 + scale) + shift)

    model = nn.Sequential(nn.Linear(8, 16), Block(), Block(), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return loop(watch(model, optimizer), model, optimizer)


def zero_gates(watch: Callable[..., Run]) -> Run:
    """Residual branches behind a scalar that starts at zero."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
            self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(8))
            self.gates = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for block, gate in zip(self.blocks, self.gates, strict=True):
                x = x + gate * F.relu(block(x))
            return self.head(x)

    model = Gated()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return loop(watch(model, optimizer), model, optimizer)


def idle_experts(watch: Callable[..., Run]) -> Run:
    """Hard routing: an expert that no sample chose gets no gradient at all, for as long as that lasts."""

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gate, self.head = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 4)
            self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
            nn.init.constant_(self.gate.bias, 0.0)
            with torch.no_grad():
                self.gate.bias[3] = -50.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = F.relu(self.stem(x))
            p = self.gate(h).softmax(-1)
            best, out = p.argmax(-1), torch.zeros_like(h)
            for n, expert in enumerate(self.experts):
                rows = best == n
                if rows.any():
                    out = out.index_put((rows,), p[rows, n : n + 1] * expert(h[rows]))
            return self.head(h + out)

    model = Mixture()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return loop(watch(model, optimizer), model, optimizer)


def gan(watch: Callable[..., Run]) -> Run:
    model = nn.ModuleDict({"g": nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 8)), "d": net()})
    model["d"][-1] = nn.Linear(24, 1)
    og, od = (torch.optim.Adam(model[k].parameters(), 2e-3, (0.5, 0.999)) for k in "gd")
    run = watch(model, [og, od])
    bce = F.binary_cross_entropy_with_logits
    for _ in range(STEPS):
        real, fake = blobs(16)[0], model["g"](torch.randn(16, 4))
        od.zero_grad()
        d = bce(model["d"](real), torch.ones(16, 1)) + bce(model["d"](fake.detach()), torch.zeros(16, 1))
        d.backward()
        od.step()
        og.zero_grad()
        g = bce(model["d"](fake), torch.ones(16, 1))
        g.backward()
        og.step()
        run.log(loss=d.detach() + g.detach())
    return run


def policy_gradient(watch: Callable[..., Run]) -> Run:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    run = watch(model, optimizer)
    for _ in range(STEPS):
        x, y = blobs(16)
        logp = model(x).log_softmax(-1)
        act = torch.multinomial(logp.detach().exp(), 1)[:, 0]
        reward = (act == y).float() - 0.5
        loss = -(reward * logp[torch.arange(16), act]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)
    return run


def cyclic_rate(watch: Callable[..., Run]) -> Run:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def each(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.002 + 0.08 * abs((step % 40) / 20 - 1)

    return loop(watch(model, optimizer), model, optimizer, each=each)


def warm_up(watch: Callable[..., Run]) -> Run:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def each(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 1e-2 * min((step + 1) / 100, 1.0)

    return loop(watch(model, optimizer), model, optimizer, each=each)


def resumed(watch: Callable[..., Run]) -> Run:
    """Trained weights, a cold optimizer, and steps that do not begin at zero."""
    model = net()
    first = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(200):
        x, y = blobs(16)
        first.zero_grad()
        F.cross_entropy(model(x), y).backward()
        first.step()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return loop(watch(model, optimizer, start_step=200), model, optimizer)


def thawed(watch: Callable[..., Run]) -> Run:
    model = net()
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def each(step: int) -> None:
        if step == 120:
            model.requires_grad_(True)

    return loop(watch(model, optimizer), model, optimizer, each=each)


def curriculum(watch: Callable[..., Run]) -> Run:
    """Two classes, then all four, and the script says so."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    run = watch(model, optimizer)

    def each(step: int) -> None:
        if step == 140:
            run.phase("all classes")

    return loop(run, model, optimizer, each=each, batch=lambda s: blobs(16, 2 if s < 140 else 4))


def sparse_embedding(watch: Callable[..., Run]) -> Run:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tok = nn.Embedding(500, 8, sparse=True)
            self.head = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.tok(x).mean(1))

    model = Bag()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.randint(4, (8,))
        return torch.randint(125, (8, 4)) + 125 * y[:, None], y

    return loop(watch(model, optimizer), model, optimizer, batch=batch)


def batch_of_one(watch: Callable[..., Run]) -> Run:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return loop(watch(model, optimizer), model, optimizer, size=1, steps=400)


def label_noise(watch: Callable[..., Run]) -> Run:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = blobs(16)
        return x, torch.where(torch.rand(16) < 0.4, torch.randint(4, (16,)), y)

    return loop(watch(model, optimizer), model, optimizer, batch=batch)


def near_zero_loss(watch: Callable[..., Run]) -> Run:
    """Everything is learnt: loss and gradients go to zero, which is not vanishing."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = blobs(32, noise=0.05)
    return loop(watch(model, optimizer), model, optimizer, batch=lambda s: (x, y), steps=400)


def overflows(watch: Callable[..., Run]) -> Run:
    """A loss scaler that starts far too high: it skips until it fits, as it should."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=150)
    run = watch(model, optimizer)
    for _ in range(STEPS):
        x, y = blobs(16)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        run.log(loss=loss)
    return run


def dropout(watch: Callable[..., Run]) -> Run:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return loop(watch(model, optimizer), model, optimizer)


TRAPS: tuple[Training, ...] = (
    lora,
    adaln_zero,
    zero_gates,
    idle_experts,
    gan,
    policy_gradient,
    cyclic_rate,
    warm_up,
    resumed,
    thawed,
    curriculum,
    sparse_embedding,
    batch_of_one,
    label_noise,
    near_zero_loss,
    overflows,
    dropout,
)


@pytest.mark.parametrize("training", TRAPS, ids=lambda t: t.__name__)
def test_nothing_above_info_is_said(training: Training, capsys: pytest.CaptureFixture[str]) -> None:
    run = training(lambda *args, **more: gradwatch.watch(*args, mode="local", **more))
    found = run.incidents
    assert run.health.numbers["frames"] >= 150
    assert [(i.kind, i.severity, i.first_step, i.evidence) for i in found if i.severity != "info"] == []
    assert len(found) <= 2
    run.finish()
    assert "warning" not in capsys.readouterr().err


def test_an_adapter_that_never_comes_alive_is_told() -> None:
    """A and B both zero: neither ever gets a gradient, and the adapter never learns."""

    class Stillborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 4)
            self.lora_a, self.lora_b = nn.Parameter(torch.zeros(2, 8)), nn.Parameter(torch.zeros(4, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + x @ self.lora_a.T @ self.lora_b.T

    model = Stillborn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with gradwatch.watch(model, optimizer, mode="local") as run:
        loop(run, model, optimizer, steps=60)
        (found,) = [i for i in run.incidents if i.severity != "info"]
    assert found.kind in ("dead", "disconnected") and found.opened_step <= 24
    assert found.origin.tensor.startswith("lora_")
