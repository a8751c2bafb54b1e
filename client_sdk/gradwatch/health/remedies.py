"""The table of remedies: each makes its sentence, value and code line from the facts of the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from .facts import Facts
from .incidents import Remedy

__all__ = ["REMEDIES", "prescribe"]

Make: TypeAlias = Callable[[Facts], "Remedy | None"]


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 1000 else f"{value:.0f}"


def _layers(facts: Facts) -> str:
    names = facts.modules or ((facts.origin.module,) if facts.origin.module else ())
    return f"`{names[0]}`" if len(names) == 1 else f"`{names[0]}` to `{names[-1]}`" if names else "the layers"


_ENOUGH: Final = 20
"""Calm steps without which nobody knows what norm is usual."""


def _clip_norm(facts: Facts) -> Remedy | None:
    if facts.norms_known < _ENOUGH:
        text = "Clip the global norm at 1, which many recipes do: this run had no calm steps yet to measure a limit by."
        code = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
        return Remedy(key="clip_norm", text=text, value=1.0, code=code)
    limit = 1.5 * facts.norm_p95
    if not (math.isfinite(limit) and limit > 0):
        return None
    text = f"Clip the global norm at {_short(limit)}: 1.5 times the 95th percentile of the norms before this."
    code = f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={_short(limit)})"
    return Remedy(key="clip_norm", text=text, value=float(_short(limit)), code=code)


def _clip_value(facts: Facts) -> Remedy | None:
    limit = 10.0 * facts.maxabs
    if not (math.isfinite(limit) and limit > 0):
        return None
    text = f"If you clip by value, clip at {_short(limit)}: ten times the usual largest entry."
    code = f"torch.nn.utils.clip_grad_value_(model.parameters(), clip_value={_short(limit)})"
    return Remedy(key="clip_value", text=text, value=float(_short(limit)), code=code)


def _lr_line(lr: float) -> str:
    return f'for group in optimizer.param_groups: group["lr"] = {lr:.2g}'


def _lr_cut(facts: Facts) -> Remedy | None:
    if not facts.lr > 0:
        return None
    if facts.sudden_lr and facts.lr_back:
        lr = facts.lr
        text = f"Keep the learning rate at {lr:.2g}: for a moment it was {facts.lr_change:.3g} times as high."
    elif facts.sudden_lr:
        steady = 0 < facts.lr_steady < facts.lr
        lr = facts.lr_steady if steady else facts.lr / facts.lr_change
        text = f"Set the learning rate back from {facts.lr:.2g} to {lr:.2g}, its value before it was raised."
    else:
        # Aim at an update of 1e-3 of the weights per step (science notes, 4.2); a blind cut is tenfold. What came to grief at the
        # start may hardly move by now: then the longest step counts.
        ratio = max(facts.ratio, facts.ratio_peak) if facts.early else facts.ratio
        factor = min(max(1e-3 / ratio, 0.01), 0.5) if ratio > 2e-3 else 0.1
        lr = facts.lr * factor
        text = f"Lower the learning rate from {facts.lr:.2g} to {lr:.2g}"
        if ratio > 2e-3:
            text += f"; a step {'changed' if ratio > facts.ratio else 'now changes'} the weights by {100 * ratio:.2g} %"
        text += "."
    return Remedy(key="lr_cut", text=text, value=lr, code=_lr_line(lr))


def _lr_up(facts: Facts) -> Remedy | None:
    if not facts.lr > 0:
        return None
    factor = min(max(1e-3 / facts.ratio, 3.0), 1e6) if facts.ratio > 0 else 10.0
    lr = facts.lr * factor
    text = f"Raise the learning rate from {facts.lr:.2g} to {lr:.2g}, so that a step changes the weights by about 0.1 %."
    return Remedy(key="lr_up", text=text, value=lr, code=_lr_line(lr))


def _warmup(facts: Facts) -> Remedy | None:
    steps = max(200, math.ceil(2.0 / (1.0 - facts.beta2)) if facts.beta2 < 1 else 200)
    text = f"Warm the learning rate up over the first {steps:,} steps."
    code = f"scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, total_iters={steps})"
    return Remedy(key="warmup", text=text, value=float(steps), code=code)


def _he(facts: Facts) -> Remedy | None:
    known = facts.std == facts.std
    start = f", std {facts.std:.2g} -> {facts.std_he:.2g} in the first of them" if known else ""
    text = f"Initialise {_layers(facts)} with He init (std = sqrt(2 / fan-in){start})."
    code = "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'); nn.init.zeros_(layer.bias)"
    return Remedy(key="init_he", text=text, value=math.sqrt(2.0), code=code)


def _xavier(facts: Facts) -> Remedy | None:
    text = f"With tanh, initialise {_layers(facts)} with Xavier init (std x sqrt(fan-in) near 1)."
    return Remedy(key="init_xavier", text=text, value=1.0, code="nn.init.xavier_normal_(layer.weight)")


def _less_decay(facts: Facts) -> Remedy | None:
    if not (facts.weight_decay > 0 and facts.lr > 0):
        return None
    value = float(_short(min(0.01, 1e-4 / facts.lr)))
    share = 100 * facts.lr * facts.weight_decay
    text = f"Lower the weight decay from {facts.weight_decay:g} to {value:g}: it takes {share:.2g} % of each weight at every step."
    code = f'for group in optimizer.param_groups: group["weight_decay"] = {value:g}'
    return Remedy(key="less_decay", text=text, value=value, code=code)


def _schedule(facts: Facts) -> Remedy | None:
    if not facts.lr_peak > 0:
        return None
    text = f"Look at the scheduler: the learning rate fell from {facts.lr_peak:.2g} to {facts.lr:.2g}"
    if facts.lr_spent < 0.1 * facts.step:
        text += ". Is it stepped once per batch where it counts epochs?"
    else:
        text += " before the loss did."
    code = "for epoch in range(epochs): train_one_epoch(); scheduler.step()"
    return Remedy(key="schedule", text=text, value=facts.lr_peak, code=code)


def _raise_clip(facts: Facts) -> Remedy | None:
    if not facts.norm_p90 > 0:
        return None
    value = facts.norm_p90
    text = f"Raise the clip limit to {_short(value)}, the 90th percentile of the norms, so that one step in ten is clipped."
    code = f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={_short(value)})"
    return Remedy(key="clip_raise", text=text, value=float(_short(value)), code=code)


def _adaptive(facts: Facts) -> Remedy | None:
    if facts.family != "sgd":
        return None
    text = "Use Adam with a learning rate of 1e-3: its step hardly depends on the size of the gradient."
    return Remedy(
        key="adam", text=text, value=1e-3, code="optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)"
    )


def _beta2(facts: Facts) -> Remedy | None:
    if not facts.beta2 > 0.96:
        return None
    text = f"Lower beta2 from {facts.beta2:g} to 0.95, so that the second moment follows faster."
    return Remedy(
        key="beta2", text=text, value=0.95, code="optimizer = torch.optim.AdamW(params, betas=(0.9, 0.95))"
    )


def _checkpoint(facts: Facts) -> Remedy | None:
    if facts.checkpoint < 0:
        return None
    text = f"Go back to the checkpoint of step {facts.checkpoint:,}, the last one before this began."
    return Remedy(key="checkpoint", text=text, value=float(facts.checkpoint))


def _restore(facts: Facts) -> Remedy | None:
    name = f"`{facts.origin.tensor}`" if facts.origin.tensor else "the weights"
    text = f"Restore {name} from before step {facts.first_step:,}, and find what writes to it besides the optimizer."
    return Remedy(key="restore", text=text)


def _check_input(facts: Facts) -> Remedy | None:
    if facts.input_bad or facts.kind == "nonfinite":
        text = f"Look at the batch of step {facts.first_step:,}: find the sample that is not finite."
        return Remedy(key="check_input", text=text, code="assert torch.isfinite(x).all()")
    text = f"Look at the batches from step {facts.first_step:,} on: what of their inputs or labels differs from before?"
    return Remedy(key="check_input", text=text, code="print(x.mean(), x.std(), x.abs().max(), y)")


def _eps(facts: Facts) -> Remedy | None:
    where = f" in `{facts.origin.module}`" if facts.origin.module else ""
    text = f"Look for a square root, logarithm or division that can meet zero{where}, and keep it away with an eps of 1e-6."
    return Remedy(key="eps", text=text, value=1e-6, code="y = torch.sqrt(x.clamp_min(1e-6))")


def _optimizer_groups(facts: Facts) -> Remedy | None:
    if facts.orphans and facts.orphans_all:
        text = "Make the optimizer from this model, after it has its final form."
        code = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)"
        return Remedy(key="optimizer_groups", text=text, code=code)
    code = 'optimizer.add_param_group({"params": module.parameters()})'
    return Remedy(key="optimizer_groups", text=f"Give {_layers(facts)} to the optimizer.", code=code)


def _init_scale(facts: Facts) -> Remedy | None:
    text = "Or start the loss scale at 1,024, and unscale before clipping."
    return Remedy(
        key="init_scale", text=text, value=1024.0, code="scaler = torch.amp.GradScaler(init_scale=2.0**10)"
    )


def _plain(key: str, text: str, code: str = "", value: float | None = None) -> Make:
    def make(facts: Facts) -> Remedy | None:
        return Remedy(key=key, text=text.format(layers=_layers(facts)), value=value, code=code)

    return make


REMEDIES: Final[dict[str, Make]] = {
    "clip_norm": _clip_norm,
    "clip_value": _clip_value,
    "lr_cut": _lr_cut,
    "lr_up": _lr_up,
    "warmup": _warmup,
    "init_he": _he,
    "init_xavier": _xavier,
    "clip_raise": _raise_clip,
    "less_decay": _less_decay,
    "schedule": _schedule,
    "adam": _adaptive,
    "beta2": _beta2,
    "checkpoint": _checkpoint,
    "eps": _eps,
    "init_scale": _init_scale,
    "normalise": _plain(
        "normalise",
        "Put a LayerNorm before each block, or add residual connections, so that depth does not multiply.",
        "self.norm = nn.LayerNorm(width)",
    ),
    "relu": _plain(
        "relu", "Replace sigmoid or tanh in hidden layers with ReLU or GELU, with He init.", "act = nn.GELU()"
    ),
    "leaky": _plain(
        "leaky",
        "Replace ReLU in {layers} with LeakyReLU or GELU, and initialise its bias with zero.",
        "act = nn.LeakyReLU(0.01)",
    ),
    "standardise": _plain(
        "standardise",
        "Scale the inputs to mean 0 and standard deviation 1.",
        "x = (x - x.mean(0)) / (x.std(0) + 1e-6)",
    ),
    "check_input": _check_input,
    "check_loss": _plain(
        "check_loss",
        "Look at each term of the loss: is it meant to be minimised, and can it not fall for ever?",
        "loss = F.cross_entropy(out, y)  # without a minus",
    ),
    "restore": _restore,
    "skip_batch": _plain(
        "skip_batch", "Nothing, if it stays the only one; note the ids of the batch's samples."
    ),
    "zero_grad": _plain(
        "zero_grad", "Clear the gradients before each backward pass.", "optimizer.zero_grad()"
    ),
    "accumulation": _plain(
        "accumulation",
        "When you accumulate on purpose, divide the loss by the number of micro-batches.",
        "(loss / accumulation_steps).backward()",
    ),
    "bf16": _plain(
        "bf16",
        "Use bfloat16, which has the range of float32 and needs no loss scaler.",
        "torch.autocast(device_type, dtype=torch.bfloat16)",
    ),
    "attach": _plain(
        "attach",
        "Find where {layers} drops out of the graph: a detach(), a no_grad() block, or a branch that is not used.",
        "print([n for n, p in model.named_parameters() if p.grad is None])",
    ),
    "optimizer_groups": _optimizer_groups,
    "freeze": _plain(
        "freeze", "If it is meant to stand still, say so and save its gradient.", "p.requires_grad_(False)"
    ),
    "master_weights": _plain(
        "master_weights",
        "Keep the weights in float32: an update this small is lost in 16 bits.",
        "model = model.float()",
    ),
    "early_stop": _plain("early_stop", "Stop here and keep the checkpoint with the best validation loss."),
    "bigger_batch": _plain(
        "bigger_batch", "Use a larger batch, or decay the learning rate: noise now hides the slope."
    ),
    "drain_rank": _plain(
        "drain_rank", "Run the same batch on another device; if the numbers differ, take this one out."
    ),
    "check_loader": _plain(
        "check_loader", "See what the process does now: a stuck data loader or a waiting collective."
    ),
    "phase": _plain(
        "phase",
        "If you changed data or task on purpose, say so, and this run gets a new normal.",
        'run.phase("finetune")',
    ),
    "anomaly": _plain(
        "anomaly",
        "Run the step again with anomaly detection: it names the operation.",
        "torch.autograd.set_detect_anomaly(True)",
    ),
}


def prescribe(keys: tuple[str, ...], facts: Facts) -> tuple[Remedy, ...]:
    """The remedies of ``keys`` that apply to ``facts``, in that order."""
    made = (REMEDIES[key](facts) for key in keys)
    return tuple(remedy for remedy in made if remedy is not None)
