"""One look at a model before its first step: what a forward and a backward pass over one batch show. Plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .protocol import Tensor

__all__ = ["Glimpse", "Layer", "Parameter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A module without children, in the order of the forward pass. Numbers are NaN when they don't apply.

    ``rms`` is of its output, ``grad_rms`` of the loss's gradient with respect to that. ``dead`` is the share of units that are
    zero for the whole batch (ReLU and kin), ``saturated`` the share of values in the flat part (tanh, sigmoid).
    ``then`` is what its output meets next: an activation's name, "norm", "linear" (nothing), or "" when that can't be seen.
    """

    name: str
    type: str
    rms: float = math.nan
    grad_rms: float = math.nan
    finite: bool = True
    dead: float = math.nan
    saturated: float = math.nan
    std: float = math.nan
    """Standard deviation of its weight."""
    fan_in: int = 0
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter tensor and its gradient's L2 norm: None without a gradient."""

    tensor: Tensor
    grad_norm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """Everything seen. ``expected`` is the loss of a model that knows nothing, NaN when unknown, with its reason in words."""

    layers: tuple[Layer, ...]
    parameters: tuple[Parameter, ...]
    loss: float
    expected: float = math.nan
    expected_why: str = ""
    input_rms: float = math.nan
    input_mean: float = math.nan
    input_finite: bool = True
    with_optimizer: bool = False
    """Whether it is known which parameters an optimizer holds."""
