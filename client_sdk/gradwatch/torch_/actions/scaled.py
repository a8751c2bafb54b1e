"""Optimizers that step by a flag on the device, and gradients that still have the loss scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["steps_by_flag", "under_scaler", "unscale"]


def steps_by_flag(optimizer: Optimizer) -> bool:
    """Whether ``optimizer.found_inf`` decides on the device if it steps (fused ones)."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def under_scaler(optimizer: Optimizer) -> bool:
    """Whether a ``GradScaler`` makes this step: what overflows is then its to skip, and normal."""
    return hasattr(optimizer, "grad_scale")


def unscale(optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
    """Divides the gradients by the loss scale where a fused optimizer would do it in its step."""
    scale = getattr(optimizer, "grad_scale", None)
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if scale is not None and grads:
        torch._foreach_mul_(grads, scale.double().reciprocal().float())
        optimizer.grad_scale = None  # type: ignore[attr-defined]
