"""Faults that no rule was made for: other models, other data, other bugs than in :mod:`.zoo`. Written before any of them was
replayed; what is reported on them is reported on runs that nobody tuned on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from .cases import BLOW, Case, Fault
from .faults import (
    backward_nan,
    cut,
    dead_conv,
    forgotten,
    init_constant,
    input_scale,
    lr_from_start,
    lr_jump,
    root_of_zero,
    shuffled,
    weight_blow,
    weight_nan,
)
from .loops import gan_without_eps, half_precision, log_of_zero
from .unseen_bugs import bugs, healthy_loops
from .unseen_workloads import Plain, moons, workloads_unseen
from .workloads import Mlp, Shape, Workload, _table, adam, digits, sgd, wine

_WIDE = (*BLOW, "nonfinite", "dead", "oscillating")
_RATE = ("lr_too_high", "dead_relu_shock")
_NEW_DATA = ("data_changed", "outlier_batch", "unscaled_input")


@dataclass(frozen=True)
class _Maker:
    """Cases in the shape of a seed."""

    seed: int

    @property
    def onset(self) -> int:
        """The step at which faults begin that do not hold from the start."""
        return 260 + 53 * (self.seed % 4)

    @property
    def block(self) -> str:
        """The Transformer block that is hurt."""
        return f"blocks.{1 + self.seed % 2}"

    def __call__(
        self,
        name: str,
        work: str | Workload,
        fault: Fault,
        kinds: tuple[str, ...],
        causes: tuple[str, ...],
        **more: Any,
    ) -> Case:
        steps = more.pop("steps", fault.onset + 240 if fault.onset else 320)
        named = isinstance(work, str)
        return Case(
            name=f"unseen/{name}-{self.seed}",
            workload=workloads_unseen(self.seed)[work] if named else work,
            steps=steps,
            seed=self.seed,
            fault=fault,
            kinds=kinds,
            causes=causes,
            tune=False,
            twin=f"unseen/{work}" if named else "",
            **more,
        )


def _rates(case: _Maker) -> Iterator[Case]:
    n = case.onset
    for work, factor in (("vit", 50.0), ("rows", 60.0), ("convs", 60.0), ("wine", 300.0), ("friedman", 80.0)):
        yield case(f"lr_jump/{work}", work, lr_jump(n, factor), _WIDE, _RATE)
    for work, factor in (("vit_sgd", 60.0), ("convs", 100.0), ("chars", 300.0)):
        yield case(f"lr_start/{work}", work, lr_from_start(factor), _WIDE, _RATE)


def _data(case: _Maker) -> Iterator[Case]:
    n, works = case.onset, workloads_unseen(case.seed)
    for work in ("vit", "moons"):
        yield case(f"labels/{work}", shuffled(n)(works[work]), Fault(onset=n), BLOW, _NEW_DATA)
    unscaled = ("unscaled_input", "lr_too_high")
    yield case("inputs_x1000/friedman", "friedman", input_scale(0, 1000.0), (*_WIDE, "bad_init"), unscaled)
    yield case("inputs_x40/wine", "wine", input_scale(n, 40.0), (*BLOW, "dead"), _NEW_DATA)
    yield case("inputs_x30/convs", "convs", input_scale(n, 30.0), (*_WIDE, "spike"), _NEW_DATA)


def _numbers(case: _Maker) -> Iterator[Case]:
    n, nan, bug = case.onset, ("nonfinite",), ("numerical_bug",)
    for name, work, layer, fault in (
        ("nan_back", "vit", f"{case.block}.linear2", backward_nan(n, f"{case.block}.linear2")),
        ("nan_root", "convs_bn", "layers.3", root_of_zero(n, "layers.3")),
        ("nan_root", "wine", "layers.0", root_of_zero(n, "layers.0")),
    ):
        yield case(f"{name}/{work}", work, fault, nan, bug, layer=layer, where="tensor")
    for work, layer in (("rows", "rnn.weight_hh_l0"), ("convs_bn", "layers.2.weight")):
        fault, causes = weight_nan(n, layer), ("weights_damaged", *bug)
        yield case(f"nan_weight/{work}", work, fault, nan, causes, layer=layer, where="weights")


def _damage(case: _Maker) -> Iterator[Case]:
    kinds, causes = (*_WIDE, "spike"), ("weights_damaged",)
    first = f"{case.block}.linear1.weight"
    for work, layer, factor, more, why in (
        ("vit", first, 60.0, (), ()),
        ("rows", "rnn.weight_hh_l0", 20.0, ("vanishing", "saturated"), ("recurrence",)),
        ("convs", "layers.3.weight", 30.0, (), ()),
    ):
        fault = weight_blow(case.onset, layer, factor)
        name = f"blow_weight/{work}"
        yield case(name, work, fault, (*kinds, *more), (*causes, *why), layer=layer, where="weights")


def _starts(case: _Maker) -> Iterator[Case]:
    f, fades, flat = Shape(case.seed), ("vanishing", "saturated"), ("saturating_activation",)
    deep = f.depth(12)
    narrow, wide = f.width(24), f.width(32)
    on_moons = Workload(
        lambda: Mlp([2, *[narrow] * deep, 2], nn.Sigmoid, "torch"),
        adam(f.lr(1e-3)),
        _table(moons, f.batch(32)),
    )
    yield case("sigmoid/moons", on_moons, Fault(), fades, flat, steps=400)
    on_wine = Workload(
        lambda: Mlp([13, *[narrow] * 9, 3], nn.Sigmoid, "torch"), sgd(f.lr(0.1)), _table(wine, f.batch(16))
    )
    yield case("sigmoid/wine_sgd", on_wine, Fault(), fades, flat, steps=400)
    tanh = Workload(
        lambda: Mlp([64, *[wide] * 20, 10], nn.Tanh, "torch"), sgd(f.lr(0.01)), _table(digits, f.batch(32))
    )
    causes = ("init_too_small", *flat)
    yield case("tanh_torch_init/digits", tanh, Fault(), ("vanishing", "bad_init"), causes, steps=400)
    stream = Workload(lambda: Plain(wide, 16 + case.seed), sgd(f.lr(0.01)), _table(digits, f.batch(32)))
    grows = ("init_too_large", "no_normalisation")
    yield case("residual_unscaled", stream, Fault(), (*_WIDE, "bad_init"), grows, steps=300)
    kinds, causes = ("bad_init", "dead", "disconnected", "stalled"), ("init_too_small", "dead_from_start")
    yield case("zeros/wine", "wine", init_constant(0.0), kinds, causes, steps=300)


def _settings(case: _Maker) -> Iterator[Case]:
    for work, kinds in (("rows", BLOW), ("convs", _WIDE)):
        fault, causes = Fault(zero_grad=False), ("missing_zero_grad",)
        yield case(f"zero_grad/{work}", work, fault, ("accumulating", *kinds), causes, steps=300)
    for work, limit in (("vit_sgd", 2e-3), ("rows_rnn", 1e-3)):
        fault, causes = Fault(clip=limit), ("clip_limit",)
        yield case(f"clip_tiny/{work}", work, fault, ("clip_too_tight",), causes, steps=300)
    for work, factor in (("vit", 3e-6), ("rows_rnn", 1e-5)):
        fault = lr_from_start(factor)
        yield case(f"lr_tiny/{work}", work, fault, ("stalled",), ("lr_too_low",), steps=400)


def _parts(case: _Maker) -> Iterator[Case]:
    off = ("disconnected",)
    for work, prefix, layer in (("vit", "patch", "patch"), ("rows", "rnn.weight_hh", "rnn")):
        fault, causes = forgotten(prefix), ("not_in_optimizer",)
        yield case(f"forgotten/{work}", work, fault, off, causes, layer=layer, steps=300)
    for work, module, layer in (("convs_bn", "layers.1", "layers.0"), ("vit", "blocks.0", "patch")):
        yield case(f"cut/{work}", work, cut(module), off, ("detached",), layer=layer, steps=300)
    kinds = ("dead", "disconnected", "stalled")
    yield case("dead/convs", "convs", dead_conv(2), kinds, ("dead_from_start",), layer="layers.2", steps=300)


def _loops(case: _Maker) -> Iterator[Case]:
    onset, causes = Fault(onset=case.onset), ("numerical_bug", "bad_input")
    for name, make in (("policy", log_of_zero), ("gan", gan_without_eps)):
        yield case(f"log_zero/{name}", "wine", onset, ("nonfinite",), causes, make=make, where="loss")
    kinds, causes = ("nonfinite", "loss_scale"), ("half_range", "numerical_bug")
    yield case("half/mlp", "wine", onset, kinds, causes, make=half_precision)


def unseen_faulty(seed: int) -> Iterator[Case]:
    """The faulty runs, in the shape of a seed."""
    case = _Maker(seed)
    for family in (_rates, _data, _numbers, _damage, _starts, _settings, _parts, _loops):
        yield from family(case)
    yield from bugs(seed, case)


def unseen_healthy(seed: int, steps: int) -> Iterator[Case]:
    """The same workloads without a fault."""
    for name, work in workloads_unseen(seed).items():
        slow = name.startswith(("vit", "rows", "convs", "chars"))
        yield Case(
            name=f"unseen/healthy/{name}-{seed}",
            workload=work,
            steps=steps // 3 if slow else steps,
            seed=seed,
            tune=False,
        )
    yield from healthy_loops(seed, steps)
