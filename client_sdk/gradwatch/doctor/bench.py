"""A workbench: a setting trained twice, with and without watching, and plain arithmetic beside it.

What capture measures is compared with sums of squares in float64 over copies of the gradients that autograd wrote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from ..frames import Frame, PendingFrame
from ..protocol import Statistic
from ..protocol import Tensor as Declared
from ..shield import Shield
from ..torch_.capture import Capture
from ..torch_.catalog import clean_name

__all__ = ["STEPS", "TOLERANCE", "Bench", "Outcome", "Setting", "examine", "plain_norms"]

STEPS: Final = 6
TOLERANCE: Final = 1e-4
"""Largest relative error that passes. Norms travel as float32, which has 6e-8; clipping coefficients multiply a few."""

_TINY: Final = 1e-30


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row: what it is called, how it trains, and why it cannot run on a device ("" if it can)."""

    key: str
    title: str
    train: Callable[[Bench], None]
    lacks: Callable[[torch.device], str] = lambda device: ""
    compiled: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a setting went.

    ``error`` is the largest relative difference from the reference (Inf where one is missing or not finite alone);
    ``ours`` and ``reference`` are the norm of the whole gradient at the last step; ``us`` what watching a step cost.
    """

    error: float
    ours: float
    reference: float
    us: float
    identical: bool = True
    clean: bool = True
    added: int = 0
    """Graph breaks and compiled graphs more than without watching."""

    @property
    def trouble(self) -> str:
        """What is wrong, "" if nothing is."""
        found = []
        if not self.error <= TOLERANCE:
            found.append(f"norms differ by {self.error:.1e}")
        if not self.identical:
            found.append("losses or weights are not the same as without watching")
        if not self.clean:
            found.append("hooks are left behind")
        if self.added > 0:
            found.append(f"{self.added} graphs or breaks more when compiled")
        return "; ".join(found)


@dataclass
class Bench:
    """What a setting trains with. Each batch is one attempted optimizer step."""

    device: torch.device
    watched: bool
    steps: int = STEPS
    losses: list[float] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    expected: list[dict[str, float]] = field(default_factory=list)
    clipped: dict[int, float] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    pending: list[PendingFrame] = field(default_factory=list)
    schemas: list[tuple[tuple[Declared, ...], tuple[Statistic, ...]]] = field(default_factory=list)
    capture: Capture | None = None
    errors: list[str] = field(default_factory=list)

    def model(self, *sizes: int) -> nn.Sequential:
        """Linear layers with ReLU between, always the same."""
        torch.manual_seed(7)
        sizes = sizes or (6, 8, 5, 3)
        layers: list[nn.Module] = []
        for a, b in zip(sizes, sizes[1:], strict=False):
            layers += ([nn.ReLU()] if layers else []) + [nn.Linear(a, b)]
        return nn.Sequential(*layers).to(self.device)

    def watch(
        self,
        *models: nn.Module,
        optimizers: Sequence[Optimizer] | None = None,
        named: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """From here on, if this pass is the watched one."""
        if not self.watched:
            return
        self.capture = Capture(
            dict(named) if named else list(models),
            optimizers=optimizers,
            shield=Shield(self.errors.append),
            on_frame=self.pending.append,
            on_schema=lambda tensors, statistics: self.schemas.append((tensors, statistics)),
        )
        self.capture.attach()

    def batches(self) -> Iterator[Tensor]:
        """Inputs ``[16, 6]``."""
        random = torch.Generator().manual_seed(1)
        for _ in range(self.steps):
            self.expected.append({})
            yield torch.randn(16, 6, generator=random).to(self.device)

    def backward(self, out: Tensor, *, share: float = 1.0) -> None:
        """A loss of ``out``, noted, and its backward."""
        loss = out.float().pow(2).mean() * share
        loss.backward()  # type: ignore[no-untyped-call]
        self.saw(loss)

    def saw(self, loss: Tensor) -> None:
        """Notes a loss."""
        self.losses.append(float(loss.detach()))

    def expect(self, model: nn.Module, *, scale: float = 1.0, prefix: str = "") -> None:
        """The gradients are now what this step is to show; ``scale`` is the loss scale that is still in them."""
        for name, norm in plain_norms(model).items():
            self.expected[-1][prefix + name] = norm / scale

    def after_clip(self, *models: nn.Module, scale: float = 1.0) -> None:
        """Clipping has left this."""
        norms = [norm / scale for model in models for norm in plain_norms(model).values()]
        self.clipped[len(self.expected) - 1] = math.hypot(*norms)

    def done(self, *models: nn.Module) -> None:
        """Training is over."""
        self.weights = [p.detach().clone() for model in models for p in model.parameters()]
        if self.capture is not None:
            self.capture.detach()

    @property
    def frames(self) -> list[Frame]:
        """What was measured."""
        return [one.resolve() for one in self.pending]


def plain_norms(model: nn.Module) -> dict[str, float]:
    """L2 norm of each gradient, by float64 arithmetic on plain copies."""
    return {
        clean_name(name): float(p.grad.detach().to_dense().double().pow(2).sum().sqrt())
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def examine(setting: Setting, device: torch.device, steps: int = STEPS) -> Outcome:
    """Trains ``setting`` without and with watching, and compares."""
    plain, without = _run(setting, Bench(device, False, steps))
    before = _footprint()
    bench, counts = _run(setting, Bench(device, True, steps))
    clean = _footprint() == before
    cost = bench.capture.cost() if bench.capture is not None else {}
    errors = [*_errors(bench), *([math.inf] if bench.errors else [])]
    frames = bench.frames
    return Outcome(
        error=max(errors, default=math.inf),
        ours=_number(frames[-1], "global_grad_norm") if frames else math.nan,
        reference=math.hypot(*bench.expected[-1].values()),
        us=cost.get("us_per_step", math.nan),
        identical=_same(plain, bench),
        clean=clean,
        added=max(0, counts[0] - without[0]) + max(0, counts[1] - without[1]),
    )


def _run(setting: Setting, bench: Bench) -> tuple[Bench, tuple[int, int]]:
    if setting.compiled:
        _counters().clear()
        torch._dynamo.reset()
    torch.manual_seed(0)
    try:
        setting.train(bench)
    finally:
        if bench.capture is not None:
            bench.capture.detach()
    if not setting.compiled:
        return bench, (0, 0)
    counters = _counters()
    return bench, (sum(counters["graph_break"].values()), counters["stats"]["unique_graphs"])


def _counters() -> Any:
    import torch._dynamo.utils

    return torch._dynamo.utils.counters


def _footprint() -> tuple[Any, ...]:
    """What watching puts in place, and must take away."""
    clips = tuple(vars(nn.utils)[name] for name in sorted(vars(nn.utils)) if "clip" in name or "norm" in name)
    scaler = torch.amp.grad_scaler.GradScaler
    return (
        len(_global_optimizer_pre_hooks),
        len(_global_optimizer_post_hooks),
        clips,
        scaler.step,
        scaler.unscale_,
    )


def _same(one: Bench, other: Bench) -> bool:
    losses = np.array_equal(np.array(one.losses), np.array(other.losses), equal_nan=True)
    pairs = list(zip(one.weights, other.weights, strict=False))
    equal = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
    return losses and equal and len(one.weights) == len(other.weights) > 0


def _errors(bench: Bench) -> Iterator[float]:
    """The relative error of each number that there is a reference for."""
    frames = bench.frames
    if len(frames) != len(bench.expected):
        yield math.inf
        return
    for number, (frame, expected) in enumerate(zip(frames, bench.expected, strict=True)):
        names = [tensor.name for tensor in bench.schemas[frame.schema - 1][0]]
        row = frame.values.get("grad_norm", np.empty(0))
        there = frame.present.get("grad_norm", np.ones(len(row), np.bool_))
        found = {name: float(value) for name, value, ok in zip(names, row, there, strict=False) if ok}
        if found.keys() != expected.keys():
            yield math.inf
            continue
        yield from (_error(found[name], expected[name]) for name in expected)
        yield _error(_number(frame, "global_grad_norm"), math.hypot(*expected.values()))
        if number in bench.clipped:
            yield _error(_number(frame, "global_grad_norm_clipped"), bench.clipped[number])
        if (frame.values.get("skipped", np.zeros(1))[0] > 0) != (number in bench.skipped):
            yield math.inf


def _number(frame: Frame, name: str) -> float:
    return float(frame.values[name][0]) if name in frame.values else math.nan


def _error(found: float, expected: float) -> float:
    if not math.isfinite(expected) or not math.isfinite(found):
        same = math.isnan(found) == math.isnan(expected) and math.isinf(found) == math.isinf(expected)
        return 0.0 if same else math.inf
    return abs(found - expected) / max(abs(expected), _TINY)
