"""Frames and scalars in, numbered records out. Pure: no clock, no thread, no socket.

Frames that wait together become one batch: per statistic one block ``[steps, width]``. Logged scalars are float64 blocks
of width 1 with their own steps. A scalar is sent once its step is over; several values of one name at one step are
averaged, those in :data:`SUMMED` added up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .frames import Frame
from .outbox import MarkPoint
from .protocol import Batch, Block, Bye, Lost, Mark, Record, Schema, Statistic, Tensor
from .protocol.limits import MAX_NAME, MAX_STATISTICS, MAX_STORED_STEP
from .protocol.messages import EndState

__all__ = ["BATCH_BYTES", "QUIET_S", "SUMMED", "Packer", "short_name"]

BATCH_BYTES: Final = 4 * 1024 * 1024
"""A batch is closed when its frames reach this size."""

QUIET_S: Final = 1.0
"""A scalar that came once per step so far is sent this long after its value, even if the step is not over: with steps
of a minute, or at the end of a notebook's loop, the last loss would otherwise stay away."""


SUMMED: Final = frozenset({"batch/size", "batch/tokens"})
"""Scalars of which a step has the sum of what its micro-batches say."""


@dataclass(slots=True)
class _Open:
    """The values of one scalar at the step that is not over yet."""

    step: int
    time: float
    total: float
    count: int
    sent: bool = False


@dataclass(slots=True)
class _Columns:
    """What the current schema declares."""

    tensors: tuple[Tensor, ...] = ()
    captured: tuple[Statistic, ...] = ()
    index: dict[str, int] | None = None


class Packer:
    """Makes the records of one stream, numbered from ``first_seq``.

    Counts in :attr:`late` the values that came for a step already sent, and in :attr:`refused` the frames whose step did
    not rise, the scalars beyond the limit of names, and steps that no server takes: they are left out.
    """

    def __init__(self, first_seq: int = 0) -> None:
        self.next_seq = first_seq
        self.schema_id = -1
        self.late = 0
        self.refused = 0
        self.last_step = -1
        self._columns = _Columns()
        self._declaration = 0
        self._tensors_told = False
        self._logged: dict[str, str] = {}
        self._open: dict[str, _Open] = {}
        self._repeats: set[str] = set()
        self._done: list[tuple[str, _Open]] = []
        self._stale = True

    # --- what comes in ------------------------------------------------------------------------------------------------

    def declare(self, tensors: tuple[Tensor, ...], statistics: tuple[Statistic, ...]) -> None:
        """New captured columns; the next batch is preceded by a schema."""
        self._tensors_told = self._tensors_told and tensors == self._columns.tensors
        self._columns = _Columns(tensors, statistics)
        self._stale = True

    def add_scalar(self, name: str, step: int, time: float, value: float) -> None:
        """A logged value of ``name`` at ``step``."""
        if not 0 <= step < MAX_STORED_STEP:
            self.refused += 1
            return
        if name not in self._logged:
            if len(self._logged) + len(self._columns.captured) >= MAX_STATISTICS - 64:
                self.refused += 1
                return
            self._logged[name] = short_name(name)
            self._stale = True
        at = self._open.get(name)
        if at is None or step > at.step:
            if at is not None and not at.sent:
                self._done.append((name, at))
            self._open[name] = _Open(step, time, value, 1)
        elif step < at.step or at.sent:
            self.late += 1
            self._repeats.add(name)
        else:
            at.total += value
            at.count += 1
            at.time = time
            self._repeats.add(name)

    # --- what goes out ------------------------------------------------------------------------------------------------

    def pack(
        self,
        frames: Sequence[Frame],
        declarations: Sequence[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]],
        now: float,
        *,
        final: bool = False,
    ) -> list[Record]:
        """The records for ``frames`` and for every scalar whose step is over (all of them if ``final``).

        ``declarations[n - 1]`` are the columns of frames with ``schema`` n; ``now`` is on the clock of the scalars' times.
        """
        records: list[Record] = []
        run: list[Frame] = []
        size = 0
        for frame in frames:
            if not self.last_step < frame.step < MAX_STORED_STEP:
                self.refused += 1
                continue
            if frame.schema != self._declaration or size > BATCH_BYTES:
                records += self._batch(run)
                run, size = [], 0
            if frame.schema != self._declaration:
                self._adopt(frame.schema, declarations)
            self.last_step = frame.step
            run.append(frame)
            size += sum(row.nbytes for row in frame.values.values())
        if not frames and len(declarations) > self._declaration:
            self._adopt(len(declarations), declarations)
        self._close_scalars(now, final)
        return records + self._batch(run, self._take_done())

    def mark(self, mark: MarkPoint) -> Mark:
        """A mark as the next record."""
        return Mark(
            seq=self._number(), step=max(mark.step, 0), time=mark.time, kind=mark.kind, data=mark.data
        )

    def lost(self, steps: Sequence[int], reason: str) -> Lost:
        """Frames at ``steps`` will never come."""
        return Lost(
            seq=self._number(), from_step=min(steps), to_step=max(steps), frames=len(steps), reason=reason
        )

    def bye(self, state: EndState, time: float, reason: str, error: dict[str, Any] | None) -> Bye:
        """The last record."""
        return Bye(seq=self._number(), state=state, time=time, reason=reason, error=error)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _number(self) -> int:
        self.next_seq += 1
        return self.next_seq - 1

    def _adopt(
        self, number: int, declarations: Sequence[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]]
    ) -> None:
        self._declaration = number
        if number > 0:
            self.declare(*declarations[number - 1])

    def _close_scalars(self, now: float, final: bool) -> None:
        for name, at in self._open.items():
            quiet = name not in self._repeats and at.step <= self.last_step and now - at.time > QUIET_S
            if not at.sent and (final or at.step < self.last_step or quiet):
                self._done.append((name, at))
                at.sent = True

    def _take_done(self) -> dict[str, list[_Open]]:
        points: dict[str, list[_Open]] = {}
        for name, at in self._done:
            points.setdefault(name, []).append(at)
        self._done = []
        return points

    def _batch(self, frames: Sequence[Frame], scalars: dict[str, list[_Open]] | None = None) -> list[Record]:
        records: list[Record] = []
        if self._stale and (frames or scalars or self._columns.captured):
            records.append(self._schema())
        if not frames and not scalars:
            return records
        assert self._columns.index is not None
        blocks = [*_frame_blocks(frames, self._columns), *self._scalar_blocks(scalars or {})]
        records.append(Batch(seq=self._number(), schema=self.schema_id, blocks=tuple(blocks)))
        return records

    def _schema(self) -> Schema:
        taken = {s.name for s in self._columns.captured}
        for name in self._logged:
            short = short_name(name)
            self._logged[name] = f"log/{short}" if short in taken else short
        logged = tuple(
            Statistic(name=name, scope="run", width=1, dtype="f8", cadence=0, logged=True)
            for name in self._logged.values()
        )
        statistics = self._columns.captured + logged
        self._columns.index = {s.name: i for i, s in enumerate(statistics)}
        self.schema_id += 1
        self._stale = False
        tensors = None if self._tensors_told else self._columns.tensors
        self._tensors_told = True
        return Schema(seq=self._number(), id=self.schema_id, statistics=statistics, tensors=tensors)

    def _scalar_blocks(self, scalars: dict[str, list[_Open]]) -> Iterable[Block]:
        axes: dict[tuple[int, ...], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
        assert self._columns.index is not None
        for name, points in scalars.items():
            key = tuple(p.step for p in points)
            if key not in axes:
                axes[key] = np.array(key, dtype=np.float64), np.array([p.time for p in points])
            steps, times = axes[key]
            values = np.array([[p.total / (1 if name in SUMMED else p.count)] for p in points])
            yield Block(
                statistic=self._columns.index[self._logged[name]], steps=steps, times=times, values=values
            )


def _frame_blocks(frames: Sequence[Frame], columns: _Columns) -> Iterable[Block]:
    """One block per statistic that occurs; statistics that occur in the same frames share their step axis."""
    members: dict[str, list[int]] = {}
    for i, frame in enumerate(frames):
        for name in frame.values:
            members.setdefault(name, []).append(i)
    axes: dict[tuple[int, ...], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    assert columns.index is not None
    for name, rows in members.items():
        key = tuple(rows)
        if key not in axes:
            axes[key] = (
                np.array([frames[i].step for i in rows], dtype=np.float64),
                np.array([frames[i].time for i in rows], dtype=np.float64),
            )
        steps, times = axes[key]
        index = columns.index[name]
        dtype = f"<{columns.captured[index].dtype}"
        values = np.stack([np.atleast_1d(frames[i].values[name]) for i in rows]).astype(dtype, copy=False)
        present = _presence([frames[i] for i in rows], name, values.shape[1])
        yield Block(statistic=index, steps=steps, times=times, values=values, present=present)


def _presence(frames: Sequence[Frame], name: str, width: int) -> npt.NDArray[np.bool_] | None:
    if not any(name in frame.present for frame in frames):
        return None
    whole = np.ones(width, dtype=np.bool_)
    return np.stack([frame.present.get(name, whole) for frame in frames])


def short_name(name: str) -> str:
    """``name``, or its beginning and a hash when it is longer than the wire takes."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 17]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
