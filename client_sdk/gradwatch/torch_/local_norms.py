"""A rank's own gradient norm under DistributedDataParallel, taken before gradients are averaged over the ranks.

A hook on every parameter sees its gradient right after it is written and before the reducer sends it; the hooks are there
only for the steps that are sampled.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

from ..frames import Frame, PendingFrame
from ..place import LOCAL_EVERY, LOCAL_NORM
from .scalars import HostCopy

__all__ = ["LocalNorms"]

_HALF: Final = (torch.float16, torch.bfloat16)


class LocalNorms:
    """Adds the norm to the frame of every so many steps.

    Args:
        models: whose gradients; held weakly.
        put: where frames go.
        wrap: makes a hook that cannot harm training.
        only: whether all other frames are left out.
        every: steps between samples.
    """

    def __init__(
        self,
        models: Sequence[torch.nn.Module],
        put: Callable[[PendingFrame], None],
        *,
        wrap: Callable[[Callable[..., Any], str], Callable[..., Any]],
        only: bool,
        every: int = LOCAL_EVERY,
    ) -> None:
        self._models = [weakref.ref(model) for model in models]
        self._put = put
        self._wrap = wrap
        self._only = only
        self._every = every
        self._closely_until = 0
        self._hooks: list[Any] = []
        self._norms: dict[int, torch.Tensor] = {}

    def put(self, frame: PendingFrame) -> None:
        """Takes a frame in the training thread, and hands it on."""
        sampled, copies = frame.step > 0 and self._due(frame.step), self._take()
        if sampled and copies:
            self._put(_WithNorm(frame, copies))
        elif not self._only:
            self._put(frame)
        if self._due(frame.step + 1):
            self._arm()

    def look_closely(self, until: int) -> None:
        """Samples every step before ``until``; from any thread."""
        self._closely_until = until

    def _due(self, step: int) -> bool:
        return step % self._every == 0 or step < self._closely_until

    def detach(self) -> None:
        """Removes the hooks."""
        while self._hooks:
            self._hooks.pop().remove()
        self._norms.clear()

    def _arm(self) -> None:
        norms = self._norms
        models = [model for ref in self._models if (model := ref()) is not None]
        parameters: list[Any] = [parameter for model in models for parameter in model.parameters()]
        for number, parameter in enumerate(parameters):
            if parameter.requires_grad and parameter.is_leaf:
                hook = self._wrap(_taker(norms, number), "measuring this rank's own gradients")
                self._hooks.append(parameter.register_post_accumulate_grad_hook(hook))

    def _take(self) -> list[HostCopy]:
        devices: dict[torch.device, list[torch.Tensor]] = {}
        for norm in self._norms.values():
            devices.setdefault(norm.device, []).append(norm)
        self.detach()
        return [HostCopy(torch.stack(norms)) for norms in devices.values()]


def _taker(norms: dict[int, torch.Tensor], number: int) -> Callable[[torch.Tensor], None]:
    """Keeps the norm of what a backward has left; the last micro-batch is the one that counts."""

    @torch.no_grad()
    def take(parameter: torch.Tensor) -> None:
        grad = parameter.grad
        if grad is not None and grad.layout is torch.strided:
            dtype = torch.float32 if grad.dtype in _HALF else None
            norms[number] = torch.linalg.vector_norm(grad, dtype=dtype).float()

    return take


class _WithNorm:
    """A frame with the norm beside it."""

    def __init__(self, frame: PendingFrame, copies: Sequence[HostCopy]) -> None:
        self._frame, self._copies = frame, copies

    @property
    def step(self) -> int:
        """As of the frame."""
        return self._frame.step

    def ready(self) -> bool:
        """Whether the numbers are there."""
        return self._frame.ready() and all(copy.ready() for copy in self._copies)

    def resolve(self) -> Frame:
        """The frame. A loss scale is taken out of the norm as out of all others."""
        frame = self._frame.resolve()
        norms = np.concatenate([copy.numpy().reshape(-1) for copy in self._copies])
        scale = frame.values.get("loss_scale", np.ones(1))[0]
        with np.errstate(all="ignore"):
            norm = np.sqrt(np.dot(norms, norms)) / scale
        return Frame(
            step=frame.step,
            time=frame.time,
            values={**frame.values, LOCAL_NORM.name: np.array([norm])},
            present=frame.present,
            schema=frame.schema,
        )
