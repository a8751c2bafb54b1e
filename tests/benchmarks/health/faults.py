"""What can go wrong in a training: each function gives a fault that holds from its onset on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from .cases import Fault
from .workloads import Workload

FOREVER = 10**9
"""More steps than any run has."""


def lr_jump(onset: int, factor: float) -> Fault:
    return Fault(onset=onset, lr=lambda s: factor if s >= onset else 1.0)


def lr_ramp(onset: int, rate: float) -> Fault:
    return Fault(onset=onset, lr=lambda s: min(rate ** max(s - onset, 0), 1e4))


def lr_from_start(factor: float) -> Fault:
    return Fault(lr=lambda s: factor)


def lr_blip(onset: int, factor: float, steps: int) -> Fault:
    return Fault(onset=onset, lr=lambda s: factor if onset <= s < onset + steps else 1.0)


def input_scale(onset: int, factor: float, steps: int = FOREVER) -> Fault:
    return Fault(onset=onset, inputs=lambda s, x: x * factor if onset <= s < onset + steps else x)


def input_nan(onset: int) -> Fault:
    def bad(step: int, x: torch.Tensor) -> torch.Tensor:
        if step >= onset:
            x = x.clone()
            x.view(-1)[3] = math.nan
        return x

    return Fault(onset=onset, inputs=bad)


def loss_scale_up(onset: int, factor: float, steps: int = 1, every: int = FOREVER) -> Fault:
    """The loss of ``steps`` steps, and of as many again ``every`` so many, is ``factor`` times too large."""
    return Fault(
        onset=onset, loss=lambda s, v: v * factor if s >= onset and (s - onset) % every < steps else v
    )


def weight_nan(onset: int, name: str) -> Fault:
    def bad(step: int, model: nn.Module) -> None:
        if step == onset:
            with torch.no_grad():
                model.get_parameter(name).view(-1)[0] = math.nan

    return Fault(onset=onset, weights=bad)


def weight_blow(onset: int, name: str, factor: float) -> Fault:
    def bad(step: int, model: nn.Module) -> None:
        if step == onset:
            with torch.no_grad():
                model.get_parameter(name).mul_(factor)

    return Fault(onset=onset, weights=bad)


def backward_nan(onset: int, module: str) -> Fault:
    """NaN arises in the backward pass of one module: its parameters and everything below it."""
    now = {"step": -1}

    def build(model: nn.Module) -> None:
        def hook(mod: nn.Module, given: object, out: torch.Tensor) -> torch.Tensor:
            if out.requires_grad:
                out.register_hook(lambda g: g * math.nan if now["step"] >= onset else g)
            return out

        model.get_submodule(module).register_forward_hook(hook)

    def tell(step: int, model: nn.Module) -> None:
        now["step"] = step

    return Fault(onset=onset, build=build, weights=tell)


def init_times(factor: float, only: str = "") -> Fault:
    def build(model: nn.Module) -> None:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.ndim >= 2 and only in name and "tok" not in name and "pos" not in name:
                    p.mul_(factor)

    return Fault(build=build)


def init_constant(value: float) -> Fault:
    def build(model: nn.Module) -> None:
        with torch.no_grad():
            for p in model.parameters():
                if p.ndim >= 2:
                    p.fill_(value)

    return Fault(build=build)


def dead_bias(value: float, layer: int, onset: int = 0) -> Fault:
    def kill(step: int, model: nn.Module) -> None:
        if step == onset:
            with torch.no_grad():
                model.layers[layer].bias.fill_(value)

    return Fault(onset=onset, weights=kill)


def detached(at: int) -> Fault:
    """The forward pass detaches after one layer: everything below gets no gradient."""

    def build(model: nn.Module) -> None:
        model.layers[at].register_forward_hook(lambda m, i, out: out.detach())

    return Fault(build=build)


def forgotten(prefix: str) -> Fault:
    return Fault(params=lambda m: [p for n, p in m.named_parameters() if not n.startswith(prefix)])


def saturate(onset: int, factor: float) -> Fault:
    def bad(step: int, model: nn.Module) -> None:
        if step == onset:
            with torch.no_grad():
                for layer in model.layers[:-1]:
                    layer.weight.mul_(factor)

    return Fault(onset=onset, weights=bad, saturation=True)


def storm(onset: int) -> Fault:
    return Fault(onset=onset)


def shuffled(onset: int, steps: int = FOREVER) -> Callable[[Workload], Workload]:
    """The labels lose their samples for some steps, or from the onset on: a loader whose two streams run apart."""

    def change(work: Workload) -> Workload:
        def batch(gen: torch.Generator, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = work.batch(gen, step)
            return x, y[torch.randperm(len(y), generator=gen)] if onset <= step < onset + steps else y

        return Workload(work.model, work.optimizer, batch, work.loss, work.lr_at, work.clip)

    return change


def root_of_zero(onset: int, module: str) -> Fault:
    """A distance whose square root meets zero: finite forward, NaN backward."""
    now = {"step": -1}

    def build(model: nn.Module) -> None:
        def hook(mod: nn.Module, given: object, out: torch.Tensor) -> torch.Tensor:
            gap = out - out.detach() if now["step"] >= onset else torch.ones_like(out)
            return out + 0.0 * torch.sqrt((gap * gap).sum(-1, keepdim=True))

        model.get_submodule(module).register_forward_hook(hook)

    def tell(step: int, model: nn.Module) -> None:
        now["step"] = step

    return Fault(onset=onset, build=build, weights=tell)


def cut(module: str) -> Fault:
    """A detach() after one module."""

    def build(model: nn.Module) -> None:
        model.get_submodule(module).register_forward_hook(lambda m, given, out: out.detach())

    return Fault(build=build)


def dead_conv(layer: int) -> Fault:
    def build(model: nn.Module) -> None:
        with torch.no_grad():
            model.layers[layer].bias.fill_(-100.0)

    return Fault(build=build)
