"""Herds: many replicas of one small training, trained at once (vmap), so that a million healthy steps cost minutes.

Each replica has its own initial weights and its own batches; stacking changes nothing but the speed. A herd's seed also
changes widths, batches, rates and text, as in :class:`.workloads.Shape`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .herd_models import Attention, BnCnn, Cell, Vae
from .workloads import (
    Lora,
    Mlp,
    Moe,
    Res,
    Shape,
    cancer,
    cosine,
    cyclic,
    decays,
    diabetes,
    digits,
    restarts,
    text,
    wine,
)

Params = Mapping[str, torch.Tensor]
Net = Callable[[Params, torch.Tensor], torch.Tensor]
Data = Callable[[torch.Generator, int, int], tuple[torch.Tensor, ...]]
"""(generator, step, replicas) -> tensors with one row per replica."""
Objective = Callable[..., torch.Tensor]
"""(net, params, target params, *one replica's data) -> loss."""


@dataclass(frozen=True, kw_only=True)
class Herd:
    """One workload. ``scale`` multiplies the steps: cheap ones run longer."""

    model: Callable[[], nn.Module]
    data: Data
    objective: Objective
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    lr_at: Callable[[int, int], float] = lambda step, steps: 1.0
    clip: float | None = None
    target_every: int = 0
    groups: tuple[str, ...] = ()
    """Name prefixes, one per optimizer, when there are several (a game)."""
    thaw: tuple[str, float] = ("", 0.0)
    """Parameters below this prefix train only after this share of the run."""
    phases: tuple[float, ...] = ()
    """Shares of the run at which the script says ``run.phase``."""
    profile: str = "default"
    scale: float = 1.0


def supervised(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Objective:
    def objective(net: Net, params: Params, target: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss(net(params, x), y)

    return objective


classify = supervised(F.cross_entropy)


def table(source: Callable[[], tuple[torch.Tensor, torch.Tensor]], size: int, noise: float = 0.0) -> Data:
    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, y = source()
        pick = torch.randint(len(x), (k, size), generator=gen)
        labels = y[pick]
        if noise:
            flip = torch.rand(labels.shape, generator=gen) < noise
            labels = torch.where(flip, torch.randint(10, labels.shape, generator=gen), labels)
        return x[pick], labels

    return data


def whole(source: Callable[[], tuple[torch.Tensor, torch.Tensor]], size: int) -> Data:
    """The same samples at each step: full-batch training."""

    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, y = source()
        return x[None, :size].expand(k, -1, -1), y[None, :size].expand(k, *([-1] * y.ndim))

    return data


def chars(size: int, context: int, seed: int) -> Data:
    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        codes = text(seed)
        at = torch.randint(len(codes) - context - 1, (k, size), generator=gen)
        pick = at[..., None] + torch.arange(context + 1)
        return codes[pick[..., :-1]], codes[pick[..., 1:]]

    return data


def curriculum(size: int, steps_of_phase: int) -> Data:
    """Two classes more at each phase."""

    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, y = digits()
        pool = (y < min(2 + 4 * (step // steps_of_phase), 10)).nonzero()[:, 0]
        pick = pool[torch.randint(len(pool), (k, size), generator=gen)]
        return x[pick], y[pick]

    return data


def noise_and_digits(size: int, width: int) -> Data:
    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, _ = digits()
        pick = torch.randint(len(x), (k, size), generator=gen)
        return x[pick], torch.randn(k, size, width, generator=gen)

    return data


def actions(size: int) -> Data:
    """Digits, their labels, and the noise that draws an action."""

    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, y = digits()
        pick = torch.randint(len(x), (k, size), generator=gen)
        return (
            x[pick],
            y[pick],
            -torch.log(-torch.log(torch.rand(k, size, 10, generator=gen).clamp_min(1e-9))),
        )

    return data


def pairs(size: int) -> Data:
    """Two noisy views of the same digits."""

    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, _ = digits()
        pick = torch.randint(len(x), (k, size), generator=gen)
        return (
            x[pick] + 0.3 * torch.randn(k, size, 64, generator=gen),
            x[pick] + 0.3 * torch.randn(k, size, 64, generator=gen),
        )

    return data


def walks(size: int) -> Data:
    """A state, the state after it, and a reward: the digit."""

    def data(gen: torch.Generator, step: int, k: int) -> tuple[torch.Tensor, ...]:
        x, y = digits()
        pick = torch.randint(len(x), (k, size, 2), generator=gen)
        return x[pick[..., 0]], x[pick[..., 1]], y[pick[..., 0]].float() / 10

    return data


def language(net: Net, params: Params, target: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(net(params, x).flatten(0, 1), y.flatten())


def reconstruct(net: Net, params: Params, target: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(net(params, x), x)


def _only(params: Params, prefix: str) -> Params:
    """The parameters, of which only those below ``prefix`` get a gradient."""
    return {n: p if n.startswith(prefix) else p.detach() for n, p in params.items()}


def game(net: Net, params: Params, target: Params, real: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """A GAN, both players at once."""
    bce = F.binary_cross_entropy_with_logits
    d, g = _only(params, "d."), _only(params, "g.")
    fake = torch.sigmoid(net(g, z))
    one, zero = torch.ones(len(real), 1), torch.zeros(len(real), 1)
    lost = bce(net(d, real), one) + bce(net(d, fake.detach()), zero)
    return lost + bce(net(g, fake), one)


class Players(nn.Module):
    """Generator and discriminator in one module; which one runs, the width of the input says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g, self.d = Mlp([16, width, 64], nn.ReLU), Mlp([64, width, 1], nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.g(x) if x.shape[-1] == 16 else self.d(x)


def reinforce(
    net: Net, params: Params, target: Params, x: torch.Tensor, y: torch.Tensor, gumbel: torch.Tensor
) -> torch.Tensor:
    logp = net(params, x).log_softmax(-1)
    act = (logp.detach() + gumbel).argmax(-1)
    reward = (act == y).float()
    chosen = logp.gather(-1, act[:, None])[:, 0]
    return -((reward - reward.mean()) * chosen).mean() + 0.01 * (logp * logp.exp()).sum(-1).mean()


def contrast(net: Net, params: Params, target: Params, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    ea, eb = F.normalize(net(params, a), dim=-1), F.normalize(net(params, b), dim=-1)
    return F.cross_entropy(ea @ eb.T / 0.2, torch.arange(len(a)))


def temporal(
    net: Net, params: Params, target: Params, now: torch.Tensor, after: torch.Tensor, reward: torch.Tensor
) -> torch.Tensor:
    """TD(0) with a target network that is renewed now and then."""
    with torch.no_grad():
        aim = reward + 0.9 * net(target, after)[:, 0]
    return F.smooth_l1_loss(net(params, now)[:, 0], aim.detach())


def distil(net: Net, params: Params, target: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Predicts what a slower copy of itself sees in a shifted view (self-distillation)."""
    with torch.no_grad():
        aim = F.normalize(net(target, x.roll(1, -1)), dim=-1)
    return 2.0 - 2.0 * (F.normalize(net(params, x), dim=-1) * aim.detach()).sum(-1).mean()


def elbo(net: Net, params: Params, target: Params, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    out = net(params, torch.cat([x, z], -1))
    image, mean, logvar = out[:, :64], out[:, 64:72], out[:, 72:]
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1).mean()
    return F.binary_cross_entropy_with_logits(image, x, reduction="none").sum(-1).mean() + kl


def sgd(
    lr: float, momentum: float = 0.0, wd: float = 0.0
) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    return lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum, weight_decay=wd)


def adam(
    lr: float, wd: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    return lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=wd, betas=betas)


def _tables(f: Shape, steps: int) -> dict[str, Herd]:
    w, b, lr = f.width, f.batch, f.lr
    net = [64, w(32), w(32), 10]
    pick = table(digits, b(24))
    half = table(digits, b(24), 0.4)

    def plain(optimizer: Any, data: Data = pick, sizes: list[int] | None = None, **more: Any) -> Herd:
        act, init, drop = more.pop("act", nn.ReLU), more.pop("init", "he"), more.pop("drop", 0.0)
        norm, shape = more.pop("norm", False), sizes or net
        objective = more.pop("objective", classify)
        return Herd(
            model=lambda: Mlp(shape, act, init, norm, drop),
            data=data,
            objective=objective,
            optimizer=optimizer,
            **more,
        )

    deep = [64, *[w(24)] * f.depth(10), 10]
    auto = [64, w(32), 8, w(32), 64]
    return {
        "mlp_sgd": plain(sgd(lr(0.05)), scale=2),
        "mlp_adam": plain(adam(lr(1e-3)), scale=2),
        "mlp_momentum_decay": plain(sgd(lr(0.05), 0.9, 1e-4), lr_at=decays),
        "mlp_cyclic": plain(sgd(lr(0.05), 0.9), lr_at=cyclic),
        "mlp_restarts": plain(adam(lr(2e-3)), lr_at=restarts),
        "wine_momentum": plain(sgd(lr(0.1), 0.9), table(wine, b(16)), [13, w(16), 3], scale=3),
        "cancer_adam": plain(adam(lr(1e-3)), table(cancer, b(16)), [30, w(16), 2], scale=3),
        "wine_full_batch": plain(adam(lr(1e-3)), whole(wine, 178), [13, w(16), 3], scale=2),
        "regression": plain(
            adam(lr(1e-3)),
            table(diabetes, b(32)),
            [10, w(16), w(16), 1],
            objective=supervised(F.mse_loss),
            scale=2,
        ),
        "huber_sgd": plain(
            sgd(lr(0.02), 0.9),
            table(diabetes, b(32)),
            [10, w(16), 1],
            objective=supervised(F.smooth_l1_loss),
            scale=2,
        ),
        "autoencoder": plain(adam(lr(1e-3)), pick, auto, act=nn.Tanh, init="xavier", objective=reconstruct),
        "tanh_rmsprop": plain(lambda p: torch.optim.RMSprop(p, lr(1e-3)), act=nn.Tanh, init="xavier"),
        "adagrad": plain(lambda p: torch.optim.Adagrad(p, lr(0.02))),
        "batch_one": plain(sgd(lr(0.01)), table(digits, 1)),
        "batch_four": plain(sgd(lr(0.02)), table(digits, b(4))),
        "label_noise": plain(adam(lr(1e-3)), half),
        "dropout": plain(adam(lr(1e-3)), drop=0.5),
        "deep_he": plain(adam(lr(5e-4)), sizes=deep, scale=0.5),
        "deep_ln": plain(adam(lr(1e-3)), sizes=deep, norm=True, scale=0.5),
        "clipped": plain(sgd(lr(0.1), 0.9), clip=1.0),
        "thaw": plain(adam(lr(1e-3)), thaw=("layers.0", 0.5)),
        "curriculum": plain(adam(lr(1e-3)), curriculum(b(24), max(steps // 3, 1)), phases=(1 / 3, 2 / 3)),
        "unmarked_curriculum": plain(adam(lr(1e-3)), curriculum(b(24), max(steps // 3, 1))),
        "td": plain(adam(lr(1e-3)), walks(b(32)), [64, w(32), 1], objective=temporal, target_every=100),
        "distil": plain(adam(lr(1e-3), 1e-4), pick, [64, w(32), 16], objective=distil, target_every=20),
        "contrast": plain(adam(lr(1e-3)), pairs(b(32)), [64, w(32), 16], objective=contrast),
        "reinforce": plain(adam(lr(1e-3)), actions(b(16)), objective=reinforce, clip=1.0),
    }


def herds(seed: int, steps: int) -> dict[str, Herd]:
    """All workloads in the shape of a seed; ``steps`` is the length of a run of scale 1."""
    f = Shape(seed)
    w, b, lr = f.width, f.batch, f.lr
    vocab = int(text(seed).max()) + 1
    pick = table(digits, b(16))
    found = _tables(f, steps)
    more = {
        "res_ln_cosine": (lambda: Res(w(24), f.depth(2)), pick, classify, adam(lr(2e-3), 0.05), cosine, None),
        "cnn_bn": (lambda: BnCnn(w(8)), pick, classify, sgd(lr(0.05), 0.9, 5e-4), None, None),
        "cnn_plain": (lambda: BnCnn(w(8), norm=False), pick, classify, adam(lr(1e-3)), None, None),
        "moe": (Moe, pick, classify, adam(lr(1e-3)), None, None),
        "lora": (Lora, pick, classify, adam(lr(1e-3)), None, None),
        "gpt": (lambda: Attention(vocab, w(16)), chars(4, 16, seed), language, adam(lr(2e-3), 0.01), cosine, 1.0),
        "rnn": (lambda: Cell(vocab, w(24), "rnn"), chars(4, 16, seed), language, adam(lr(2e-3)), None, 1.0),
        "gru": (lambda: Cell(vocab, w(24), "gru"), chars(4, 12, seed), language, adam(lr(2e-3)), restarts, None),
        "vae": (lambda: Vae(w(32)), noise_and_digits(b(16), 8), elbo, adam(lr(1e-3)), None, None),
    }  # fmt: skip
    for name, (model, data, objective, optimizer, lr_at, clip) in more.items():
        slow = name in ("gpt", "rnn", "gru", "cnn_bn", "cnn_plain", "moe")
        found[name] = Herd(
            model=model,
            data=data,
            objective=objective,
            optimizer=optimizer,
            clip=clip,
            scale=0.4 if slow else 1.0,
            **({"lr_at": lr_at} if lr_at is not None else {}),
        )
    found["gan"] = Herd(
        model=lambda: Players(w(32)),
        data=noise_and_digits(b(16), 16),
        objective=game,
        optimizer=lambda p: torch.optim.Adam(p, 2e-4, (0.5, 0.999)),
        groups=("g.", "d."),
    )
    return found


def length(herd: Herd, steps: int) -> int:
    """Steps of each replica."""
    return math.ceil(herd.scale * steps)
