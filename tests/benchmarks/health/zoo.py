"""The zoo: healthy and faulty trainings with their ground truth, recorded once to npz files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from .cases import BLOW, Case, Fault
from .faults import (
    backward_nan,
    dead_bias,
    detached,
    forgotten,
    init_constant,
    init_times,
    input_nan,
    input_scale,
    loss_scale_up,
    lr_blip,
    lr_from_start,
    lr_jump,
    lr_ramp,
    saturate,
    shuffled,
    storm,
    weight_blow,
    weight_nan,
)
from .loops import curriculum, gan, policy_gradient, scaled, thaw
from .workloads import Mlp, Rnn, Shape, Workload, _chars, _table, adam, digits, sgd, text, workloads

# Units that die in a jump of the weights are the same fault seen later; the first remedy is the same.
CUT = ("lr_too_high", "dead_relu_shock")
NEW_DATA = ("data_changed", "outlier_batch")


@dataclass(frozen=True)
class Maker:
    """Cases of one seed. Other seeds also shift onsets and sizes, so that nothing can be learnt by heart."""

    seed: int
    tune: bool

    @property
    def onset(self) -> int:
        """The step at which faults begin that do not hold from the start."""
        return 300 + 37 * self.seed

    def __call__(
        self,
        name: str,
        work: str | Workload,
        fault: Fault,
        kinds: tuple[str, ...],
        causes: tuple[str, ...],
        **more: Any,
    ) -> Case:
        return Case(
            name=f"{name}-{self.seed}",
            workload=work,
            steps=more.pop("steps", self.onset + 260),
            seed=self.seed,
            fault=fault,
            kinds=kinds,
            causes=causes,
            tune=self.tune,
            **more,
        )


def _sigmoid(seed: int, depth: int) -> Workload:
    f = Shape(seed)
    sizes = [64] + [f.width(32)] * depth + [10]
    return Workload(lambda: Mlp(sizes, nn.Sigmoid, "torch"), adam(f.lr(1e-3)), _table(digits, f.batch(32)))


def _relu_default(seed: int, depth: int) -> Workload:
    f = Shape(seed)
    sizes = [64] + [f.width(32)] * depth + [10]
    return Workload(lambda: Mlp(sizes, nn.ReLU, "torch"), sgd(f.lr(0.01)), _table(digits, f.batch(32)))


def _rnn_long(seed: int) -> Workload:
    f = Shape(seed)
    vocab = int(text(seed).max()) + 1
    return Workload(lambda: Rnn(vocab, f.width(32), "rnn"), sgd(2.0, 0.9), _chars(f.batch(8), 64, seed))


def _rates(case: Maker) -> Iterator[Case]:
    """Learning rates that jump, climb, or are too high from the start."""
    n, jump = case.onset, (*BLOW, "nonfinite", "dead")
    for work in ("mlp_sgd", "mlp_adam", "gpt_const", "cnn_bn", "lstm", "deep_ln"):
        yield case(f"lr_x30/{work}", work, lr_jump(n, 30.0), jump, CUT)
    for work in ("mlp_sgd", "res_ln_cosine", "gpt_const"):
        yield case(f"lr_x100/{work}", work, lr_jump(n, 100.0), jump, CUT)
    wave = (*BLOW, "oscillating", "nonfinite", "dead")
    for work in ("mlp_adam", "gpt_const", "tanh_rmsprop"):
        yield case(f"lr_ramp/{work}", work, lr_ramp(n, 1.02), wave, CUT, steps=n + 400, tags=("ramp",))
    for work in ("mlp_sgd", "cnn_plain_cyclic"):
        yield case(
            f"lr_start_x300/{work}", work, lr_from_start(300.0), (*jump, "oscillating"), CUT, steps=300
        )


def _data(case: Maker) -> Iterator[Case]:
    """Inputs of another size, inputs with NaN, one batch whose loss is far too large."""
    n, dies = case.onset, (*BLOW, "dead")
    for work in ("mlp_sgd", "mlp_adam", "batch_four"):
        yield case(f"input_x50/{work}", work, input_scale(n, 50.0), dies, NEW_DATA)
    for work in ("mlp_adam", "cnn_bn", "autoencoder"):
        yield case(f"input_nan/{work}", work, input_nan(n), ("nonfinite",), ("bad_input",), where="input")
    for work in ("mlp_sgd", "cancer"):
        causes = ("outlier_batch", "data_changed")
        yield case(f"loss_x100/{work}", work, loss_scale_up(n, 300.0), ("spike", *dies), causes)


def _damage(case: Maker) -> Iterator[Case]:
    """One weight that becomes NaN or 100 times as large; one module whose backward pass gives NaN."""
    n, seed, deep = case.onset, case.seed, Shape(case.seed).depth(11)
    for work, name in (
        ("mlp_sgd", f"layers.{(1 + seed) % 3}.weight"),
        ("deep_ln", f"layers.{(6 - seed) % deep}.weight"),
        ("gpt_const", "blocks.1.linear1.weight"),
    ):
        causes = ("weights_damaged", "numerical_bug")
        yield case(
            f"weight_nan/{work}",
            work,
            weight_nan(n, name),
            ("nonfinite",),
            causes,
            layer=name,
            where="weights",
        )
    for work, name in (
        ("deep_ln", f"layers.{(7 + seed) % deep}"),
        ("mlp_adam", "layers.1"),
        ("gpt_const", f"blocks.{(1 + seed) % 3}.linear1"),
        ("deep_he", f"layers.{(4 + 2 * seed) % deep}"),
    ):
        fault, causes = backward_nan(n, name), ("numerical_bug",)
        yield case(f"backward_nan/{work}", work, fault, ("nonfinite",), causes, layer=name, where="tensor")
    for work, name in (
        ("deep_ln", "layers.5.weight"),
        ("mlp_adam", "layers.1.weight"),
        ("gpt_const", "blocks.1.linear2.weight"),
    ):
        fault, causes = weight_blow(n, name, 100.0), ("weights_damaged",)
        yield case(f"weight_blow/{work}", work, fault, (*BLOW, "spike"), causes, layer=name, where="weights")


def _starts(case: Maker) -> Iterator[Case]:
    """Initial weights too large, too small or constant; activations and depths that let nothing through."""
    seed, large, small = case.seed, ("bad_init", *BLOW, "nonfinite"), ("init_too_small",)
    for work in ("mlp_sgd", "deep_he", "mlp_momentum_decay"):
        yield case(f"init_x8/{work}", work, init_times(8.0), large, ("init_too_large",), steps=300)
    yield case("init_const/mlp_adam", "mlp_adam", init_constant(0.01), ("bad_init",), small, steps=300)
    yield case("init_small/deep_he", "deep_he", init_times(0.05), ("bad_init", "vanishing"), small, steps=400)
    yield case(
        "init_small/mlp_sgd",
        "mlp_sgd",
        init_times(0.005),
        ("bad_init", "vanishing", "stalled"),
        (*small, "lr_too_low"),
        steps=400,
    )
    for name, depth in (("sigmoid_deep", 10), ("sigmoid_deep2", 14)):
        work = _sigmoid(seed, depth + seed)
        yield case(name, work, Fault(), ("vanishing",), ("saturating_activation",), steps=400)
    yield case("relu_default_deep", _relu_default(seed, 14 + seed), Fault(), ("vanishing",), small, steps=400)


def _parts(case: Maker) -> Iterator[Case]:
    """Parts that do not learn: dead units, a detached branch, parameters that the optimizer does not know."""
    n, dead, cut = case.onset, ("dead",), ("disconnected",)
    born, late = ("dead_from_start",), ("dead_relu_shock",)
    one, five = "layers.1", "layers.5"
    yield case("dead_bias/mlp_adam", "mlp_adam", dead_bias(-30.0, 1), dead, born, layer=one, steps=300)
    yield case("dead_late/mlp_sgd", "mlp_sgd", dead_bias(-100.0, 1, n), dead, late, layer=one)
    yield case("dead_late/deep_he", "deep_he", dead_bias(-100.0, 5, n), dead, late, layer=five)
    for work, at in (("deep_ln", 4), ("mlp_adam", 0)):
        fault = detached(at)
        yield case(f"detached/{work}", work, fault, cut, ("detached",), layer="layers.0", steps=300)
    for work, name in (("mlp_adam", one), ("gpt", "head")):
        causes = ("not_in_optimizer",)
        yield case(f"forgotten/{work}", work, forgotten(name), cut, causes, layer=name, steps=300)


def _settings(case: Maker) -> Iterator[Case]:
    """A loop or settings that cannot work, tanh units that saturate, a loss scaler that storms, a long recurrence."""
    n, forgot = case.onset, ("missing_zero_grad",)
    for work in ("mlp_sgd", "cnn_plain_cyclic", "cancer"):
        fault = Fault(zero_grad=False)
        yield case(f"no_zero_grad/{work}", work, fault, ("accumulating", *BLOW), forgot, steps=300)
    for work in ("mlp_sgd", "cnn_bn"):
        fault = Fault(clip=1e-3)
        yield case(f"clip_tiny/{work}", work, fault, ("clip_too_tight",), ("clip_limit",), steps=300)
    for work in ("mlp_sgd", "mlp_adam"):
        yield case(f"lr_tiny/{work}", work, lr_from_start(1e-5), ("stalled",), ("lr_too_low",), steps=400)
    yield case(
        "saturate/tanh",
        "tanh_rmsprop",
        saturate(n, 40.0),
        ("saturated", *BLOW, "vanishing"),
        ("saturating_activation", "weights_damaged"),
    )
    yield case("storm", "mlp_adam", storm(n), ("loss_scale",), ("half_range",), make=scaled)
    yield case(
        "rnn_explodes",
        _rnn_long(case.seed),
        Fault(),
        (*BLOW, "nonfinite", "oscillating"),
        ("recurrence", "lr_too_high"),
        steps=400,
    )


def spikes(seed: int, tune: bool) -> Iterator[Case]:
    """Single steps that throw a run back, and bad batches that come again: they hurt only where the optimizer lets them."""
    case = Maker(seed, tune)
    n, kinds = case.onset, ("spike", *BLOW, "dead", "nonfinite", "stalled")
    for work in ("mlp_sgd", "mlp_momentum_decay", "cnn_bn", "mlp_adam", "cancer"):
        fault = input_scale(n, 100.0, 1)
        yield case(f"spike_batch/{work}", work, fault, kinds, (*NEW_DATA, "lr_too_high", "dead_relu_shock"))
    for work in ("mlp_sgd", "mlp_adam", "deep_ln", "lstm"):
        fault = loss_scale_up(n, 1000.0, every=25)
        yield case(f"spike_again/{work}", work, fault, kinds, (*NEW_DATA, "lr_too_high", "dead_relu_shock"))
    for name in ("mlp_sgd", "cnn_plain_cyclic", "mlp_momentum_decay"):
        work = shuffled(n, 4)(workloads(seed)[name])
        fault = input_scale(n, 30.0, 4)
        yield case(f"spike_labels/{name}", work, fault, kinds, (*NEW_DATA, *CUT), twin=name)
    for work in ("mlp_sgd", "mlp_adam", "res_ln_cosine", "gpt_const", "cnn_bn"):
        yield case(f"spike_lr/{work}", work, lr_blip(n, 300.0, 2), kinds, (*CUT, *NEW_DATA))


def faulty(seed: int, tune: bool) -> Iterator[Case]:
    """Faulty runs; other seeds also shift onsets and sizes, so that nothing can be learnt by heart."""
    case = Maker(seed, tune)
    for family in (_rates, _data, _damage, _starts, _parts, _settings):
        yield from family(case)


def healthy(seed: int, tune: bool, steps: int) -> Iterator[Case]:
    """Healthy runs, most of them awkward ones."""
    for name in workloads(seed):
        heavy = name.startswith(("gpt", "lstm", "gru"))
        yield Case(
            name=f"healthy/{name}-{seed}",
            workload=name,
            steps=steps // 3 if heavy else steps,
            seed=seed,
            tune=tune,
        )
    for name, make in (
        ("gan", gan),
        ("policy_gradient", policy_gradient),
        ("scaled", scaled),
        ("thaw", thaw),
        ("curriculum", curriculum),
    ):
        yield Case(
            name=f"healthy/{name}-{seed}", workload="mlp_adam", steps=steps, seed=seed, tune=tune, make=make
        )
