"""One forward and one backward pass over a batch, looked at from all sides; the model is left as it was."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from ..errors import ConfigError
from ..glimpse import Glimpse, Layer, Parameter
from .catalog import Catalog, clean_name

__all__ = ["look"]

_SAMPLE: Final = 4096
_RELU_LIKE: Final = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.SELU, nn.Mish)
_TRANSPARENT: Final = ("dropout", "identity", "flatten", "unflatten", "pool")
_ACTIVATIONS: Final[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "leakyrelu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
}
"""What a script may put between two layers as a function, told by comparing output and next input."""


@dataclass(slots=True)
class _Seen:
    """A module at its first call."""

    name: str
    module: nn.Module
    rms: float = math.nan
    grad_rms: float = math.nan
    finite: bool = True
    dead: float = math.nan
    saturated: float = math.nan
    then: str = ""
    sample: torch.Tensor | None = None


@dataclass(slots=True)
class _Watcher:
    """Hooks on every module without children."""

    seen: dict[str, _Seen] = field(default_factory=dict)
    handles: list[Any] = field(default_factory=list)
    last: _Seen | None = None
    """The newest layer with a weight whose output has not met another one yet."""

    def attach(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            if next(module.children(), None) is None:
                self.handles.append(module.register_forward_pre_hook(self._before(module)))
                self.handles.append(module.register_forward_hook(self._after(clean_name(name), module)))

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _before(self, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            value = _tensor(given)
            if self.last is None or value is None or not _has_matrix(module):
                return
            self.last.then = self.last.then or _between(self.last.sample, value)
            self.last.sample, self.last = None, None

        return hook

    def _after(self, name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            value = _tensor((out,))
            if value is None or name in self.seen:
                return
            seen = self.seen[name] = _Seen(name, module)
            _measure(seen, value.detach())
            if value.requires_grad:
                value.register_hook(lambda grad: _note_gradient(seen, grad))  # type: ignore[no-untyped-call]
            self._follow(seen, module, value)

        return hook

    def _follow(self, seen: _Seen, module: nn.Module, value: torch.Tensor) -> None:
        kind = type(module).__name__.lower()
        if _has_matrix(module):
            self.last = seen
            seen.sample = _few(value.detach())
        elif self.last is not None and not any(word in kind for word in _TRANSPARENT):
            self.last.then = self.last.then or ("norm" if "norm" in kind else kind)


def look(
    model: nn.Module,
    batch: Any,
    loss_fn: Callable[..., Any] | None,
    optimizer: Optimizer | Sequence[Optimizer] | None,
) -> Glimpse:
    """What one batch shows; parameters, gradients, buffers, random numbers and mode are afterwards as they were.

    Raises:
        ConfigError: the batch or the loss function can't be used that way.
    """
    watcher = _Watcher()
    with _left_alone(model):
        watcher.attach(model)
        try:
            loss, output, target, value = _forward(model, batch, loss_fn)
            grads = _backward(model, loss)
        finally:
            watcher.detach()
    catalog = Catalog([model])
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    expected, why = _expected(loss_fn, output, target)
    floating = value is not None and value.is_floating_point()
    return Glimpse(
        layers=tuple(_layer(seen) for seen in watcher.seen.values()),
        parameters=_parameters(catalog, grads, optimizers, list(watcher.seen)),
        loss=float(loss.detach()),
        expected=expected,
        expected_why=why,
        input_rms=_rms(value) if floating and value is not None else math.nan,
        input_mean=float(value.float().mean()) if floating and value is not None else math.nan,
        input_finite=value is None or bool(torch.isfinite(value).all()),
        with_optimizer=bool(optimizers),
    )


@contextlib.contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])


def _forward(
    model: nn.Module, batch: Any, loss_fn: Callable[..., Any] | None
) -> tuple[torch.Tensor, Any, Any, torch.Tensor | None]:
    """Loss, output, target, and the tensor that goes in first."""
    target, rest = None, tuple[Any, ...]()
    if isinstance(batch, Mapping):
        output, rest = model(**batch), ()
        target = batch.get("labels")
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        output, rest = model(*batch[:-1]), (batch[-1],)
        target = batch[-1]
    else:
        output, rest = model(*batch) if isinstance(batch, (tuple, list)) else model(batch), ()
    loss = loss_fn(output, *rest) if loss_fn is not None else getattr(output, "loss", output)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ConfigError(
            "check() needs a loss that is one number with a gradient: give (x, y) as batch and loss_fn(output, y), "
            "or a mapping as batch and loss_fn(output)"
        )
    whole = tuple(batch.values()) if isinstance(batch, Mapping) else batch
    return loss.reshape(()), output, target, _tensor(whole if isinstance(whole, (tuple, list)) else (whole,))


def _backward(model: nn.Module, loss: torch.Tensor) -> dict[int, torch.Tensor]:
    """Gradients by id of the parameter; ``.grad`` stays as it is."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    if not wanted:
        raise ConfigError("check() needs a model with at least one parameter that is not frozen")
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return {id(p): g for p, g in zip(wanted, found, strict=True) if g is not None}


def _parameters(
    catalog: Catalog, grads: Mapping[int, torch.Tensor], optimizers: Sequence[Optimizer], order: Sequence[str]
) -> tuple[Parameter, ...]:
    owners: dict[int, tuple[int, int]] = {}
    for number, optimizer in enumerate(optimizers):
        for group, content in enumerate(optimizer.param_groups):
            for parameter in content["params"]:
                column = catalog.column(parameter)
                if column is not None:
                    owners[column] = (number, group)
    place = {name: rank for rank, name in enumerate(order)}
    facts = catalog.tensors(list(range(len(catalog))), owners)
    ranked = sorted(facts, key=lambda t: (place.get(t.module, len(place)), t.depth))
    depth = {t.name: rank for rank, t in enumerate(ranked)}
    declared = catalog.tensors([depth[t.name] for t in facts], owners)
    found = []
    for parameter, fact in zip(catalog.parameters(), declared, strict=True):
        grad = grads.get(id(parameter))
        norm = None if grad is None else float(_dense(grad).float().norm())
        found.append(Parameter(tensor=fact, grad_norm=norm))
    return tuple(sorted(found, key=lambda p: p.tensor.depth))


def _dense(grad: torch.Tensor) -> torch.Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad


def _measure(seen: _Seen, value: torch.Tensor) -> None:
    seen.finite = bool(torch.isfinite(value).all())
    seen.rms = _rms(value)
    if isinstance(seen.module, _RELU_LIKE) and value.ndim >= 2:
        units = value.transpose(0, 1).flatten(1) if value.ndim != 3 else value.flatten(0, 1).T
        seen.dead = float((units == 0).all(dim=1).float().mean())
    elif isinstance(seen.module, nn.Tanh):
        seen.saturated = float((value.abs() > 0.98).float().mean())
    elif isinstance(seen.module, nn.Sigmoid):
        seen.saturated = float(((value < 0.02) | (value > 0.98)).float().mean())


def _note_gradient(seen: _Seen, grad: torch.Tensor) -> None:
    seen.grad_rms = _rms(grad.detach())


def _layer(seen: _Seen) -> Layer:
    weight = getattr(seen.module, "weight", None)
    matrix = isinstance(weight, torch.Tensor) and weight.ndim >= 2 and weight.numel() > 1
    embedding = isinstance(seen.module, (nn.Embedding, nn.EmbeddingBag))
    return Layer(
        name=seen.name,
        type=type(seen.module).__name__,
        rms=seen.rms,
        grad_rms=seen.grad_rms,
        finite=seen.finite,
        dead=seen.dead,
        saturated=seen.saturated,
        std=float(weight.detach().float().std()) if matrix and isinstance(weight, torch.Tensor) else math.nan,
        fan_in=weight.numel() // weight.shape[0]
        if matrix and not embedding and isinstance(weight, torch.Tensor)
        else 0,
        then=seen.then,
    )


def _has_matrix(module: nn.Module) -> bool:
    return any(p.ndim >= 2 for p in module.parameters(recurse=False))


def _between(before: torch.Tensor | None, after: torch.Tensor) -> str:
    """The activation that turned one layer's output into the next layer's input, if it can be recognised."""
    if before is None or before.numel() != min(after.numel(), _SAMPLE):
        return ""
    value = _few(after.detach())
    if torch.equal(before, value):
        return "linear"
    close = (n for n, f in _ACTIVATIONS.items() if torch.allclose(f(before), value, rtol=1e-4, atol=1e-5))
    return next(close, "")


def _few(value: torch.Tensor) -> torch.Tensor:
    return value.reshape(-1)[:_SAMPLE].float()


def _rms(value: torch.Tensor) -> float:
    return float(value.detach().float().square().mean().sqrt()) if value.numel() else math.nan


def _tensor(values: Sequence[Any]) -> torch.Tensor | None:
    """The first tensor among values and their first level of content, floating ones first."""
    flat: list[Any] = []
    for value in values:
        flat += list(value) if isinstance(value, (tuple, list)) else [value]
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    floating = [value for value in tensors if value.is_floating_point()]
    return next(iter([*floating, *tensors]), None)


def _expected(loss_fn: Callable[..., Any] | None, output: Any, target: Any) -> tuple[float, str]:
    """The loss of a model that knows nothing, and why; NaN when it can't be told."""
    output = getattr(output, "logits", output)
    name = (getattr(loss_fn, "__name__", "") or type(loss_fn).__name__).lower().replace("_", "")
    if not isinstance(output, torch.Tensor) or not isinstance(target, torch.Tensor):
        return math.nan, ""
    if not target.is_floating_point() and not target.is_complex() and output.ndim >= 2:
        classes = (
            output.shape[-1] if "labels" in name or output.ndim == 3 and target.ndim == 2 else output.shape[1]
        )
        if classes > 1 and ("crossentropy" in name or "nll" in name or loss_fn is None or "lambda" in name):
            return math.log(classes), f"ln {classes}, guessing among {classes} classes"
    if "bce" in name or "binarycrossentropy" in name:
        return math.log(2), "ln 2, guessing yes or no"
    if "mse" in name and target.is_floating_point():
        return float(
            target.detach().float().square().mean()
        ), "the mean square of the targets, predicting zero"
    return math.nan, ""
