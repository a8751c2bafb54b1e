"""A frame: everything measured at one step. What capture hands to the outbox, and the sender packs into batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "PendingFrame"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The values of one step.

    ``values`` maps the name of a declared statistic to its row: float32 or float64 ``[width]``. ``present`` has an entry,
    bool ``[width]``, only for statistics of which some values are absent (no gradient this step). ``schema`` counts the
    declarations (tensors and statistics) made so far by the capture: a frame belongs to the schema it was measured under.
    """

    step: int
    time: float
    values: Mapping[str, npt.NDArray[Any]]
    present: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    schema: int = 0


class PendingFrame(Protocol):
    """A frame whose numbers may still be on their way from a device."""

    @property
    def step(self) -> int:
        """The step it belongs to."""

    def ready(self) -> bool:
        """Whether :meth:`resolve` would return at once. Never blocks."""

    def resolve(self) -> Frame:
        """The frame; called once, in the sender thread. May wait for the device."""
