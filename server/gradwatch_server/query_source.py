"""The database itself as a source of :mod:`gradwatch.query`: beside a running server or without one, never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from gradwatch.protocol.codec import to_plain
from gradwatch.query import Buckets, Histogram, Values

from .errors import NotFound
from .models import Segment, SeriesQuery
from .plain import run_plain
from .store import health_queries, queries
from .store.block_queries import SeriesKey, find_series
from .store.histograms import HISTOGRAM, SCOPE, nearest_histogram
from .store.schema import open_reader
from .store.series import read_series, read_values

__all__ = ["DatabaseSource"]

T = TypeVar("T")
_ALL = 2**53


class DatabaseSource:
    """See :class:`gradwatch.query.Source`.

    Args:
        address: a SQLite file, or a ``postgresql://`` URL.

    Raises:
        StoreError: (a GradwatchError) there is none, or it is of another version.
    """

    def __init__(self, address: str) -> None:
        self._reader = open_reader(address)

    def close(self) -> None:
        """Lets go of the database."""
        self._reader.close()

    def runs(self) -> list[dict[str, Any]]:
        found, _ = self._reader.read(
            lambda conn: queries.find_runs(
                conn, project=None, state=None, text="", ids=None, limit=_ALL, offset=0
            )
        )
        return [run_plain(run, full=True, listed=True) for run in found]

    def run(self, run_id: str) -> dict[str, Any]:
        def work(conn: Any, row: Any) -> dict[str, Any]:
            return {
                "run": run_plain(queries.run_of(row), full=True),
                "segments": to_plain(queries.segments_of_run(conn, row.no, run_id)),
                "statistics": to_plain(queries.statistics_of_run(conn, row.no)),
            }

        return self._of(run_id, work)

    def tensors(self, run_id: str) -> list[dict[str, Any]]:
        return self._of(run_id, lambda conn, row: to_plain(queries.tensors_of_run(conn, row.no)))

    def incidents(self, run_id: str) -> list[dict[str, Any]]:
        return self._of(run_id, lambda conn, row: health_queries.list_incidents(conn, run_id, limit=100_000))

    def marks(self, run_id: str) -> list[dict[str, Any]]:
        return self._of(run_id, lambda conn, row: to_plain(queries.marks_of_run(conn, row.no, run_id, 0)))

    def values(
        self, run_id: str, statistic: str, scope: str, rows: Sequence[int], start: int, stop: int | None
    ) -> Values:
        def work(conn: Any, key: SeriesKey, segments: list[Segment]) -> Values:
            found = read_values(conn, key, segments, list(rows), start, stop, _ALL)
            return Values(found.steps, found.times, found.values, found.present)

        return self._located(run_id, statistic, scope, work)

    def histogram(self, run_id: str, row: int, step: int | None) -> Histogram | None:
        def work(conn: Any, key: SeriesKey, segments: list[Segment]) -> Histogram | None:
            found = nearest_histogram(conn, key, segments, row, step)
            return None if found is None else Histogram(found.step, found.time, found.counts)

        return self._located(run_id, HISTOGRAM, SCOPE, work)

    def series(
        self,
        run_id: str,
        statistic: str,
        scope: str,
        rows: Sequence[int],
        start: int,
        stop: int | None,
        points: int,
    ) -> Buckets:
        asked = SeriesQuery(
            statistic=statistic, scope=scope, rows=tuple(rows), from_step=start, to_step=stop, points=points
        )

        def work(conn: Any, key: SeriesKey, segments: list[Segment]) -> Buckets:
            found = read_series(conn, key, segments, asked)
            planes = [np.asarray(plane, np.float64) for plane in (found.low, found.high, found.last)]
            return Buckets(found.width, found.first_bucket, *planes)

        return self._located(run_id, statistic, scope, work)

    def _of(self, run_id: str, work: Callable[[Any, Any], T]) -> T:
        def on(conn: Any) -> T:
            row = queries.find_run(conn, run_id)
            if row is None:
                raise NotFound(f"there is no run {run_id!r}")
            return work(conn, row)

        return self._reader.read(on)

    def _located(
        self, run_id: str, statistic: str, scope: str, work: Callable[[Any, SeriesKey, list[Segment]], T]
    ) -> T:
        def on(conn: Any, row: Any) -> T:
            key = find_series(conn, run_id, scope, statistic)
            if key is None:
                raise NotFound(f"run {run_id!r} has no statistic {statistic!r} of scope {scope!r}")
            return work(conn, key, queries.segments_of_run(conn, key.run_no, run_id))

        return self._of(run_id, on)
