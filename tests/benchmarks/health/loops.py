"""Trainings with their own loop: games, policies, scalers, thawing, curricula, and faults that only such a loop can have."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .cases import Case
from .recorder import Recorder
from .workloads import Mlp, _table, digits


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
