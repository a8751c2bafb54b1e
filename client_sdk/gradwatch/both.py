"""Capture and what it does not know of, as one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .torch_.capture import Capture
    from .torch_.local_norms import LocalNorms

__all__ = ["Both"]


@dataclasses.dataclass(frozen=True)
class Both:
    """Capture and what it does not know of, for the run that lets go of both."""

    capture: Capture
    local: LocalNorms

    @property
    def next_step(self) -> int:
        return self.capture.next_step

    def look_closely(self, steps: int) -> None:
        self.capture.look_closely(steps)
        self.local.look_closely(self.next_step + steps)

    def scalar_step(self) -> int:
        return self.capture.scalar_step()

    def detach(self) -> None:
        self.capture.detach()
        self.local.detach()
