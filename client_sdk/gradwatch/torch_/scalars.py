"""Numbers from the training loop that may still be on their way from a device."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .landing import Landing, give_back, land, lands

__all__ = ["Flag", "HostCopy", "Later", "Now", "defer"]


class HostCopy:
    """A tensor on its way to the host, without making the host wait.

    From CUDA it comes by pinned memory behind the work already queued (:mod:`~.landing`). From other devices the copy is made by
    :meth:`numpy`, in whichever thread calls it.
    """

    __slots__ = ("_landing", "_tensor", "_values")

    def __init__(self, tensor: Tensor) -> None:
        self._landing: Landing | None = None
        self._tensor: Tensor | None = None
        self._values: npt.NDArray[np.float64] | None = None
        if lands(tensor):
            self._landing = land(tensor)
        else:
            self._tensor = tensor

    def ready(self) -> bool:
        """Whether :meth:`numpy` would return at once."""
        return self._landing is None or self._landing.arrived

    def numpy(self) -> npt.NDArray[np.float64]:
        """The values in float64. Waits for the device.

        Raises:
            TimeoutError: the device doesn't deliver.
        """
        if self._values is None:
            if self._landing is not None:
                self._landing.wait()
                self._values = np.array(self._landing.numbers.double().numpy())
                give_back(self._landing)
                self._landing = None
            elif self._tensor is not None:
                self._values = np.asarray(self._tensor.detach().cpu().double().numpy())
                self._tensor = None
        assert self._values is not None
        return self._values

    def __del__(self) -> None:
        if self._landing is not None:
            give_back(self._landing)


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
