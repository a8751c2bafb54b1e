"""The zoo: healthy and faulty trainings with their ground truth, recorded once to npz files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .recorder import Recorder
from .workloads import Mlp, Rnn, Shape, Workload, _chars, _table, adam, digits, sgd, text, workloads


@dataclass(kw_only=True)
class Fault:
    """What goes wrong. Each hook is optional; ``onset`` is the step from which it holds."""

    onset: int = 0
    build: Callable[[nn.Module], nn.Module | None] | None = None
    lr: Callable[[int], float] | None = None
    inputs: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    loss: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    weights: Callable[[int, nn.Module], None] | None = None
    grads: Callable[[int, nn.Module], None] | None = None
    zero_grad: bool = True
    clip: float | None = None
    params: Callable[[nn.Module], list[nn.Parameter]] | None = None
    saturation: bool = False


@dataclass(kw_only=True)
class Case:
    """One training with its truth. ``kinds`` empty: healthy. ``layer`` is the tensor or module prefix of the origin."""

    name: str
    workload: str | Workload
    steps: int
    seed: int = 0
    fault: Fault = field(default_factory=Fault)
    kinds: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    layer: str = ""
    where: str = ""
    tune: bool = True
    make: Callable[[Case], Recorder] | None = None
    tags: tuple[str, ...] = ()
    twin: str = ""
    """Name of the same workload without the fault, to measure harm against; "" for a workload without a name."""

    @property
    def onset(self) -> int:
        return self.fault.onset

    @property
    def healthy(self) -> bool:
        return not self.kinds


def train(case: Case) -> Recorder:
    """Runs a case on one thread, with every random number from its seed."""
    if case.make is not None:
        return case.make(case)
    work = workloads(case.seed)[case.workload] if isinstance(case.workload, str) else case.workload
    fault = case.fault
    torch.manual_seed(1000 + case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = work.model()
    if fault.build is not None:
        model = fault.build(model) or model
    if fault.params is not None:
        kept = fault.params(model)
        optimizer = work.optimizer(_Only(kept))
    else:
        optimizer = work.optimizer(model)
    base = [g["lr"] for g in optimizer.param_groups]
    clip = fault.clip if fault.clip is not None else work.clip
    rec = Recorder(model, [optimizer], clip)
    if fault.saturation:
        _watch_saturation(rec, model)
    for step in range(case.steps):
        factor = work.lr_at(step, case.steps) * (fault.lr(step) if fault.lr is not None else 1.0)
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor
        x, y = work.batch(gen, step)
        if fault.inputs is not None:
            x = fault.inputs(step, x)
        if fault.weights is not None:
            fault.weights(step, model)
        if fault.zero_grad:
            optimizer.zero_grad(set_to_none=True)
        loss = work.loss(model(x), y)
        if fault.loss is not None:
            loss = fault.loss(step, loss)
        loss.backward()
        if fault.grads is not None:
            fault.grads(step, model)
        rec.step(float(loss.detach()), bad_input=x.is_floating_point() and not bool(torch.isfinite(x).all()))
        if _broken(rec):
            break
    return rec


class _Only(nn.Module):
    """Just some parameters, for an optimizer that forgets the others."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__()
        self.kept = nn.ParameterList(params)


def _broken(rec: Recorder) -> bool:
    """Whether the last 30 losses were not finite: nothing new will come."""
    return len(rec.run["loss"]) > 30 and not any(math.isfinite(v) for v in rec.run["loss"][-30:])


def _watch_saturation(rec: Recorder, model: nn.Module) -> None:
    share: dict[str, float] = {}
    names = {}
    for n, name in enumerate(rec.names):
        names.setdefault(name.rpartition(".")[0], n)

    def hook(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def store(module: nn.Module, given: object, out: torch.Tensor) -> None:
            share[name] = float((torch.tanh(out.detach()).abs() > 0.98).float().mean())

        return store

    for name, module in model.named_modules():
        if (
            isinstance(module, nn.Linear)
            and "layers" in name
            and not name.endswith(str(len(model.layers) - 1))
        ):
            module.register_forward_hook(hook(name))

    def read() -> np.ndarray:
        row = np.full(len(rec.names), np.nan, np.float32)
        for name, value in share.items():
            row[names[name]] = value
        return row

    rec._saturated = read


# --- trainings with their own loop --------------------------------------------------------------------------------------


def gan(case: Case) -> Recorder:
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = nn.ModuleDict({"g": Mlp([16, 64, 64], nn.ReLU), "d": Mlp([64, 64, 1], nn.ReLU)})
    og, od = (
        torch.optim.Adam(model["g"].parameters(), 2e-4, (0.5, 0.999)),
        torch.optim.Adam(model["d"].parameters(), 2e-4, (0.5, 0.999)),
    )
    rec = Recorder(model, [og, od])
    x = digits()[0]
    one, zero = torch.ones(32, 1), torch.zeros(32, 1)
    for _ in range(case.steps):
        real = x[torch.randint(len(x), (32,), generator=gen)]
        fake = torch.sigmoid(model["g"](torch.randn(32, 16, generator=gen)))
        model.zero_grad()
        bce = F.binary_cross_entropy_with_logits
        ld = bce(model["d"](real), one) + bce(model["d"](fake.detach()), zero)
        ld.backward()
        for p in model["d"].parameters():
            p.requires_grad_(False)
        lg = bce(model["d"](fake), one)
        lg.backward()
        for p in model["d"].parameters():
            p.requires_grad_(True)
        rec.step(float(ld.detach() + lg.detach()))
    return rec


def policy_gradient(case: Case) -> Recorder:
    """REINFORCE on a contextual bandit over digits: noisy, the loss changes its sign."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = Mlp([64, 64, 10])
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    rec = Recorder(model, [opt], clip=1.0)
    x, y = digits()
    mean = 0.1
    for _ in range(case.steps):
        pick = torch.randint(len(x), (16,), generator=gen)
        logp = model(x[pick]).log_softmax(-1)
        act = torch.multinomial(logp.exp().detach(), 1, generator=gen)[:, 0]
        reward = (act == y[pick]).float()
        loss = (
            -((reward - mean) * logp[torch.arange(16), act]).mean()
            + 0.01 * (logp * logp.exp()).sum(-1).mean()
        )
        mean = 0.99 * mean + 0.01 * float(reward.mean())
        opt.zero_grad()
        loss.backward()
        rec.step(float(loss.detach()))
    return rec


def scaled(case: Case) -> Recorder:
    """A loss scaler as in float16: it grows, now and then overflows, and skips. From the onset on it storms."""
    rec = None
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model, opt = Mlp([64, 64, 10]), None
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    rec = Recorder(model, [opt])
    scale, clean = 2.0**16, 0
    batch = _table(digits, 32)
    for step in range(case.steps):
        x, y = batch(gen, step)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        storm = not case.healthy and step >= case.onset
        largest = max(float(p.grad.abs().max()) for p in model.parameters()) * scale
        overflow = largest > 65504 or storm
        if overflow:
            model.layers[0].weight.grad[0, 0] = math.inf
        rec.step(float(loss.detach()), skip=overflow, scale=scale)
        clean = 0 if overflow else clean + 1
        scale = scale / 2 if overflow else scale
        if clean == 200:
            scale, clean = scale * 2, 0
    return rec


def thaw(case: Case) -> Recorder:
    """Head first, then the whole model: requires_grad goes on at the middle."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = Mlp([64, 64, 64, 10])
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    for p in model.layers[:2].parameters():
        p.requires_grad_(False)
    rec = Recorder(model, [opt])
    batch = _table(digits, 32)
    for step in range(case.steps):
        if step == case.steps // 2:
            for p in model.parameters():
                p.requires_grad_(True)
        x, y = batch(gen, step)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        rec.step(float(loss.detach()))
    return rec


def curriculum(case: Case) -> Recorder:
    """Two classes, then all ten: the loss jumps, and falls again."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    x, y = digits()
    easy = (y < 3).nonzero()[:, 0]
    model = Mlp([64, 64, 64, 10])
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    rec = Recorder(model, [opt])
    for step in range(case.steps):
        pool = easy if step < case.steps // 2 else torch.arange(len(y))
        pick = pool[torch.randint(len(pool), (32,), generator=gen)]
        opt.zero_grad()
        loss = F.cross_entropy(model(x[pick]), y[pick])
        loss.backward()
        rec.step(float(loss.detach()))
    return rec


# --- faults ---------------------------------------------------------------------------------------------------------------


def lr_jump(onset: int, factor: float) -> Fault:
    return Fault(onset=onset, lr=lambda s: factor if s >= onset else 1.0)


def lr_ramp(onset: int, rate: float) -> Fault:
    return Fault(onset=onset, lr=lambda s: min(rate ** max(s - onset, 0), 1e4))


def lr_from_start(factor: float) -> Fault:
    return Fault(lr=lambda s: factor)


def input_scale(onset: int, factor: float) -> Fault:
    return Fault(onset=onset, inputs=lambda s, x: x * factor if s >= onset else x)


def input_nan(onset: int) -> Fault:
    def bad(step: int, x: torch.Tensor) -> torch.Tensor:
        if step >= onset:
            x = x.clone()
            x.view(-1)[3] = math.nan
        return x

    return Fault(onset=onset, inputs=bad)


def loss_scale_up(onset: int, factor: float, steps: int = 1) -> Fault:
    return Fault(onset=onset, loss=lambda s, v: v * factor if onset <= s < onset + steps else v)


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


BLOW = ("exploding", "diverging")


def faulty(seed: int, tune: bool) -> Iterator[Case]:
    """Faulty runs; other seeds also shift onsets and sizes, so that nothing can be learnt by heart."""
    n = 300 + 37 * seed
    tail = n + 260
    # Units that die in a jump of the weights are the same fault seen later; the first remedy is the same.
    cut = ("lr_too_high", "dead_relu_shock")

    def case(
        name: str,
        work: str | Workload,
        fault: Fault,
        kinds: tuple[str, ...],
        causes: tuple[str, ...],
        steps: int = 0,
        **more: object,
    ) -> Case:
        return Case(
            name=f"{name}-{seed}",
            workload=work,
            steps=steps or tail,
            seed=seed,
            fault=fault,
            kinds=kinds,
            causes=causes,
            tune=tune,
            **more,
        )

    for work in ("mlp_sgd", "mlp_adam", "gpt_const", "cnn_bn", "lstm", "deep_ln"):
        yield case(f"lr_x30/{work}", work, lr_jump(n, 30.0), (*BLOW, "nonfinite", "dead"), cut)
    for work in ("mlp_sgd", "res_ln_cosine", "gpt_const"):
        yield case(f"lr_x100/{work}", work, lr_jump(n, 100.0), (*BLOW, "nonfinite", "dead"), cut)
    for work in ("mlp_adam", "gpt_const", "tanh_rmsprop"):
        yield case(
            f"lr_ramp/{work}",
            work,
            lr_ramp(n, 1.02),
            (*BLOW, "oscillating", "nonfinite", "dead"),
            cut,
            steps=n + 400,
            tags=("ramp",),
        )
    for work in ("mlp_sgd", "cnn_plain_cyclic"):
        yield case(
            f"lr_start_x300/{work}",
            work,
            lr_from_start(300.0),
            (*BLOW, "nonfinite", "dead", "oscillating"),
            cut,
            steps=300,
        )
    for work in ("mlp_sgd", "mlp_adam", "batch_four"):
        yield case(
            f"input_x50/{work}",
            work,
            input_scale(n, 50.0),
            (*BLOW, "dead"),
            ("data_changed", "outlier_batch"),
        )
    for work in ("mlp_adam", "cnn_bn", "autoencoder"):
        yield case(f"input_nan/{work}", work, input_nan(n), ("nonfinite",), ("bad_input",), where="input")
    yield case(
        "loss_x100/mlp_sgd",
        "mlp_sgd",
        loss_scale_up(n, 300.0),
        ("spike", *BLOW, "dead"),
        ("outlier_batch", "data_changed"),
    )
    yield case(
        "loss_x100/cancer",
        "cancer",
        loss_scale_up(n, 300.0),
        ("spike", *BLOW, "dead"),
        ("outlier_batch", "data_changed"),
    )
    for work, name in (
        ("mlp_sgd", f"layers.{(1 + seed) % 3}.weight"),
        ("deep_ln", f"layers.{6 - seed}.weight"),
        ("gpt_const", "blocks.1.linear1.weight"),
    ):
        yield case(
            f"weight_nan/{work}",
            work,
            weight_nan(n, name),
            ("nonfinite",),
            ("weights_damaged", "numerical_bug"),
            layer=name,
            where="weights",
        )
    for work, name in (
        ("deep_ln", f"layers.{7 + seed}"),
        ("mlp_adam", "layers.1"),
        ("gpt_const", f"blocks.{(1 + seed) % 3}.linear1"),
        ("deep_he", f"layers.{4 + 2 * seed}"),
    ):
        yield case(
            f"backward_nan/{work}",
            work,
            backward_nan(n, name),
            ("nonfinite",),
            ("numerical_bug",),
            layer=name,
            where="tensor",
        )
    for work, name in (
        ("deep_ln", "layers.5.weight"),
        ("mlp_adam", "layers.1.weight"),
        ("gpt_const", "blocks.1.linear2.weight"),
    ):
        yield case(
            f"weight_blow/{work}",
            work,
            weight_blow(n, name, 100.0),
            (*BLOW, "spike"),
            ("weights_damaged",),
            layer=name,
            where="weights",
        )
    for work in ("mlp_sgd", "deep_he", "mlp_momentum_decay"):
        yield case(
            f"init_x8/{work}",
            work,
            init_times(8.0),
            ("bad_init", *BLOW, "nonfinite"),
            ("init_too_large",),
            steps=300,
        )
    yield case(
        "init_const/mlp_adam", "mlp_adam", init_constant(0.01), ("bad_init",), ("init_too_small",), steps=300
    )
    yield case(
        "init_small/deep_he",
        "deep_he",
        init_times(0.05),
        ("bad_init", "vanishing"),
        ("init_too_small",),
        steps=400,
    )
    yield case(
        "init_small/mlp_sgd",
        "mlp_sgd",
        init_times(0.005),
        ("bad_init", "vanishing", "stalled"),
        ("init_too_small", "lr_too_low"),
        steps=400,
    )
    yield case(
        "sigmoid_deep",
        _sigmoid(seed, 10 + seed),
        Fault(),
        ("vanishing",),
        ("saturating_activation",),
        steps=400,
    )
    yield case(
        "sigmoid_deep2",
        _sigmoid(seed, 14 + seed),
        Fault(),
        ("vanishing",),
        ("saturating_activation",),
        steps=400,
    )
    yield case(
        "relu_default_deep",
        _relu_default(seed, 14 + seed),
        Fault(),
        ("vanishing",),
        ("init_too_small",),
        steps=400,
    )
    yield case(
        "dead_bias/mlp_adam",
        "mlp_adam",
        dead_bias(-30.0, 1),
        ("dead",),
        ("dead_from_start",),
        layer="layers.1",
        steps=300,
    )
    yield case(
        "dead_late/mlp_sgd",
        "mlp_sgd",
        dead_bias(-100.0, 1, n),
        ("dead",),
        ("dead_relu_shock",),
        layer="layers.1",
    )
    yield case(
        "dead_late/deep_he",
        "deep_he",
        dead_bias(-100.0, 5, n),
        ("dead",),
        ("dead_relu_shock",),
        layer="layers.5",
    )
    yield case(
        "detached/deep_ln",
        "deep_ln",
        detached(4),
        ("disconnected",),
        ("detached",),
        layer="layers.0",
        steps=300,
    )
    yield case(
        "detached/mlp_adam",
        "mlp_adam",
        detached(0),
        ("disconnected",),
        ("detached",),
        layer="layers.0",
        steps=300,
    )
    yield case(
        "forgotten/mlp_adam",
        "mlp_adam",
        forgotten("layers.1"),
        ("disconnected",),
        ("not_in_optimizer",),
        layer="layers.1",
        steps=300,
    )
    yield case(
        "forgotten/gpt",
        "gpt",
        forgotten("head"),
        ("disconnected",),
        ("not_in_optimizer",),
        layer="head",
        steps=300,
    )
    for work in ("mlp_sgd", "cnn_plain_cyclic", "cancer"):
        yield case(
            f"no_zero_grad/{work}",
            work,
            Fault(zero_grad=False),
            ("accumulating", *BLOW),
            ("missing_zero_grad",),
            steps=300,
        )
    for work in ("mlp_sgd", "cnn_bn"):
        yield case(
            f"clip_tiny/{work}", work, Fault(clip=1e-3), ("clip_too_tight",), ("clip_limit",), steps=300
        )
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
        _rnn_long(seed),
        Fault(),
        (*BLOW, "nonfinite", "oscillating"),
        ("recurrence", "lr_too_high"),
        steps=400,
    )


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


def harm_begins(case: Case, loss: np.ndarray) -> int:
    """The step from which delays count: the onset, or, for a ramp, the first step at which it does harm."""
    if "ramp" not in case.tags:
        return case.onset
    before = float(np.median(loss[max(case.onset - 50, 0) : case.onset]))
    limit = max(1.5 * before, before + 0.05 * float(np.median(loss[:20])))
    for step in range(case.onset, len(loss) - 10):
        if not float(np.median(loss[step : step + 10])) < limit:
            return step
    return case.onset


def record(case: Case, folder: Path) -> Path:
    """The npz file of a case, made if it is not there."""
    path = folder / (case.name.replace("/", "__") + f"__{case.steps}.npz")
    if not path.exists():
        rec = train(case)
        extra = {"tensors": rec.tensors, "optimizers": [_hyper(o) for o in rec.optimizers]}
        spare = path.with_suffix(".part.npz")
        np.savez_compressed(spare, meta=np.frombuffer(json.dumps(extra).encode(), np.uint8), **rec.arrays())
        spare.rename(path)
    return path


def _hyper(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    group = {
        k: v
        for k, v in optimizer.param_groups[0].items()
        if k != "params" and isinstance(v, (int, float, tuple))
    }
    return {"class": type(optimizer).__name__, **group}


def harmful(case: Case, loss: np.ndarray, folder: Path) -> bool:
    """Whether the fault is really there (science notes, 1.5): the loss is clearly worse for it, or not finite.

    Faults that begin later are measured against the run's own past, those from the start against the healthy run.
    Disconnected and dead parts, and storms of skips, are faults whatever the loss says.
    """
    if case.healthy:
        return False
    if case.kinds[0] in ("disconnected", "loss_scale", "saturated") or case.kinds == ("dead",):
        return True
    if not np.isfinite(loss[case.onset :]).all():
        return True
    scale = float(np.median(loss[:20]))
    if case.onset == 0:
        name = case.workload if isinstance(case.workload, str) else case.twin
        if case.kinds[0] == "vanishing" or not name:
            return float(np.median(loss[-50:])) > 0.6 * scale
        twin = Case(name=f"twin/{name}-{case.seed}", workload=case.workload, steps=case.steps, seed=case.seed)
        with np.load(record(twin, folder)) as stored:
            well = stored["run/loss"]
        return float(np.median(loss[-50:])) > float(np.median(well[-50:])) + 0.1 * float(np.median(well[:20]))
    before = float(np.median(loss[max(case.onset - 50, 0) : case.onset]))
    worst = max(
        float(np.median(loss[a : a + 100]))
        for a in range(case.onset + 5, max(len(loss) - 99, case.onset + 6), 20)
    )
    return worst > max(2 * before, before + 0.05 * scale)


__all__ = ["Case", "Fault", "faulty", "harm_begins", "harmful", "healthy", "record", "train"]
