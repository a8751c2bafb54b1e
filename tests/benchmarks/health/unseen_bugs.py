"""Ordinary bugs and ordinary trainings, as a sceptical user would try them: part of the set :mod:`.unseen`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from .cases import BLOW, Case, Fault
from .faults import lr_from_start
from .recorder import Recorder
from .unseen_workloads import workloads_unseen
from .workloads import Mlp, Shape, Workload, _table, digits, sgd

__all__ = ["bugs", "healthy_loops"]


def bugs(seed: int, make: Callable[..., Case]) -> Iterator[Case]:
    """Faults from the first step; ``make`` is the maker of :mod:`.unseen`."""
    f, works = Shape(seed), workloads_unseen(seed)
    wiped = (*BLOW, "nonfinite", "dead", "oscillating")
    yield make("lr_start/vit", "vit", lr_from_start(300.0), wiped, ("lr_too_high", "dead_relu_shock"))
    for work in ("wine", "convs"):
        # A scheduler that counts epochs, stepped once per batch.
        ran_out = Fault(lr=lambda step: 0.1 ** (step // 10))
        yield make(f"lr_ran_out/{work}", work, ran_out, ("stalled",), ("lr_decayed",), steps=300)
        foreign = Fault(params=lambda model, w=work: list(works[w].model().parameters()))
        off = ("disconnected",)
        yield make(f"foreign_optimizer/{work}", work, foreign, off, ("not_in_optimizer",), steps=300)
    yield make(
        "sign/wine",
        "wine",
        Fault(loss=lambda step, loss: -loss, lr=lambda step: 5.0),
        ("exploding",),
        ("no_floor",),
        steps=400,
        tags=("counts",),
    )
    width = f.width(48)
    decayed = Workload(
        lambda: Mlp([64, width, width, 10]),
        sgd(f.lr(0.05), 0.0, 1.0 / f.lr(1.0)),
        _table(digits, f.batch(32)),
    )
    kinds = ("stalled", "vanishing", "dead")
    yield make("weight_decay/digits", decayed, Fault(), kinds, ("weight_decay",), steps=400)


def critic(case: Case) -> Recorder:
    """A critic with a gradient penalty: the difference of its outputs leaves its last bias out."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    f, x = Shape(case.seed), digits()[0]
    model = Mlp([64, f.width(48), 1])
    rec = Recorder(model, [torch.optim.Adam(model.parameters(), f.lr(1e-3), (0.0, 0.9))])
    for _ in range(case.steps):
        real = x[torch.randint(len(x), (32,), generator=gen)]
        fake = torch.rand(32, 64, generator=gen)
        mix = torch.rand(32, 1, generator=gen)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(model(between).sum(), between, create_graph=True)
        model.zero_grad()
        loss = model(fake).mean() - model(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
        loss.backward()
        rec.step(float(loss.detach()))
    return rec


def divergence_later(case: Case) -> Recorder:
    """A variational autoencoder whose second term comes in at a third of the run: the loss jumps, and all is well."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    f, data = Shape(case.seed), digits()[0]
    width = f.width(48)
    model = nn.ModuleDict({"enc": Mlp([64, width, 16]), "dec": Mlp([8, width, 64])})
    rec = Recorder(model, [torch.optim.Adam(model.parameters(), f.lr(1e-3))])
    for step in range(case.steps):
        x = data[torch.randint(len(data), (f.batch(32),), generator=gen)]
        mean, log = model["enc"](x).chunk(2, 1)
        code = mean + torch.randn(mean.shape, generator=gen) * (log / 2).exp()
        loss = ((model["dec"](code) - x) ** 2).sum(1).mean()
        if 3 * step > case.steps:
            loss = loss - 0.5 * (1 + log - mean**2 - log.exp()).sum(1).mean()
        model.zero_grad()
        loss.backward()
        rec.step(float(loss.detach()))
    return rec


def margins(case: Case) -> Recorder:
    """Triplets that are soon far enough apart: loss and gradients are exactly zero in most batches."""
    torch.manual_seed(case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    f, data = Shape(case.seed), digits()[0]
    model = Mlp([64, f.width(48), 16])
    rec = Recorder(model, [torch.optim.Adam(model.parameters(), f.lr(1e-3))])
    for _ in range(case.steps):
        x = data[torch.randint(len(data), (8,), generator=gen)]
        near = model(x + 0.05 * torch.randn(x.shape, generator=gen))
        own = model(x)
        model.zero_grad()
        loss = F.triplet_margin_loss(own, near, own.roll(1, 0), margin=0.5)
        loss.backward()
        rec.step(float(loss.detach()))
    return rec


def healthy_loops(seed: int, steps: int) -> Iterator[Case]:
    """Healthy trainings with a loop of their own."""
    for name, loop in (("critic", critic), ("divergence_later", divergence_later), ("margins", margins)):
        yield Case(
            name=f"unseen/healthy/{name}-{seed}", workload="", steps=steps, seed=seed, tune=False, make=loop
        )
