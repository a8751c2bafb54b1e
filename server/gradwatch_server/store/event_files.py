"""TensorBoard event files, written with TensorBoard's own record writer and messages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StoreError

__all__ = ["FILE_NAME", "tags", "write_events"]

FILE_NAME = "events.out.tfevents.0.gradwatch.{stem}"
"""TensorBoard knows its files by the second word, and takes those of one folder for one run."""

Part = tuple[npt.NDArray[Any], ...]


def tags(scope: str, statistic: str, columns: Sequence[str]) -> list[str]:
    """What each column is called: the statistic is the group under which TensorBoard shows it."""
    if scope == "run":
        return [statistic] if len(columns) == 1 else [f"{statistic}/{i}" for i in range(len(columns))]
    return [
        f"group_{statistic}/{column}" if scope == "group" else f"{statistic}/{column}" for column in columns
    ]


def write_events() -> Callable[[Path, list[str], Iterator[Part], Callable[[int], None]], None]:
    """A function that writes an event for each step, with a value for each tag that has one. TensorBoard's scalars are
    float32; NaN and Inf stay as they are.

    Raises:
        StoreError: TensorBoard is not installed.
    """
    try:
        messages = importlib.import_module("tensorboard.compat.proto.event_pb2")
        summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        records = importlib.import_module("tensorboard.summary.writer.record_writer")
    except ImportError:
        raise StoreError(
            "TensorBoard logs need its package: pip install tensorboard. CSV needs nothing."
        ) from None

    def write(path: Path, names: list[str], parts: Iterator[Part], progress: Callable[[int], None]) -> None:
        value, summary = summaries.Summary.Value, summaries.Summary
        with path.open("xb") as file:
            writer = records.RecordWriter(file)
            first = True
            for steps, times, values, present in parts:
                if first:
                    began = messages.Event(wall_time=float(times[0]), file_version="brain.Event:2")
                    writer.write(began.SerializeToString())
                    first = False
                rows = zip(steps.tolist(), times.tolist(), values.tolist(), present, strict=True)
                for step, time, row, there in rows:
                    told = [value(tag=names[i], simple_value=row[i]) for i in np.flatnonzero(there)]
                    event = messages.Event(wall_time=time, step=int(step), summary=summary(value=told))
                    writer.write(event.SerializeToString())
                progress(int(steps[-1]))

    return write
