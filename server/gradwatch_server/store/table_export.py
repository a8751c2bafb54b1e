"""A run's exact values as tables: one CSV, Parquet or TensorBoard file for each statistic, streamed, of any length."""

from __future__ import annotations

import csv
import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from gradwatch.protocol.histogram import LABELS

from ..errors import NotFound, StoreError
from . import queries
from .block_queries import SeriesKey
from .database import Reader
from .event_files import FILE_NAME, tags, write_events
from .live import MAIN_RANK, SeriesRef
from .series import iterate_values

__all__ = ["FORMATS", "export_tables"]

Progress = Callable[[str, int, int], None]
"""Told a statistic, the step that it has been written up to, and the run's last step."""


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """A statistic: its columns, and its rows in pieces of ``steps [n]``, ``times [n]``, ``values [n, columns]``, presence."""

    scope: str
    label: str
    columns: list[str]
    parts: Iterator[tuple[npt.NDArray[Any], ...]]


def export_tables(
    reader: Reader,
    run_id: str,
    folder: Path,
    form: str,
    progress: Progress = lambda statistic, step, last: None,
) -> list[Path]:
    """Writes ``<scope>-<statistic>.<form>`` into ``folder``, which is made: columns ``step``, ``time`` (Unix seconds), then
    one for each tensor, group, column, or power of two of a tensor's histogram. Segments are joined. What is absent is an empty field, NaN the word nan. As
    ``tensorboard`` the folder is the log of one run: an event file for each statistic but histograms, with a tag for each
    column.

    Raises:
        NotFound: no such run.
        StoreError: a file exists already or can't be written, or the package that writes the form is missing.
    """
    write = FORMATS[form]()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return reader.read(
            partial(_export, run_id=run_id, folder=folder, form=form, write=write, progress=progress)
        )
    except FileExistsError as error:
        raise StoreError(f"{error.filename} exists already. Give another folder.") from None
    except OSError as error:
        raise StoreError(f"{folder} can't be written: {error.strerror or error}") from error


_Write = Callable[[Path, _Table, Callable[[int], None]], None]


def _export(
    conn: Connection, *, run_id: str, folder: Path, form: str, write: _Write, progress: Progress
) -> list[Path]:
    row = queries.find_run(conn, run_id)
    if row is None:
        raise NotFound(f"there is no run {run_id!r}")
    segments = queries.segments_of_run(conn, row.no, run_id)
    tensors = [tensor.name for tensor in queries.tensors_of_run(conn, row.no)]
    names = {
        "tensor": tensors,
        "histogram": [f"{tensor}/{label}" for tensor in tensors for label in LABELS],
        "group": [group.path or "(all)" for group in queries.groups_of_run(conn, row.no)],
    }
    written: list[Path] = []
    for ref in queries.series_of_run(conn, row.no):
        if ref.rank != MAIN_RANK or (ref.scope == "histogram" and form == "tensorboard"):
            continue
        key = SeriesKey(row.no, ref.idx, ref.width)
        table = _Table(ref.scope, ref.name, _columns(ref, names), iterate_values(conn, key, segments))
        path = folder / _NAMES.get(form, f"{{stem}}.{form}").format(
            stem=f"{ref.scope}-{_file_name(ref.name)}"
        )
        if path in written:
            path = path.with_stem(f"{path.stem}-{ref.idx}")
        write(path, table, _reporter(progress, ref.name, row.last_step))
        written.append(path)
    return written


def _reporter(progress: Progress, statistic: str, last: int) -> Callable[[int], None]:
    return lambda step: progress(statistic, step, last)


def _columns(ref: SeriesRef, names: dict[str, list[str]]) -> list[str]:
    if ref.scope in names:
        return names[ref.scope][: ref.width]
    return ["value"] if ref.width == 1 else [f"value_{i}" for i in range(ref.width)]


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)[:100]


def _csv() -> _Write:
    return _write_csv


def _write_csv(path: Path, table: _Table, progress: Callable[[int], None]) -> None:
    with path.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "time", *map(_plain_text, table.columns)])
        for steps, times, values, present in table.parts:
            for step, time, row, there in zip(
                steps.tolist(), times.tolist(), values.tolist(), present.tolist(), strict=True
            ):
                cells = [_cell(value) if is_there else "" for value, is_there in zip(row, there, strict=True)]
                writer.writerow([int(step), repr(time), *cells])
            progress(int(steps[-1]))


def _plain_text(name: str) -> str:
    """The name, so that no spreadsheet takes it for a formula: names come from anywhere."""
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name


def _cell(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _parquet() -> _Write:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise StoreError("Parquet files need pyarrow: pip install pyarrow. CSV needs nothing.") from None
    return partial(_write_parquet, arrow, parquet)


def _write_parquet(
    arrow: Any, parquet: Any, path: Path, table: _Table, progress: Callable[[int], None]
) -> None:
    fields = [("step", arrow.int64()), ("time", arrow.float64())]
    fields += [(name, arrow.float64()) for name in table.columns]
    with path.open("xb") as file, parquet.ParquetWriter(file, arrow.schema(fields)) as writer:
        for steps, times, values, present in table.parts:
            columns = [arrow.array(steps.astype(np.int64)), arrow.array(times)]
            columns += [
                arrow.array(np.ascontiguousarray(values[:, i]), mask=~present[:, i])
                for i in range(values.shape[1])
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=arrow.schema(fields)))
            progress(int(steps[-1]))


def _tensorboard() -> _Write:
    write = write_events()

    def write_table(path: Path, table: _Table, progress: Callable[[int], None]) -> None:
        write(path, tags(table.scope, table.label, table.columns), table.parts, progress)

    return write_table


FORMATS: Final[dict[str, Callable[[], _Write]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "tensorboard": _tensorboard,
}
"""The forms of tables, by name."""

_NAMES: Final = {"tensorboard": FILE_NAME}
"""How files are called whose form is not their ending."""
