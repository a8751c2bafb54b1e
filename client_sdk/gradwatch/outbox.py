"""What the training thread has measured and the sender has not yet taken: bounded, never blocking, counting what it drops.

``put`` is O(1) and takes no lock: appending to and popping from a ``deque`` are atomic. One training thread (or several)
puts, one sender thread takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .frames import Frame, PendingFrame
from .protocol import Statistic, Tensor
from .protocol.messages import FLIGHT_MARK

__all__ = ["FramesOnly", "MarkPoint", "Outbox", "ReadyFrame", "ScalarPoint"]


@dataclass(frozen=True, slots=True)
class ScalarPoint:
    """One logged value. ``value`` is a number, or gives it when called (it may still be on a device)."""

    name: str
    step: int
    time: float
    value: float | Callable[[], float]


@dataclass(frozen=True, slots=True)
class MarkPoint:
    """A mark without its sequence number."""

    step: int
    time: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ReadyFrame:
    """A frame whose numbers are all here, as a :class:`~.frames.PendingFrame`."""

    frame: Frame

    @property
    def step(self) -> int:
        return self.frame.step

    def ready(self) -> bool:
        return True

    def resolve(self) -> Frame:
        return self.frame


class Outbox:
    """Bounded queues of frames, scalars and marks; when one is full its oldest entry goes.

    Args:
        max_frames: most frames kept, whatever their size.
        max_bytes: most bytes of frames kept, after the size that :meth:`declare` implies.
        max_points: most scalars, and most marks, kept.
    """

    def __init__(
        self, *, max_frames: int = 20_000, max_bytes: int = 256 * 1024**2, max_points: int = 200_000
    ) -> None:
        self.declarations: list[tuple[tuple[Tensor, ...], tuple[Statistic, ...]]] = []
        self.dropped_frames: deque[int] = deque(maxlen=max_frames)
        self.dropped_points = 0
        self.last_step = -1
        self.puts = 0
        self.sleeping = False
        self.wake: Callable[[], None] = lambda: None
        self._frames: deque[PendingFrame] = deque()
        self._scalars: deque[ScalarPoint] = deque()
        self._marks: deque[MarkPoint] = deque()
        self._limit = max_frames
        self._max_bytes = max_bytes
        self._max_points = max_points

    def declare(self, tensors: tuple[Tensor, ...], statistics: tuple[Statistic, ...]) -> None:
        """New columns: frames with ``schema == len(declarations)`` have them."""
        size = sum(s.width * int(s.dtype[1]) // max(s.cadence, 1) for s in statistics)
        self._limit = max(16, min(self._limit, self._max_bytes // max(size, 1)))
        self.declarations.append((tensors, statistics))

    def put(self, frame: PendingFrame) -> None:
        """Adds a frame; the oldest goes if there are too many."""
        if len(self._frames) >= self._limit:
            try:
                self.dropped_frames.append(self._frames.popleft().step)
            except IndexError:
                pass
        self._frames.append(frame)
        self.puts += 1
        self.last_step = frame.step
        if self.sleeping:
            self._wake()

    def put_scalar(self, point: ScalarPoint) -> None:
        """Adds a logged value."""
        if len(self._scalars) >= self._max_points:
            self.dropped_points += 1
            return
        self._scalars.append(point)
        self.puts += 1
        if self.sleeping:
            self._wake()

    def put_mark(self, mark: MarkPoint) -> None:
        """Adds a mark."""
        if len(self._marks) >= self._max_points:
            self.dropped_points += 1
            return
        self._marks.append(mark)
        if self.sleeping:
            self._wake()

    def __len__(self) -> int:
        return len(self._frames) + len(self._scalars) + len(self._marks)

    def take_frames(self, limit: int, *, force: bool = False) -> list[PendingFrame]:
        """Up to ``limit`` frames, oldest first, as far as their numbers have arrived (all of them if ``force``)."""
        taken: list[PendingFrame] = []
        while self._frames and len(taken) < limit:
            head = self._frames[0]
            if not (force or head.ready()):
                break
            try:
                taken.append(self._frames.popleft())
            except IndexError:
                break
        return taken

    def take_scalars(self, limit: int, before: int | None = None) -> list[ScalarPoint]:
        """Up to ``limit`` logged values, oldest first; with ``before`` none of a step from that one on."""
        taken: list[ScalarPoint] = []
        while self._scalars and len(taken) < limit and (before is None or self._scalars[0].step < before):
            taken.append(self._scalars.popleft())
        return taken

    def take_marks(self) -> list[MarkPoint]:
        """All marks."""
        return [self._marks.popleft() for _ in range(len(self._marks))]

    def take_dropped(self) -> list[int]:
        """The steps of frames that were dropped since the last call."""
        return [self.dropped_frames.popleft() for _ in range(len(self.dropped_frames))]

    def head_step(self) -> int | None:
        """The step of the oldest frame that waits."""
        try:
            return self._frames[0].step
        except IndexError:
            return None

    def _wake(self) -> None:
        self.sleeping = False
        self.wake()


class FramesOnly(Outbox):
    """What a rank beside the first sends: what it measured, and which samples it saw. What scripts log and mark there, the
    first rank says too."""

    def put_scalar(self, point: ScalarPoint) -> None:
        """Leaves it out."""

    def put_mark(self, mark: MarkPoint) -> None:
        """Leaves it out, but for the flight recorder's."""
        if mark.kind == FLIGHT_MARK:
            super().put_mark(mark)
