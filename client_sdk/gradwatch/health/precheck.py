"""What a glimpse of a model before its first step says: pure judgement over plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from ..glimpse import Glimpse, Layer, Parameter
from .baseline import theil_sen
from .incidents import Severity

__all__ = ["CHECKS", "Remark", "gain_for", "remarks", "slope"]

GAINS: Final[dict[str, float]] = {
    "relu": math.sqrt(2.0),
    "relu6": math.sqrt(2.0),
    "leakyrelu": math.sqrt(2.0),
    "prelu": math.sqrt(2.0),
    "gelu": math.sqrt(2.0),
    "silu": math.sqrt(2.0),
    "elu": math.sqrt(2.0),
    "tanh": 5.0 / 3.0,
    "sigmoid": 1.0,
    "selu": 0.75,
    "linear": 1.0,
}
"""std x sqrt(fan-in) that keeps the size of the signal through an activation (He 2015; torch's ``calculate_gain``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing worth knowing before training starts: how grave, a sentence, what to try, and a line to paste."""

    check: str
    severity: Severity
    sentence: str
    advice: str = ""
    code: str = ""


def gain_for(layer: Layer) -> float:
    """The gain that suits what follows a layer; NaN where a norm follows or nothing is known."""
    return GAINS.get(layer.then, math.nan)


def weighted(glimpse: Glimpse) -> list[Layer]:
    """Layers with a weight matrix, in forward order, embeddings apart."""
    return [layer for layer in glimpse.layers if layer.fan_in > 0]


def slope(values: Sequence[float]) -> tuple[float, int]:
    """Robust growth per layer in log2, and over how many layers; (0, n) for fewer than 6."""
    logs = [math.log2(v) for v in values if v > 0 and math.isfinite(v)]
    if len(logs) < 6:
        return 0.0, len(logs)
    return theil_sen(np.array(logs)), len(logs)


def remarks(glimpse: Glimpse) -> list[Remark]:
    """All that is to be said, gravest first."""
    found = [remark for check in CHECKS for remark in check(glimpse)]
    rank = {"critical": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda remark: rank[remark.severity])


# --- the checks -----------------------------------------------------------------------------------------------------------


def _nonfinite(glimpse: Glimpse) -> Iterable[Remark]:
    if not glimpse.input_finite:
        yield Remark(
            check="nonfinite",
            severity="critical",
            sentence="The input holds NaN or Inf.",
            advice="Look at how this batch is made.",
            code="assert torch.isfinite(x).all()",
        )
        return
    broken = next((layer for layer in glimpse.layers if not layer.finite), None)
    if broken is not None:
        yield Remark(
            check="nonfinite",
            severity="critical",
            sentence=f"The output of `{broken.name}` ({broken.type}) is not finite, and it is the first one.",
            advice="Look for a division, root or logarithm that meets zero, or weights that are far too large.",
        )
    elif not math.isfinite(glimpse.loss):
        yield Remark(
            check="nonfinite",
            severity="critical",
            sentence="The loss is not finite although the outputs of all layers are.",
            advice="Use a loss that takes logits, such as cross_entropy or binary_cross_entropy_with_logits.",
        )
    bad = [p for p in glimpse.parameters if p.grad_norm is not None and not math.isfinite(p.grad_norm)]
    if bad and broken is None and math.isfinite(glimpse.loss):
        yield Remark(
            check="nonfinite",
            severity="critical",
            sentence=f"The loss is finite but the gradient of {_names(bad)} is not; it begins at `{bad[-1].tensor.name}`.",
            advice="Look for a square root or a norm of zero in that module: its slope there is infinite.",
            code="y = torch.sqrt(x.clamp_min(1e-6))",
        )


def _first_loss(glimpse: Glimpse) -> Iterable[Remark]:
    loss, expected = glimpse.loss, glimpse.expected
    if not (math.isfinite(loss) and expected > 0):
        return
    if loss > 3.0 * expected:
        last = next(reversed(weighted(glimpse)), None)
        where = f"`{last.name}`" if last is not None else "the last layer"
        yield Remark(
            check="first_loss",
            severity="warning",
            sentence=f"The first loss is {loss:.3g}; a model that knows nothing gets {expected:.3g} ({glimpse.expected_why}).",
            advice=f"Make the outputs small at the start: {where} with a smaller std, inputs of std 1, or a norm before it.",
        )
    elif loss < 0.3 * expected:
        yield Remark(
            check="first_loss",
            severity="info",
            sentence=f"The first loss is {loss:.3g}, far below {expected:.3g} ({glimpse.expected_why}).",
            advice="Fine for a trained model; otherwise see whether the label leaks into the input.",
        )


def _depth(glimpse: Glimpse) -> Iterable[Remark]:
    layers = weighted(glimpse)
    forward, n = slope([layer.rms for layer in layers])
    if abs(forward) >= 0.5 and abs(forward) * n >= 6:
        verb = "grow" if forward > 0 else "shrink"
        yield Remark(
            check="depth",
            severity="warning",
            sentence=f"Activations {verb} by a factor of {2 ** abs(forward):.2f} per layer over {n} layers.",
            advice=_depth_advice(layers),
            code="nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'); nn.init.zeros_(layer.bias)",
        )
    back, m = slope([layer.grad_rms for layer in reversed(layers)])
    if abs(back) >= 0.5 and abs(back) * m >= 6:
        verb = "grow" if back > 0 else "shrink"
        first, last = layers[0], layers[-1]
        ratio = first.grad_rms / last.grad_rms if last.grad_rms > 0 else math.nan
        yield Remark(
            check="depth",
            severity="warning",
            sentence=(
                f"Gradients {verb} by a factor of {2 ** abs(back):.2f} per layer toward the input; "
                f"`{first.name}` gets {ratio:.1e} of what `{last.name}` gets."
            ),
            advice=_depth_advice(layers),
            code="nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'); nn.init.zeros_(layer.bias)",
        )


def _depth_advice(layers: Sequence[Layer]) -> str:
    flat = [layer for layer in layers if layer.then in ("sigmoid", "tanh")]
    if 2 * len(flat) > len(layers):
        return "Use ReLU or GELU with He init in hidden layers, or put a norm before each activation."
    off = [layer for layer in layers if _off(layer) > 1.3 or _off(layer) < 0.75]
    if off:
        wanted = gain_for(off[0]) / math.sqrt(off[0].fan_in)
        return f"Initialise {_span(off)} with std {wanted:.2g} instead of {off[0].std:.2g}, or put a norm before each block."
    return "Put a norm before each block, or add residual connections."


def _off(layer: Layer) -> float:
    """The std over the one it should have; NaN when that is unknown."""
    return layer.std * math.sqrt(layer.fan_in) / gain_for(layer)


def _init(glimpse: Glimpse) -> Iterable[Remark]:
    """Thresholds of the science notes, D10: 3 and 0.03 stand outside every known scheme, in 30 % of the matrices."""
    layers = [layer for layer in weighted(glimpse) if math.isfinite(layer.std)]
    gains = [layer.std * math.sqrt(layer.fan_in) for layer in layers]
    large = [layer for layer, g in zip(layers, gains, strict=True) if g > 3.0]
    small = [layer for layer, g in zip(layers, gains, strict=True) if 0.0 < g < 0.03]
    zero = [layer for layer, g in zip(layers, gains, strict=True) if g == 0.0]
    for word, which, least in (("large", large, 0.3), ("small", small, 0.3), ("equal", zero, 0.8)):
        if len(layers) >= 2 and len(which) >= least * len(layers):
            gain = gain_for(which[0])
            wanted = (gain if math.isfinite(gain) else math.sqrt(2.0)) / math.sqrt(which[0].fan_in)
            start = "all weights equal" if word == "equal" else f"weights that are too {word}"
            yield Remark(
                check="init",
                severity="warning",
                sentence=f"{len(which)} of {len(layers)} layers start with {start}: `{which[0].name}` has std {which[0].std:.2g}.",
                advice=f"Initialise {_span(which)} anew; `{which[0].name}` should have a std of about {wanted:.2g}.",
                code="nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'); nn.init.zeros_(layer.bias)",
            )


def _units(glimpse: Glimpse) -> Iterable[Remark]:
    for layer in glimpse.layers:
        if layer.dead > 0.5:
            yield Remark(
                check="dead",
                severity="warning",
                sentence=f"{100 * layer.dead:.0f} % of the units after `{layer.name}` are zero for the whole batch.",
                advice="Set the biases before it to zero and scale the inputs to mean 0, std 1; or use LeakyReLU or GELU.",
                code="nn.init.zeros_(layer.bias)",
            )
    flat = [layer for layer in glimpse.layers if layer.saturated > 0.5]
    if flat:
        yield Remark(
            check="saturated",
            severity="warning",
            sentence=f"{100 * flat[0].saturated:.0f} % of the values of `{flat[0].name}` ({flat[0].type}) are in its flat part.",
            advice="Use smaller initial weights before it (Xavier), or a norm.",
            code="nn.init.xavier_normal_(layer.weight)",
        )


def _unused(glimpse: Glimpse) -> Iterable[Remark]:
    trainable = [p for p in glimpse.parameters if p.tensor.trainable]
    absent = [p for p in trainable if p.grad_norm is None]
    if absent:
        yield Remark(
            check="unused",
            severity="warning",
            sentence=f"{_names(absent)} got no gradient: not used in this forward pass, or cut off by detach() or no_grad().",
            advice="Use it, attach it, or freeze it on purpose with requires_grad_(False).",
        )
    zero = [p for p in trainable if p.grad_norm == 0.0]
    if zero:
        everything = len(zero) == len([p for p in trainable if p.grad_norm is not None])
        yield Remark(
            check="zero_gradient",
            severity="warning" if everything else "info",
            sentence=f"The gradient of {_names(zero)} is exactly zero.",
            advice="Normal behind a gate or adapter that starts at zero, and for experts and rows that this batch does not use.",
        )
    if glimpse.with_optimizer:
        free = [p for p in trainable if p.tensor.optimizer < 0]
        if free:
            yield Remark(
                check="not_in_optimizer",
                severity="warning",
                sentence=f"{_names(free)} is not frozen but in no optimizer, so it will never move.",
                advice="Give it to the optimizer, or freeze it on purpose.",
                code='optimizer.add_param_group({"params": module.parameters()})',
            )


def _input(glimpse: Glimpse) -> Iterable[Remark]:
    rms, mean = glimpse.input_rms, abs(glimpse.input_mean)
    if rms > 10.0 or (mean > 3.0 * math.sqrt(max(rms * rms - mean * mean, 0.0)) and rms > 3.0):
        yield Remark(
            check="input",
            severity="warning",
            sentence=f"The inputs are large: root mean square {rms:.3g}, mean {glimpse.input_mean:.3g}.",
            advice="Scale them to mean 0 and standard deviation 1.",
            code="x = (x - x.mean(0)) / (x.std(0) + 1e-6)",
        )


Check: TypeAlias = Callable[[Glimpse], Iterable[Remark]]
CHECKS: Final[tuple[Check, ...]] = (_nonfinite, _first_loss, _depth, _init, _units, _unused, _input)


def _names(found: Sequence[Parameter]) -> str:
    shown = ", ".join(f"`{p.tensor.name}`" for p in found[:3])
    return shown + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _span(layers: Sequence[Layer]) -> str:
    return f"`{layers[0].name}`" if len(layers) == 1 else f"`{layers[0].name}` to `{layers[-1].name}`"
