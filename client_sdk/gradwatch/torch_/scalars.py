"""Numbers from the training loop that may still be on their way from a device."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Flag", "HostCopy", "Later", "Now", "defer"]


class HostCopy:
    """A tensor on its way to the host, without making the host wait.

    On CUDA the copy goes to pinned memory behind the work already queued, and an event tells when it is there. On other
    devices the copy is made by :meth:`numpy`, in whichever thread calls it.
    """

    __slots__ = ("_event", "_tensor")

    def __init__(self, tensor: Tensor) -> None:
        self._event: Any = None
        if tensor.device.type == "cuda":
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            pinned.copy_(tensor, non_blocking=True)
            event: Any = torch.cuda.Event
            self._event = event()
            self._event.record(torch.cuda.current_stream(tensor.device))
            self._tensor = pinned
        else:
            self._tensor = tensor

    def ready(self) -> bool:
        """Whether :meth:`numpy` would return at once."""
        return self._event is None or bool(self._event.query())

    def numpy(self) -> npt.NDArray[np.float64]:
        """The values in float64. Waits for the device."""
        if self._event is not None:
            self._event.synchronize()
        return np.asarray(self._tensor.detach().cpu().double().numpy())


class Later:
    """A scalar that is read from its device when it is asked for."""

    __slots__ = ("_copy",)

    def __init__(self, tensor: Tensor) -> None:
        self._copy = HostCopy(tensor)

    def ready(self) -> bool:
        """Whether calling it would return at once."""
        return self._copy.ready()

    def __call__(self) -> float:
        return float(self._copy.numpy().reshape(-1)[0])


class Flag:
    """1.0 if a number is not zero, else 0.0."""

    __slots__ = ("_number",)

    def __init__(self, number: Later | Now) -> None:
        self._number = number

    def ready(self) -> bool:
        """Whether calling it would return at once."""
        return self._number.ready()

    def __call__(self) -> float:
        return float(self._number() != 0.0)


class Now:
    """A scalar that is already known."""

    __slots__ = ("_value",)

    def __init__(self, value: float) -> None:
        self._value = value

    def ready(self) -> bool:
        """True."""
        return True

    def __call__(self) -> float:
        return self._value


def defer(value: Any) -> Later | Now | None:
    """``value`` as something that gives a float when called, or None if it is not one real number.

    Taken are numbers, numpy scalars, and numpy arrays and tensors of one element. What is on the CPU is read at once;
    what is on a device is copied without waiting for it, so that a later change in place does no harm. Of a distributed
    tensor only a replicated one is taken: the whole of another would need communication.
    """
    if type(value) is float:
        return Now(value)
    if isinstance(value, Tensor):
        if type(value) is Tensor and value.is_cpu and value.numel() == 1 and not value.is_complex():
            return Now(float(value.item()))
        return _defer_tensor(value)
    if isinstance(value, (np.ndarray, np.generic)):
        usable = value.size == 1 and value.dtype.kind in "biuf"
        return Now(float(value.reshape(-1)[0])) if usable else None
    if isinstance(value, Real):
        return Now(_to_float(value))
    return None


def _defer_tensor(value: Tensor) -> Later | Now | None:
    tensor = value.detach()
    placements = getattr(tensor, "placements", None)
    if placements is not None:
        if not all(placement.is_replicate() for placement in placements):
            return None
        tensor = cast(Any, tensor).to_local()
    if tensor.numel() != 1 or tensor.is_complex() or tensor.device.type == "meta":
        return None
    if tensor.device.type == "cpu":
        return Now(float(tensor))
    return Later(tensor.clone())


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
