"""A multiplier on learning rates that schedulers never see."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Rates"]


class Rates:
    """Multiplied learning rates, and what the script had set."""

    def __init__(self) -> None:
        self._set: list[tuple[dict[str, Any], float | Tensor]] = []

    def scale(self, optimizer: Optimizer, multiplier: float) -> None:
        """Multiplies the rate of every group. A rate that is a tensor is changed in place: compiled steps hold it."""
        for group in optimizer.param_groups:
            rate = group.get("lr")
            if isinstance(rate, Tensor):
                self._set.append((group, rate.detach().clone()))
                rate.mul_(multiplier)
            elif rate is not None:
                self._set.append((group, rate))
                group["lr"] = rate * multiplier

    def restore(self) -> None:
        """Puts back what the script had set; also after a step that raised."""
        for group, rate in self._set:
            if isinstance(rate, Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = rate
        self._set.clear()
