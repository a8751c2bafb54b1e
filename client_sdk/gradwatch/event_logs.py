"""TensorBoard logs as runs: what is in their event files is told to a server, at the steps and times it was written at.

Every scalar becomes a logged scalar of the same name. Tags that begin with ``grad_norm/`` (or another prefix) are gradient
norms of the tensors that the rest of the tag names: they get the heat map, baselines and the health engine.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from .errors import GradwatchError
from .run import Run
from .watching import watch

__all__ = ["EventLog", "LogRun", "Point", "find_logs", "import_logs"]

POLL_S: Final = 1.0
GLOBAL: Final = "global_grad_norm"
_PEEK: Final = 1_000
"""Events at the beginning of a file that tell which tags it has."""

MOST_WAITING: Final = 20_000
"""Values that wait for the sender before reading pauses: nothing may be dropped."""


@dataclass(frozen=True, slots=True)
class Point:
    """A scalar of an event file; ``time`` in Unix seconds."""

    tag: str
    step: int
    time: float
    value: float


def find_logs(root: Path) -> list[Path]:
    """The folders at and below ``root`` with event files in them: one run each, as TensorBoard sees it."""
    return sorted({path.parent for path in root.rglob("*tfevents*") if path.is_file()})


class EventLog:
    """A folder of event files, read as it grows.

    Raises:
        GradwatchError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            loading: Any = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
            self._tensors: Any = importlib.import_module("tensorboard.util.tensor_util")
        except ImportError:
            raise GradwatchError(
                "TensorBoard logs are read with its package: pip install tensorboard"
            ) from None
        self._loader: Any = loading.EventFileLoader
        self._folder = folder
        self._files: dict[Path, Any] = {}

    def tags(self) -> set[str]:
        """The tags that the files begin with."""
        begins = (islice(self._loader(str(path)).Load(), _PEEK) for path in self._folder.glob("*tfevents*"))
        return {value.tag for events in begins for event in events for value in event.summary.value}

    def read(self) -> Iterator[Point]:
        """The scalars that were not given yet, file by file; new files are found."""
        for path in sorted(self._folder.glob("*tfevents*")):
            if path not in self._files:
                self._files[path] = self._loader(str(path))
            for event in self._files[path].Load():
                for value in event.summary.value if event.HasField("summary") else ():
                    number = self._number(value)
                    if number is not None:
                        yield Point(value.tag, event.step, event.wall_time, number)

    def _number(self, value: Any) -> float | None:
        """Scalars come as numbers in old files and as tensors of one element in new ones; all else is no scalar."""
        if value.HasField("simple_value"):
            return float(value.simple_value)
        if not value.HasField("tensor"):
            return None
        array = self._tensors.make_ndarray(value.tensor)
        return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "biuf" else None


class LogRun:
    """A log being told as a run.

    Args:
        prefix: tags that begin so are gradient norms; "" for none.
        derived: whether norms of the whole and of groups are left out, since they follow from those of the tensors.
        begin: starts the run that began at the given time. Called at the first value.
        pause: called while too much waits to be sent.
    """

    def __init__(
        self,
        prefix: str,
        begin: Callable[[float], Run],
        pause: Callable[[], None] = lambda: time.sleep(0.01),
        *,
        derived: bool = False,
    ) -> None:
        self.run: Run | None = None
        self.values = 0
        self.earlier = 0
        self._prefix = prefix
        self._left_out = (GLOBAL, f"group_{prefix}") if derived else ()
        self._begin = begin
        self._pause = pause
        self._newest: dict[str, int] = {}
        self._step = -1
        self._time = 0.0
        self._norms: dict[str, float] = {}

    def tell(self, point: Point) -> None:
        """One value. Steps that go back (training was restarted into the same log) are left out and counted."""
        if self._left_out and point.tag.startswith(self._left_out):
            return
        if self.run is None:
            self.run = self._begin(point.time)
        while self.run.waiting > MOST_WAITING:
            self._pause()
        if point.step < 0 or point.step <= self._newest.get(point.tag, -1):
            self.earlier += 1
            return
        is_norm = bool(self._prefix) and point.tag.startswith(self._prefix)
        if is_norm and point.step < self._step:
            self.earlier += 1
            return
        self._newest[point.tag] = point.step
        self.values += 1
        if is_norm:
            self._norm(point)
        else:
            self.run.replay(point.step, point.time, {}, {point.tag: point.value})

    def _norm(self, point: Point) -> None:
        if point.step != self._step:
            self.flush()
            self._step, self._time = point.step, point.time
        self._norms[point.tag.removeprefix(self._prefix)] = point.value

    def flush(self) -> None:
        """Tells the norms of the newest step: no more of it will come."""
        if self._norms and self.run is not None:
            self.run.replay(self._step, self._time, self._norms, {})
            self._norms = {}


def import_logs(
    root: Path,
    *,
    options: Mapping[str, Any],
    prefix: str = "grad_norm/",
    follow: bool = False,
    progress: Callable[[str, int], None] = lambda name, done: None,
    tell: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Tells every log at and below ``root``; gives how many runs there were. With ``follow`` it goes on as they grow, until
    it is interrupted. ``options`` are arguments of :func:`gradwatch.watch`; ``progress`` gets the name of a run and how many
    of its values are told.

    Raises:
        GradwatchError: there is no log, or TensorBoard is not installed.
    """
    folders = find_logs(root)
    if not folders and not follow:
        raise GradwatchError(f"there are no TensorBoard event files in {root}")
    logs: dict[Path, tuple[EventLog, LogRun]] = {}
    try:
        while True:
            for folder in find_logs(root):
                if folder not in logs:
                    log = EventLog(folder)
                    tags = log.tags()
                    if follow and not tags:
                        continue
                    by_layer = bool(prefix) and any(tag.startswith(prefix) for tag in tags)
                    logs[folder] = log, LogRun(prefix, _starter(root, folder, options), derived=by_layer)
                log, told = logs[folder]
                _tell_all(log, told, progress)
                if not follow:
                    _finish(told, tell)
            if not follow:
                return sum(told.run is not None for _, told in logs.values())
            sleep(POLL_S)
    except KeyboardInterrupt:
        for _, told in logs.values():
            _finish(told, tell)
        return len(logs)


def _tell_all(log: EventLog, told: LogRun, progress: Callable[[str, int], None]) -> None:
    count = 0
    for count, point in enumerate(log.read(), 1):
        told.tell(point)
        if count % 1_000 == 0 and told.run is not None:
            progress(told.run.name, told.values)
    if count == 0:
        told.flush()


def _starter(root: Path, folder: Path, options: Mapping[str, Any]) -> Callable[[float], Run]:
    name = os.path.relpath(folder, root.parent if folder == root else root)
    given = {"name": name, "config": {"tensorboard": str(folder)}, **options}
    return lambda began: watch(started_at=began, **given)


def _finish(told: LogRun, tell: Callable[[str], None]) -> None:
    if told.run is None:
        return
    told.flush()
    told.run.finish()
    left = f", {told.earlier:,} of steps that had been before were left out" if told.earlier else ""
    tell(f"{told.run.name}: {told.values:,} values{left}. {told.run.url}")
