"""What came, in the order in which it is judged: marks, frames and scalars by step, whatever batches they came in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .frames import Frame, RankSample
from .losses import LossTrack
from .observation import Observation, Series

__all__ = [
    "FRAME_STATISTICS",
    "VALIDATION",
    "Intake",
    "MarkEvent",
    "ScalarEvent",
    "intake_from",
]

FRAME_STATISTICS: Final = frozenset(
    (
        "clip_coef",
        "clip_limit",
        "global_grad_norm",
        "global_grad_norm_clipped",
        "input_nonfinite",
        "loss_scale",
        "lr",
        "skipped",
        "step_time",
    )
)
"""Run-level statistics that belong to a frame; any other run-level name is a scalar that the user logged."""

RANK_STATISTICS: Final = frozenset(("rank_grad_norm", "replica_gap"))
"""What the ranks of a run say side by side. It comes when the last of them has spoken, often after the step was judged."""

VALIDATION: Final = frozenset(
    ("eval/loss", "eval_loss", "test/loss", "val/loss", "val_loss", "valid/loss", "validation/loss")
)
"""Names under which people log the validation loss."""

_HOLD: Final = 4
_AHEAD: Final = 1000
"""Scalars that may wait for the frame of their step; more mean that no frame will come."""
_MARK, _FRAME, _SCALAR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class MarkEvent:
    """A mark whose turn has come."""

    step: int
    kind: str


@dataclass(frozen=True, slots=True)
class ScalarEvent:
    """A logged scalar whose turn has come."""

    step: int
    name: str
    value: float


Event: TypeAlias = MarkEvent | Frame | ScalarEvent | RankSample


@dataclass(slots=True)
class Intake:
    """What waits. ``scalars`` are ``[step, name, value]``, ``marks`` ``[step, kind]``; all sorted by step."""

    newest: int = -1
    frames: list[Frame] = field(default_factory=list)
    scalars: list[list[Any]] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    ranks: list[RankSample] = field(default_factory=list)

    def collect(self, observation: Observation, width: int) -> None:
        """Takes an observation over ``width`` tensors in."""
        frames = {f.step: f for f in self.frames}
        for series in observation.series:
            if series.scope == "tensor":
                self._add_rows(frames, series, width)
            elif series.name in RANK_STATISTICS and series.scope in ("run", "rank"):
                self.ranks += _rank_events(series)
            elif series.name in FRAME_STATISTICS and series.scope in ("run", "rank"):
                self._add_run(frames, series)
            elif series.scope == "run" and (series.name == "loss" or series.name in VALIDATION):
                there = (
                    np.ones(len(series.steps), np.bool_) if series.present is None else series.present[:, 0]
                )
                found = zip(series.steps[there].tolist(), series.values[there, 0].tolist(), strict=True)
                self.scalars += [[int(step), series.name, value] for step, value in found]
        self.frames = [frames[step] for step in sorted(frames)]
        if self.frames:
            self.newest = max(self.newest, self.frames[-1].step)
        self.scalars.sort(key=lambda item: (item[0], item[1]))
        self.marks += [[mark.step, mark.kind] for mark in observation.marks]
        self.marks.sort(key=lambda item: item[0])

    def due(self, loss: LossTrack) -> Iterator[Event]:
        """What can be judged now, in order; each is forgotten here once it is given.

        ``loss`` is read anew each time: a frame waits while the loss that should come before it is overdue.
        """
        ranks, self.ranks = deque(sorted(self.ranks, key=lambda sample: sample.step)), []
        order = [(int(m[0]), _MARK, n) for n, m in enumerate(self.marks)]
        order += [(f.step, _FRAME, n) for n, f in enumerate(self.frames)]
        order += [(int(s[0]), _SCALAR, n) for n, s in enumerate(self.scalars)]
        order.sort()
        frames, scalars, marks = self.frames, self.scalars, self.marks
        newest_loss = max((int(s[0]) for s in scalars if s[1] == "loss"), default=-1)
        crowded = len(scalars) >= _AHEAD
        given = 0
        for step, what, n in order:
            if what == _FRAME and self._must_wait(step, loss, newest_loss):
                break
            if what == _SCALAR and step > self.newest >= 0 and not crowded:
                break
            given += 1
            while ranks and ranks[0].step < step:
                yield ranks.popleft()
            if what == _FRAME:
                yield frames[n]
            elif what == _SCALAR:
                yield ScalarEvent(int(scalars[n][0]), str(scalars[n][1]), float(scalars[n][2]))
            else:
                yield MarkEvent(int(marks[n][0]), str(marks[n][1]))
        yield from ranks
        left = order[given:]
        self.marks = [marks[n] for _, what, n in left if what == _MARK]
        self.frames = [frames[n] for _, what, n in left if what == _FRAME]
        self.scalars = [scalars[n] for _, what, n in left if what == _SCALAR]

    def _must_wait(self, step: int, loss: LossTrack, newest_loss: int) -> bool:
        if loss.gap != loss.gap or self.newest >= step + _HOLD:
            return False
        expected = loss.step + loss.gap
        return 0 <= step - 1 - expected < 20 and newest_loss < expected

    @staticmethod
    def _add_run(frames: dict[int, Frame], series: Series) -> None:
        values = series.values.astype(np.float64, copy=False)
        present = series.present
        for n, (at, time) in enumerate(zip(series.steps.tolist(), series.times.tolist(), strict=True)):
            if present is None or present[n].any():
                _frame(frames, at, time).run[series.name] = values[n]

    @staticmethod
    def _add_rows(frames: dict[int, Frame], series: Series, width: int) -> None:
        values, present = _spread(series, width)
        whole: list[bool] | None = None if present is None else np.all(present, axis=1).tolist()
        for n, (at, time) in enumerate(zip(series.steps.tolist(), series.times.tolist(), strict=True)):
            frame, row = _frame(frames, at, time), values[n]
            if present is not None and whole is not None and not whole[n]:
                row = np.where(present[n], row, np.nan)
                if series.name == "grad_norm":
                    frame.present = present[n]
                elif series.name == "weight_norm":
                    frame.weighed = present[n]
            frame.rows[series.name] = row


def _rank_events(series: Series) -> Iterator[RankSample]:
    whole = np.ones(series.values.shape, np.bool_) if series.present is None else series.present
    for step, values, present in zip(series.steps.tolist(), series.values, whole, strict=True):
        yield RankSample(int(step), series.name, values.astype(np.float64), present)


def _frame(frames: dict[int, Frame], at: float, time: float) -> Frame:
    step = int(at)
    if step not in frames:
        frames[step] = Frame(step, time)
    return frames[step]


def _spread(series: Series, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]:
    """Values and presence over all ``width`` tensors, float64."""
    values = series.values.astype(np.float64, copy=False)
    rows = np.arange(values.shape[1]) if series.rows is None else np.asarray(series.rows)
    if values.shape[1] == width and (series.rows is None or bool((rows == np.arange(width)).all())):
        return values, series.present
    wide = np.full((len(values), width), np.nan)
    there = np.zeros((len(values), width), dtype=np.bool_)
    wide[:, rows] = values
    there[:, rows] = True if series.present is None else series.present
    return wide, there


def intake_from(plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> Intake:
    """An Intake from its packed state; ``arrays`` have paths below it."""
    found = Intake(newest=int(plain["newest"]), scalars=list(plain["scalars"]), marks=list(plain["marks"]))
    for n, frame in enumerate(plain["frames"]):
        prefix = f"/frames/{n}/"
        kept = {path[len(prefix) :]: a for path, a in arrays.items() if path.startswith(prefix)}
        rows = {path[5:]: a for path, a in kept.items() if path.startswith("rows/")}
        run = {path[4:]: a for path, a in kept.items() if path.startswith("run/")}
        found.frames.append(
            Frame(
                int(frame["step"]), float(frame["time"]), rows, run, kept.get("present"), kept.get("weighed")
            )
        )
    return found
