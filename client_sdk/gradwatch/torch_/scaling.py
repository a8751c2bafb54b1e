"""What a ``GradScaler``, or somebody else who leaves out steps, does to one."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch.optim import Optimizer

from .scalars import Flag, Later, Now, defer

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

__all__ = ["SKIPS", "Scaling", "scale_of"]

SKIPS: Final[weakref.WeakKeyDictionary[Optimizer, Now | Flag]] = weakref.WeakKeyDictionary()
"""Whether the step that an optimizer is about to make will be left out, where somebody decides that. Taken by who measures."""


@dataclass(eq=False, slots=True)
class Scaling:
    """A ``GradScaler.step`` in progress; ``seen`` once the optimizer has really stepped."""

    optimizer: weakref.ref[Optimizer]
    scale: Later | Now | None
    seen: bool = False

    def concerns(self, optimizer: Optimizer) -> bool:
        """Whether it is a step of ``optimizer``."""
        return self.scale is not None and self.optimizer() is optimizer

    def note(self, optimizer: Optimizer, numbers: dict[str, Later | Now | Flag], *, skipped: bool) -> None:
        """Adds ``loss_scale`` and ``skipped``. A fused optimizer decides on the device whether it skips."""
        assert self.scale is not None
        self.seen = True
        found = defer(getattr(optimizer, "found_inf", None))
        numbers["loss_scale"] = self.scale
        numbers["skipped"] = Now(float(skipped)) if found is None else Flag(found)


def scale_of(scaler: GradScaler) -> Later | Now | None:
    """The loss scale, read without waiting for the device."""
    return defer(scaler._get_scale_async())
