"""Clipping with a limit that follows the run: of the whole by a quantile of recent norms, or of each tensor by its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from ...errors import ConfigError
from ..patches import clipping
from ..scalars import Later, Now, defer
from .clip import Parameters, clip_grad_norm_, tensors_of, total_norm, whole
from .record import Action
from .rules import NormLevel

__all__ = ["AdaGC", "AdaptiveClip"]

_QUIET: Final = 50
"""Steps without a clip after which the next one is told as a new action."""


class AdaptiveClip:
    """Clips the total norm at ``factor`` times the ``q`` quantile of the last ``window`` finite raw norms.

    ::

        clip = gradwatch.AdaptiveClip()
        ...
        loss.backward()
        clip(model)               # in the place of torch.nn.utils.clip_grad_norm_
        optimizer.step()

    The formula and the defaults are those of :class:`~.rules.NormLevel`. Raw norms are taken, not clipped ones, so that the
    limit follows a true rise; it is frozen during an explosion and while an incident is open. No host waits for a device:
    there the limit lags by the steps that are under way. A gradient that isn't finite is torch's to clip: put
    :class:`~.parts.SkipNonFinite` behind it.

    Args:
        floor, ceil: bounds of the limit. ``ceil`` also holds during the first ``warmup`` steps, when nothing is known yet.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        *,
        q: float = 0.95,
        factor: float = 1.5,
        window: int = 256,
        warmup: int = 25,
        floor: float | None = None,
        ceil: float | None = None,
    ) -> None:
        if not (0 < q <= 1 and factor > 0 and window >= warmup >= 2):
            raise ConfigError("AdaptiveClip takes 0 < q <= 1, factor > 0 and window >= warmup >= 2")
        if min(value for value in (floor, ceil, 1.0) if value is not None) <= 0:
            raise ConfigError("AdaptiveClip(floor=, ceil=) must be above 0")
        self._level = NormLevel(q=q, factor=factor, window=window, warmup=warmup)
        self._floor, self._ceil = floor, ceil
        self._waiting: deque[tuple[int, Later | Now, float | None]] = deque(maxlen=64)
        self._steps = 0
        self._touched = -_QUIET
        self._was_exploding = False
        self.held = False
        """Set it while something is known to be wrong: the limit then stays as it is."""
        self.touched = 0
        """How many steps were clipped."""
        self.on_action: Callable[[Action], object] = lambda action: None

    @property
    def limit(self) -> float | None:
        """The limit of the next step, None while too little is known."""
        level = self._level.limit
        if level is None:
            return self._ceil
        return min(max(level, self._floor or 0.0), self._ceil or math.inf)

    @property
    def exploding(self) -> bool:
        """Whether norms are far above the limit, again and again."""
        return self._level.exploding

    def __call__(self, parameters: Parameters, *, step: int | None = None) -> Tensor:
        """Clips the gradients in place; gives the total norm before. ``step`` is for the record."""
        self.settle()
        limit = self.limit
        tensors = tensors_of(parameters)
        if limit is None:
            grads = [tensor.grad for tensor in tensors if tensor.grad is not None]
            total = total_norm(grads)
        else:
            total = clip_grad_norm_(tensors, limit)
        number = defer(whole(total))
        if number is not None:
            self._waiting.append((self._steps if step is None else step, number, limit))
        self._steps += 1
        return total

    def settle(self) -> None:
        """Takes in the norms that have arrived from their device."""
        while self._waiting and self._waiting[0][1].ready():
            step, number, limit = self._waiting.popleft()
            self._take(step, number(), limit)

    def _take(self, step: int, norm: float, limit: float | None) -> None:
        if limit is not None and limit < norm < math.inf:
            self.touched += 1
            if step - self._touched > _QUIET:
                self._tell("clip", step, f"the norm {norm:.3g} is above the usual", old=norm, new=limit)
            self._touched = step
        self._level.add(norm, hold=self.held)
        if self._level.exploding and not self._was_exploding:
            self._tell(
                "clip_freeze", step, "norms stay far above the limit, which is kept as it is", new=self.limit
            )
        self._was_exploding = self._level.exploding

    def _tell(
        self, kind: str, step: int, reason: str, old: float | None = None, new: float | None = None
    ) -> None:
        bounds = {"floor": self._floor, "ceil": self._ceil}
        given = {name: value for name, value in bounds.items() if value is not None}
        self.on_action(Action(kind=kind, step=step, reason=reason, old=old, new=new, bounds=given))


class AdaGC:
    """Clips each tensor on its own, at ``relative`` times the running mean of its clipped norms (AdaGC, arXiv:2502.11034).

    During the first ``warmup`` steps the whole is clipped at ``absolute``, and the smallest norm of each tensor is kept as
    the start of its mean. With norm ``n`` and mean ``m``: the gradient is multiplied by ``min(1, relative m / n)``, then
    ``m`` becomes ``beta m + (1 - beta) min(n, relative m)``. A norm that is not finite changes no mean. All of it stays on the
    device; of sharded tensors the norms are those of the whole, by one collective.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self, *, beta: float = 0.98, relative: float = 1.05, absolute: float = 1.0, warmup: int = 100
    ) -> None:
        if not (0 < beta < 1 and relative >= 1 and absolute > 0 and warmup >= 1):
            raise ConfigError("AdaGC takes 0 < beta < 1, relative >= 1, absolute > 0 and warmup >= 1")
        self._beta, self._relative, self._absolute, self._warmup = beta, relative, absolute, warmup
        self._means: tuple[tuple[int, ...], Tensor] | None = None
        self._steps = 0

    def __call__(self, parameters: Parameters, *, step: int | None = None) -> Tensor:
        """Clips the gradients in place; gives the total norm before."""
        tensors = [tensor for tensor in tensors_of(parameters) if tensor.grad is not None]
        grads: list[Any] = [tensor.grad for tensor in tensors]
        self._steps += 1
        if not grads:
            return torch.tensor(0.0)
        norms = whole(torch.stack([norm.float() for norm in torch._foreach_norm(grads)]))
        key = tuple(map(id, tensors))
        means = self._means[1] if self._means is not None and self._means[0] == key else None
        total: Tensor = torch.linalg.vector_norm(norms)
        if means is None:
            means = torch.full_like(norms, math.inf)
        finite = norms.isfinite()
        if self._steps <= self._warmup:
            clip_grad_norm_(tensors, self._absolute)
            seen = norms * torch.clamp(self._absolute / (total + 1e-6), max=1.0)
            self._means = key, torch.where(finite, torch.minimum(means, seen), means)
            return total
        means = torch.where(means.isfinite(), means, norms)
        limit = self._relative * means
        factors = torch.where(finite, torch.clamp(limit / (norms + 1e-12), max=1.0), 1.0)

        def clip() -> None:
            for grad, factor in zip(grads, factors.unbind(), strict=True):
                grad.mul_(factor.to(grad.dtype))

        clipping(tensors, clip)
        mixed = self._beta * means + (1 - self._beta) * torch.minimum(norms, limit)
        self._means = key, torch.where(finite, mixed, means)
        return total
