"""Statistics of what modules give out, on sampled steps, for scripts that ask for them.

Forward hooks are there only while a sampled step computes its forward, so other steps cost nothing. Of each output at most
4,096 elements are taken, evenly apart:

=====================  ==============================================================================================
``mean``, ``rms``      ``mean(x)`` and ``sqrt(mean(x^2))``
``zero_share``         share of elements with ``x == 0``: idle units behind a ReLU
``saturation``         of bounded activations, the share within 3 % of the range of a bound
``max_logit``          of ``nn.MultiheadAttention``: the largest ``q.k / sqrt(d)`` over heads, among at most 64 positions of the
                       first sample; masks are not looked at
=====================  ==============================================================================================

With ``n`` elements a mean has a standard error of ``std / sqrt(n)``, a share ``s`` one of ``sqrt(s (1 - s) / n)``, at most 0.8
points; of smaller outputs they are exact. They are logged as ``activation/<module>/<statistic>``. Modules inside a compiled
model are left alone: their forward does not call hooks, and must not be traced again.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..shield import Shield
from . import forked
from .catalog import clean_name, local_part
from .sampled import Cadence
from .step_hooks import after_steps

__all__ = ["BOUNDS", "MOST_MODULES", "Activations", "max_logit", "saturation"]

MOST_MODULES: Final = 100
_ELEMENTS: Final = 4096
_POSITIONS: Final = 64

BOUNDS: Final[dict[type[nn.Module], tuple[float, float]]] = {
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.ReLU6: (0.0, 6.0),
}
"""The range of the outputs of each bounded activation."""


class RunLike(Protocol):
    """What is needed of a run."""

    def join(self, actor: Any) -> Callable[[], int] | None:
        """Lets go of ``actor`` at the end; gives what tells the coming step."""

    def log(self, values: Mapping[str, Any], /, *, step: int | None = None) -> None:
        """Records numbers."""


class Activations:
    """Watches the outputs of the modules of ``models`` whose path matches one of ``patterns``.

    Args:
        patterns: globs on module paths; every leaf module and attention for ``True``.
        budget: share of the step time that it may take.

    Raises:
        ConfigError: nothing matches, or more than 100 modules do.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        patterns: bool | Sequence[str],
        *,
        shield: Shield,
        budget: float = 0.01,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        chosen = list(_chosen(models, patterns))
        if not chosen or len(chosen) > MOST_MODULES:
            found = (
                f"{len(chosen)} modules match" if chosen else "no module matches, outside of compiled ones"
            )
            raise ConfigError(
                f"activations={patterns!r}: {found}; give globs that match 1 to {MOST_MODULES} modules, "
                "such as ['blocks.*.attn']"
            )
        self._modules = [(name, weakref.ref(module)) for name, module in chosen]
        self._shield = shield
        self._cadence = Cadence(budget)
        self._timer = timer
        self._generation = forked.generation()
        self._run: RunLike | None = None
        self._coming: Callable[[], int] = lambda: 0
        self._hooks: list[Any] = []
        self._undo: list[Callable[[], None]] = []
        self._spent = 0.0
        self._stepped_at: float | None = None

    def follow(self, run: RunLike) -> None:
        """Logs to ``run`` until it ends."""
        coming = run.join(self)
        if coming is not None:
            self._run, self._coming = run, coming
            self._undo = [after_steps(self._shield.wrap(self._after_step, "watching activations"))]
            self._arm(coming())

    def log(self, values: Mapping[str, Any], /) -> None:
        """What the script logs is none of its business."""

    def incident(self, id: str, kind: str, severity: str, reason: str, *, open: bool) -> None:
        """Nor what is found."""

    def remove(self) -> None:
        """Takes every hook away."""
        self._disarm()
        while self._undo:
            self._undo.pop()()

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        now = self._timer()
        if self._hooks and self._spent:
            self._disarm()
            if self._stepped_at is not None:
                self._cadence.account(self._spent, now - self._stepped_at)
            self._spent = 0.0
        self._stepped_at = now
        if not self._hooks:
            self._arm(self._coming() + 1)

    def _arm(self, step: int) -> None:
        if not self._cadence.due(step):
            return
        for name, ref in self._modules:
            module = ref()
            if module is not None:
                hook = _Hook(self._shield.wrap(self._watcher(name, step), "watching activations"))
                self._hooks.append(module.register_forward_hook(hook, with_kwargs=True))

    def _disarm(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _watcher(self, name: str, step: int) -> Callable[..., None]:
        def watch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            if torch.compiler.is_compiling() or not module.training or forked.in_child(self._generation):
                return
            begun = self._timer()
            with torch.no_grad():
                values = _measured(module, args, kwargs, out)
            if self._run is not None and values:
                named = {f"activation/{name}/{key}": value for key, value in values.items()}
                self._run.log(named, step=step)
            self._spent += self._timer() - begun

        return watch


class _Hook:
    """A forward hook. Whoever copies or pickles the module (EMA, ``torch.save(model)``) gets one that does nothing and is read
    without gradwatch."""

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        self._call(*args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, str]]:
        return getattr, (contextlib.nullcontext(), "__exit__")


def _chosen(models: Sequence[nn.Module], patterns: bool | Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    globs = ["*"] if isinstance(patterns, bool) else list(patterns)
    for model in models:
        compiled = {id(m) for part in model.modules() if hasattr(part, "_orig_mod") for m in part.modules()}
        for path, module in model.named_modules():
            name = clean_name(path)
            wanted = any(fnmatchcase(name, glob) for glob in globs)
            leaf = not any(module.children()) or isinstance(module, nn.MultiheadAttention)
            if path and wanted and id(module) not in compiled and (leaf or not isinstance(patterns, bool)):
                yield name, module


def _measured(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    tensor = next(
        (t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor)), None
    )
    if tensor is not None and tensor.is_floating_point() and tensor.numel() and tensor.device.type != "meta":
        flat = local_part(tensor.detach()).reshape(-1)
        x = flat[:: max(1, -(-flat.numel() // _ELEMENTS))].float()
        values = {"mean": x.mean(), "rms": x.square().mean().sqrt(), "zero_share": (x == 0).float().mean()}
        if (share := saturation(module, x)) is not None:
            values["saturation"] = share
    if isinstance(module, nn.MultiheadAttention) and (logit := max_logit(module, args, kwargs)) is not None:
        values["max_logit"] = logit
    return values


def saturation(module: nn.Module, x: Tensor) -> Tensor | None:
    """Share of the outputs ``x`` within 3 % of the range of a bound of ``module``; None if it has none."""
    bounds = BOUNDS.get(type(module))
    if bounds is None:
        return None
    low, high = bounds
    margin = 0.03 * (high - low)
    return ((x <= low + margin) | (x >= high - margin)).float().mean()


def max_logit(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The largest attention logit among the first 64 positions of the first sample, as a tensor of one element.

    None where projections have other sizes than the model's width.
    """
    given = dict(zip(("query", "key"), args, strict=False)) | kwargs
    query, key = given.get("query"), given.get("key")
    weight = module.in_proj_weight
    if weight is None or query is None or key is None:
        return None
    if query.dim() == 3:
        query, key = (t[0] if module.batch_first else t[:, 0] for t in (query, key))
    width, heads = module.embed_dim, module.num_heads
    bias = module.in_proj_bias
    projected = []
    for place, rows in enumerate((query, key)):
        part = slice(place * width, (place + 1) * width)
        flat = nn.functional.linear(
            rows[:_POSITIONS].detach(), weight[part], None if bias is None else bias[part]
        )
        projected.append(flat.view(-1, heads, width // heads).transpose(0, 1).float())
    q, k = projected
    largest: Tensor = (q @ k.transpose(1, 2)).max() / (width // heads) ** 0.5
    return largest
