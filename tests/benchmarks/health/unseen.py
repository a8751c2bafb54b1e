"""Faults that no rule was made for: other models, other data, other bugs than in :mod:`.zoo`. Written before any of them was
replayed; what is reported on them is reported on runs that nobody tuned on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from sklearn.datasets import make_friedman1, make_moons
from torch import nn

from .herd_models import Attention
from .recorder import Recorder
from .workloads import Mlp, Shape, Workload, _table, adam, cancer, cosine, digits, sgd, text, wine
from .zoo import (
    BLOW,
    Case,
    Fault,
    backward_nan,
    init_constant,
    input_scale,
    lr_from_start,
    lr_jump,
    weight_blow,
    weight_nan,
)


def moons() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = make_moons(1000, noise=0.15, random_state=0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def friedman() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = make_friedman1(1000, noise=0.5, random_state=0)
    return torch.tensor(x - 0.5, dtype=torch.float32), torch.tensor(y[:, None] / 5.0, dtype=torch.float32)


class Vit(nn.Module):
    """A small vision Transformer over the 16 patches of a digit."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Linear(4, width)
        self.pos = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        x = self.patch(x) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Rows(nn.Module):
    """A recurrent net that reads a digit row by row."""

    def __init__(self, width: int, kind: str = "lstm") -> None:
        super().__init__()
        self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](8, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x.view(-1, 8, 8))[0][:, -1])


class Convs(nn.Module):
    """Five convolutions, with or without batch norm."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        sizes = [1, width, width, 2 * width, 2 * width, 2 * width]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, stride=2 if n == 2 else 1)
            for n, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for b in sizes[1:])
        self.head = nn.Linear(2 * width, 10)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 1, 8, 8)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.head(x.mean((2, 3)))


class Plain(nn.Module):
    """Residual blocks without norm and without scaling: the stream grows with depth."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for block in self.blocks:
            nn.init.normal_(block.weight, 0.0, 2.0 / math.sqrt(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + F.relu(block(x))
        return self.head(x)


def shuffled(onset: int) -> Callable[[Workload], Workload]:
    """The labels lose their samples at the onset: a loader whose two streams run apart."""

    def change(work: Workload) -> Workload:
        def batch(gen: torch.Generator, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = work.batch(gen, step)
            return x, y[torch.randperm(len(y), generator=gen)] if step >= onset else y

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


def forgotten(prefix: str) -> Fault:
    return Fault(params=lambda m: [p for n, p in m.named_parameters() if not n.startswith(prefix)])


def dead_conv(layer: int) -> Fault:
    def build(model: nn.Module) -> None:
        with torch.no_grad():
            model.layers[layer].bias.fill_(-100.0)

    return Fault(build=build)


def log_of_zero(case: Case) -> Recorder:
    """A policy gradient that takes the logarithm of a probability that becomes zero."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = Mlp([64, 48, 10])
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    rec = Recorder(model, [opt])
    x, y = digits()
    for step in range(case.steps):
        pick = torch.randint(len(x), (24,), generator=gen)
        p = model(x[pick]).softmax(-1)
        if step >= case.onset:
            p = torch.where(p < 0.5, torch.zeros_like(p), p)
        act = torch.multinomial(p.detach() + 1e-3, 1, generator=gen)[:, 0]
        reward = (act == y[pick]).float() - 0.2
        loss = -(reward * torch.log(p[torch.arange(24), act])).mean()
        opt.zero_grad()
        loss.backward()
        rec.step(float(loss.detach()))
        if step > case.onset + 40:
            break
    return rec


def gan_without_eps(case: Case) -> Recorder:
    """A GAN whose loss is log(1 - D) by hand: a discriminator that is sure gives log 0."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = nn.ModuleDict({"g": Mlp([16, 48, 64]), "d": Mlp([64, 48, 1])})
    og = torch.optim.Adam(model["g"].parameters(), 2e-4, (0.5, 0.999))
    od = torch.optim.Adam(model["d"].parameters(), 2e-4, (0.5, 0.999))
    rec = Recorder(model, [og, od])
    x = digits()[0]
    for step in range(case.steps):
        real = x[torch.randint(len(x), (32,), generator=gen)]
        fake = torch.sigmoid(model["g"](torch.randn(32, 16, generator=gen)))
        sure = 200.0 if step >= case.onset else 1.0
        model.zero_grad()
        d_real, d_fake = model["d"](real), model["d"](fake)
        loss = (
            -torch.log(torch.sigmoid(sure * d_real)).mean()
            - torch.log(1 - torch.sigmoid(sure * d_fake)).mean()
        )
        loss.backward()
        rec.step(float(loss.detach()))
        if step > case.onset + 40:
            break
    return rec


def half_precision(case: Case) -> Recorder:
    """Real float16 arithmetic in the last layer with a scaler; from the onset on its logits overflow."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = Mlp([64, 40, 40, 10])
    opt = torch.optim.AdamW(model.parameters(), 1e-3)
    rec = Recorder(model, [opt])
    scale, clean = 2.0**14, 0
    batch = _table(digits, 24)
    for step in range(case.steps):
        x, y = batch(gen, step)
        opt.zero_grad()
        out = model(x)
        if step >= case.onset:
            out = (out * 3e4).half().float() / 3e4
        loss = F.cross_entropy(out, y)
        loss.backward()
        big = max(float(p.grad.abs().max()) for p in model.parameters()) * scale
        overflow = not math.isfinite(big) or big > 65504
        rec.step(float(loss.detach()), skip=overflow, scale=scale)
        clean = 0 if overflow else clean + 1
        scale = scale / 2 if overflow else scale * 2 if clean % 200 == 199 else scale
    return rec


def workloads_unseen(seed: int) -> dict[str, Workload]:
    f = Shape(seed)
    w, b, lr, d = f.width, f.batch, f.lr, f.depth
    vocab = int(text(seed).max()) + 1
    pick = _table(digits, b(32))

    def language(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(out.flatten(0, 1), y)

    def chars(gen: torch.Generator, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = text(seed + 1)
        at = torch.randint(len(data) - 17, (6,), generator=gen)
        found = data[at[:, None] + torch.arange(17)].clamp(max=vocab - 1)
        return found[:, :-1], found[:, 1:].flatten()

    return {
        "vit": Workload(lambda: Vit(w(32), d(2)), adam(lr(1e-3), 0.01), pick),
        "vit_sgd": Workload(lambda: Vit(w(32), d(2)), sgd(lr(0.05), 0.9), pick),
        "rows": Workload(lambda: Rows(w(32)), adam(lr(3e-3)), pick),
        "rows_rnn": Workload(lambda: Rows(w(32), "rnn"), sgd(lr(0.05)), pick),
        "convs": Workload(lambda: Convs(w(16), False), sgd(lr(0.02), 0.9), pick),
        "convs_bn": Workload(lambda: Convs(w(16), True), adam(lr(1e-3)), pick),
        "moons": Workload(lambda: Mlp([2, w(32), w(32), 2]), adam(lr(3e-3)), _table(moons, b(32))),
        "friedman": Workload(
            lambda: Mlp([10, w(32), w(32), 1]), sgd(lr(0.01), 0.9), _table(friedman, b(32)), loss=F.mse_loss
        ),
        "wine": Workload(lambda: Mlp([13, w(24), w(24), 3], nn.GELU), adam(lr(1e-3)), _table(wine, b(16))),
        "cancer": Workload(
            lambda: Mlp([30, w(24), 2], nn.Tanh, "xavier"), sgd(lr(0.1)), _table(cancer, b(24))
        ),
        "chars": Workload(
            lambda: Attention(vocab, w(24), d(2)), adam(lr(2e-3)), chars, loss=language, lr_at=cosine
        ),
    }


def unseen_faulty(seed: int) -> Iterator[Case]:
    """The faulty runs, in the shape of a seed."""
    n = 260 + 53 * (seed % 4)
    works = workloads_unseen(seed)
    f = Shape(seed)
    deep = f.depth(12)

    def case(
        name: str,
        work: str | Workload,
        fault: Fault,
        kinds: tuple[str, ...],
        causes: tuple[str, ...],
        **more: object,
    ) -> Case:
        steps = more.pop("steps", fault.onset + 240 if fault.onset else 320)
        given = works[work] if isinstance(work, str) else work
        twin = f"unseen/{work}" if isinstance(work, str) else ""
        return Case(
            name=f"unseen/{name}-{seed}",
            workload=given,
            steps=steps,
            seed=seed,
            fault=fault,
            kinds=kinds,
            causes=causes,
            tune=False,
            twin=twin,
            **more,
        )

    blow = (*BLOW, "nonfinite", "dead", "oscillating")
    rate = ("lr_too_high", "dead_relu_shock")
    data = ("data_changed", "outlier_batch", "unscaled_input")
    for work, factor in (("vit", 50.0), ("rows", 60.0), ("convs", 60.0), ("wine", 300.0), ("friedman", 80.0)):
        yield case(f"lr_jump/{work}", work, lr_jump(n, factor), blow, rate)
    for work, factor in (("vit_sgd", 60.0), ("convs", 100.0), ("chars", 300.0)):
        yield case(f"lr_start/{work}", work, lr_from_start(factor), blow, rate)
    for work in ("vit", "moons"):
        yield case(f"labels/{work}", shuffled(n)(works[work]), Fault(onset=n), BLOW, data)
    yield case(
        "inputs_x1000/friedman",
        "friedman",
        input_scale(0, 1000.0),
        (*blow, "bad_init"),
        ("unscaled_input", "lr_too_high"),
    )
    yield case("inputs_x40/wine", "wine", input_scale(n, 40.0), (*BLOW, "dead"), data)
    yield case("inputs_x30/convs", "convs", input_scale(n, 30.0), (*blow, "spike"), data)
    block = f"blocks.{1 + seed % 2}"
    yield case(
        "nan_back/vit",
        "vit",
        backward_nan(n, f"{block}.linear2"),
        ("nonfinite",),
        ("numerical_bug",),
        layer=f"{block}.linear2",
        where="tensor",
    )
    yield case(
        "nan_root/convs_bn",
        "convs_bn",
        root_of_zero(n, "layers.3"),
        ("nonfinite",),
        ("numerical_bug",),
        layer="layers.3",
        where="tensor",
    )
    yield case(
        "nan_root/wine",
        "wine",
        root_of_zero(n, "layers.0"),
        ("nonfinite",),
        ("numerical_bug",),
        layer="layers.0",
        where="tensor",
    )
    yield case(
        "nan_weight/rows",
        "rows",
        weight_nan(n, "rnn.weight_hh_l0"),
        ("nonfinite",),
        ("weights_damaged", "numerical_bug"),
        layer="rnn.weight_hh_l0",
        where="weights",
    )
    yield case(
        "nan_weight/convs_bn",
        "convs_bn",
        weight_nan(n, "layers.2.weight"),
        ("nonfinite",),
        ("weights_damaged", "numerical_bug"),
        layer="layers.2.weight",
        where="weights",
    )
    yield case(
        "blow_weight/vit",
        "vit",
        weight_blow(n, f"{block}.linear1.weight", 60.0),
        (*blow, "spike"),
        ("weights_damaged",),
        layer=f"{block}.linear1.weight",
        where="weights",
    )
    yield case(
        "blow_weight/rows",
        "rows",
        weight_blow(n, "rnn.weight_hh_l0", 20.0),
        (*blow, "spike", "vanishing", "saturated"),
        ("weights_damaged", "recurrence"),
        layer="rnn.weight_hh_l0",
        where="weights",
    )
    yield case(
        "blow_weight/convs",
        "convs",
        weight_blow(n, "layers.3.weight", 30.0),
        (*blow, "spike"),
        ("weights_damaged",),
        layer="layers.3.weight",
        where="weights",
    )
    yield case(
        "sigmoid/moons",
        Workload(
            lambda: Mlp([2, *[f.width(24)] * deep, 2], nn.Sigmoid, "torch"),
            adam(f.lr(1e-3)),
            _table(moons, f.batch(32)),
        ),
        Fault(),
        ("vanishing", "saturated"),
        ("saturating_activation",),
        steps=400,
    )
    yield case(
        "sigmoid/wine_sgd",
        Workload(
            lambda: Mlp([13, *[f.width(24)] * 9, 3], nn.Sigmoid, "torch"),
            sgd(f.lr(0.1)),
            _table(wine, f.batch(16)),
        ),
        Fault(),
        ("vanishing", "saturated"),
        ("saturating_activation",),
        steps=400,
    )
    yield case(
        "tanh_torch_init/digits",
        Workload(
            lambda: Mlp([64, *[f.width(32)] * 20, 10], nn.Tanh, "torch"),
            sgd(f.lr(0.01)),
            _table(digits, f.batch(32)),
        ),
        Fault(),
        ("vanishing", "bad_init"),
        ("init_too_small", "saturating_activation"),
        steps=400,
    )
    yield case(
        "residual_unscaled",
        Workload(lambda: Plain(f.width(32), 16 + seed), sgd(f.lr(0.01)), _table(digits, f.batch(32))),
        Fault(),
        (*blow, "bad_init"),
        ("init_too_large", "no_normalisation"),
        steps=300,
    )
    yield case(
        "zeros/wine",
        "wine",
        init_constant(0.0),
        ("bad_init", "dead", "disconnected", "stalled"),
        ("init_too_small", "dead_from_start"),
        steps=300,
    )
    yield case(
        "zero_grad/rows",
        "rows",
        Fault(zero_grad=False),
        ("accumulating", *BLOW),
        ("missing_zero_grad",),
        steps=300,
    )
    yield case(
        "zero_grad/convs",
        "convs",
        Fault(zero_grad=False),
        ("accumulating", *blow),
        ("missing_zero_grad",),
        steps=300,
    )
    yield case(
        "clip_tiny/vit_sgd", "vit_sgd", Fault(clip=2e-3), ("clip_too_tight",), ("clip_limit",), steps=300
    )
    yield case(
        "clip_tiny/rows_rnn", "rows_rnn", Fault(clip=1e-3), ("clip_too_tight",), ("clip_limit",), steps=300
    )
    yield case("lr_tiny/vit", "vit", lr_from_start(3e-6), ("stalled",), ("lr_too_low",), steps=400)
    yield case("lr_tiny/rows_rnn", "rows_rnn", lr_from_start(1e-5), ("stalled",), ("lr_too_low",), steps=400)
    yield case(
        "forgotten/vit",
        "vit",
        forgotten("patch"),
        ("disconnected",),
        ("not_in_optimizer",),
        layer="patch",
        steps=300,
    )
    yield case(
        "forgotten/rows",
        "rows",
        forgotten("rnn.weight_hh"),
        ("disconnected",),
        ("not_in_optimizer",),
        layer="rnn",
        steps=300,
    )
    yield case(
        "cut/convs_bn",
        "convs_bn",
        cut("layers.1"),
        ("disconnected",),
        ("detached",),
        layer="layers.0",
        steps=300,
    )
    yield case("cut/vit", "vit", cut("blocks.0"), ("disconnected",), ("detached",), layer="patch", steps=300)
    yield case(
        "dead/convs",
        "convs",
        dead_conv(2),
        ("dead", "disconnected", "stalled"),
        ("dead_from_start",),
        layer="layers.2",
        steps=300,
    )
    onset = Fault(onset=n)
    yield case(
        "log_zero/policy",
        "wine",
        onset,
        ("nonfinite",),
        ("numerical_bug", "bad_input"),
        make=log_of_zero,
        where="loss",
    )
    yield case(
        "log_zero/gan",
        "wine",
        onset,
        ("nonfinite",),
        ("numerical_bug", "bad_input"),
        make=gan_without_eps,
        where="loss",
    )
    yield case(
        "half/mlp",
        "wine",
        onset,
        ("nonfinite", "loss_scale"),
        ("half_range", "numerical_bug"),
        make=half_precision,
    )


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
