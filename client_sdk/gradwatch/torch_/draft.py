"""A frame in the making: measured in the training thread, put together in the sender thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..frames import Frame
from ..protocol import Statistic
from ..protocol.histogram import CELLS
from .measured import Columns, Floats, Norms
from .sampled import HISTOGRAM, HISTOGRAM_CADENCE, SAMPLED, Sample
from .scalars import Flag, Later, Now

__all__ = ["RUN_STATISTICS", "TENSOR_STATISTICS", "Clip", "Draft", "statistics"]

TENSOR_STATISTICS: Final = ("grad_norm", "grad_maxabs", "grad_nonfinite")
"""Per tensor, float32: L2 norm before clipping; max-abs and count of non-finite elements where they were looked at."""

RUN_STATISTICS: Final = (
    "global_grad_norm",
    "global_grad_norm_clipped",
    "clip_coef",
    "clip_limit",
    "loss_scale",
    "skipped",
    "step_time",
)
"""One number per step, float64; a frame has only those that occurred."""


def statistics(tensors: int, groups: int, cadence: int) -> tuple[Statistic, ...]:
    """The declaration of everything a frame may hold, for so many tensors and parameter groups."""
    declared = [
        Statistic(name=name, scope="tensor", width=tensors, cadence=cadence) for name in TENSOR_STATISTICS
    ]
    declared += [Statistic(name=name, scope="run", dtype="f8") for name in RUN_STATISTICS]
    declared += [Statistic(name=name, scope="tensor", width=tensors, cadence=0) for name in SAMPLED]
    declared.append(
        Statistic(name=HISTOGRAM, scope="histogram", width=tensors * CELLS, cadence=HISTOGRAM_CADENCE)
    )
    if groups:
        declared.append(Statistic(name="lr", scope="run", width=groups, dtype="f8"))
    return tuple(declared)


@dataclass(eq=False, slots=True)
class Clip:
    """Some gradients were multiplied by ``min(1, limit / (total + 1e-6))``, torch's formula."""

    columns: Columns
    limit: float
    total: Later | Now
    scale: Later | Now | None = None
    """The loss scale, if the gradients still had it."""

    def ready(self) -> bool:
        """Whether the numbers are there."""
        return self.total.ready() and (self.scale is None or self.scale.ready())

    def coefficient(self) -> float:
        """What the gradients were multiplied by; NaN if the total norm was NaN."""
        return float(np.minimum(1.0, np.float64(self.limit) / (self.total() + 1e-6)))

    def true_limit(self) -> float:
        """The limit in units of the unscaled gradients."""
        return self.limit if self.scale is None else self.limit / self.scale()


@dataclass(eq=False, slots=True)
class Draft:
    """What one step has given so far. Is a :class:`~gradwatch.frames.PendingFrame`.

    ``parts`` are norms before clipping; ``after`` norms after it, for columns where that cannot be derived from the
    coefficients in ``clips``.
    """

    step: int
    time: float
    schema: int
    width: int
    parts: list[Norms] = field(default_factory=list)
    after: list[Norms] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    numbers: dict[str, Later | Now | Flag] = field(default_factory=dict)
    lr: list[Later | Now] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def ready(self) -> bool:
        """Whether :meth:`resolve` would return at once."""
        things: list[Any] = [
            *self.parts,
            *self.after,
            *self.clips,
            *self.numbers.values(),
            *self.lr,
            *self.samples,
        ]
        return all(thing.ready() for thing in things)

    def resolve(self) -> Frame:
        """The frame. May wait for the device."""
        values: dict[str, npt.NDArray[Any]] = {}
        present: dict[str, npt.NDArray[np.bool_]] = {}
        if self.parts:
            with np.errstate(all="ignore"):
                self._add_norms(values, present)
        for sample in self.samples:
            self._add_sample(sample, values, present)
        for name, number in self.numbers.items():
            values[name] = np.array([number()], np.float64)
        if self.lr:
            values["lr"] = np.array([number() for number in self.lr], np.float64)
        return Frame(step=self.step, time=self.time, values=values, present=present, schema=self.schema)

    def _add_norms(
        self, values: dict[str, npt.NDArray[Any]], present: dict[str, npt.NDArray[np.bool_]]
    ) -> None:
        rows = np.full((3, self.width), np.nan)
        there = np.zeros(self.width, bool)
        for part in self.parts:
            rows[:, part.columns] = part.values()
            there[part.columns] = True
        if not there.any():
            return
        norms = rows[0]
        _put(values, present, "grad_norm", norms, there)
        # A NaN max-abs was looked at if its norm is NaN too; otherwise NaN means that nobody looked.
        _put(values, present, "grad_maxabs", rows[1], there & (~np.isnan(rows[1]) | np.isnan(norms)))
        _put(values, present, "grad_nonfinite", rows[2], there & ~np.isnan(rows[2]))
        values["global_grad_norm"] = np.array([_total(norms[there])])
        if self.clips or self.after:
            self._add_clipped(values, norms, there)

    def _add_sample(
        self,
        sample: Sample,
        values: dict[str, npt.NDArray[Any]],
        present: dict[str, npt.NDArray[np.bool_]],
    ) -> None:
        for name, (columns, numbers) in sample.rows().items():
            width = self.width * (CELLS if name == HISTOGRAM else 1)
            row = values.get(name, np.full(width, np.nan)).astype(np.float64)
            there = present.pop(name, np.full(width, name in values))
            row[columns], there[columns] = numbers, True
            with np.errstate(all="ignore"):
                _put(values, present, name, row, there)

    def _add_clipped(
        self, values: dict[str, npt.NDArray[Any]], norms: Floats, there: npt.NDArray[np.bool_]
    ) -> None:
        clipped = norms.copy()
        factors = [(clip.coefficient(), clip) for clip in self.clips]
        for factor, clip in factors:
            clipped[clip.columns] *= factor
        for part in self.after:
            clipped[part.columns] = part.values()[0]
        total = _total(clipped[there])
        values["global_grad_norm_clipped"] = np.array([total])
        if factors:
            # min() would lose a NaN that is not the first
            factor, clip = min(factors, key=lambda pair: -np.inf if np.isnan(pair[0]) else pair[0])
            values["clip_limit"] = np.array([clip.true_limit()])
        else:
            before = values["global_grad_norm"][0]
            factor = total / before if before else 1.0
        values["clip_coef"] = np.array([factor])


def _total(norms: Floats) -> float:
    """Norm of all elements together, in float64."""
    return float(np.sqrt(np.dot(norms, norms)))


def _put(
    values: dict[str, npt.NDArray[Any]],
    present: dict[str, npt.NDArray[np.bool_]],
    name: str,
    row: Floats,
    there: npt.NDArray[np.bool_],
) -> None:
    if not there.any():
        return
    values[name] = np.where(there, row, np.nan).astype(np.float32)
    if not there.all():
        present[name] = there
