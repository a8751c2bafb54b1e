"""The store as the rest of the server knows it: streams come in, runs and series go out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection

from gradwatch.protocol import Hello, Record

from ..errors import NotFound
from ..models import (
    GroupInfo,
    Histogram,
    Run,
    RunMark,
    Segment,
    Series,
    SeriesQuery,
    StatisticInfo,
    TensorInfo,
    Values,
)
from . import queries
from .background import Background
from .block_queries import SeriesKey, database_bytes, find_series
from .compactor import Lane
from .database import Database
from .histograms import HISTOGRAM, SCOPE, nearest_histogram
from .intake import Appended, Intake
from .live import SeriesRef, StreamHandle
from .opening import OpenedStream
from .price import Price, price_of
from .rank_parts import StoredParts, parts_between, stored_parts
from .retention import Limits
from .retention_sql import bytes_of_run, sizes_by_run, thinned_before
from .schema import open_database
from .series import read_series, read_values
from .tail import Piece

__all__ = ["Appended", "Store"]

T = TypeVar("T")

_SAMPLE = 16_384
"""Newest values that percentiles are taken from."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a list of ``total``, as of ``revision``."""

    runs: list[Run]
    total: int
    revision: int


@dataclass(frozen=True, slots=True)
class RunStorage:
    """Bytes that a run's numbers take; the step below which exact values are gone, but for those around incidents (0 if none
    are); what a day of it takes, None if it isn't running or its pace not known yet."""

    nbytes: int
    thinned_before: int
    price: Price | None


class Store:
    """Opened by :meth:`open`. ``append`` is for one thread (the event loop); everything else for any."""

    def __init__(
        self, database: Database, *, clock: Callable[[], float], background: bool, limits: Limits
    ) -> None:
        self.database = database
        self._background = Background(database, limits, clock)
        self._intake = Intake(database, self._background, clock)
        if background:
            self._background.start()

    @staticmethod
    def open(
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        background: bool = True,
        limits: Limits | None = None,
    ) -> Store:
        """The database at a path or address, created or brought up to date. Without ``background`` it is put in order only
        by :meth:`compact`.

        Raises:
            StoreError: it can't be used; the sentence says why and what to do.
        """
        return Store(open_database(url), clock=clock, background=background, limits=limits or Limits())

    def close(self) -> None:
        """Commits what waits, and closes."""
        self._background.stop()
        self.database.close()

    def compact(self) -> None:
        """Puts everything in order that has arrived and makes whole chunks, and frees what deleted runs took."""
        self._background.catch_up()

    # --- streams come in ---

    def open_stream(self, hello: Hello, *, now: float) -> Future[OpenedStream]:
        """See :meth:`.intake.Intake.open_stream`."""
        return self._intake.open_stream(hello, now=now)

    def append(self, stream: StreamHandle, records: Sequence[Record]) -> Appended:
        """See :meth:`.intake.Intake.append`."""
        return self._intake.append(stream, records)

    def beat(self, run_id: str, *, now: float, step: int, cost: dict[str, float]) -> Future[None]:
        """A sign of life. A lost run is running again."""
        return self._intake.beat(run_id, now=now, cost=cost)

    def mark_lost(self, *, now: float, after: float = 60.0) -> Future[list[str]]:
        """Running runs without a sign of life for ``after`` seconds are lost; gives their ids."""
        return self._intake.mark_lost(now=now, after=after)

    def rank_parts(self, merged: StreamHandle) -> StoredParts:
        """What ranks sent beyond what is in their ``merged`` stream. Blocks."""
        return self.database.read(lambda conn: stored_parts(conn, merged))

    def parts_between(self, merged: StreamHandle, low: int, high: int) -> list[tuple[int, SeriesRef, Piece]]:
        """What ranks sent of steps ``low <= step < high``, with everything that was appended before. Blocks."""
        self.database.write(lambda conn: None).result()
        return self.database.read(lambda conn: parts_between(conn, merged, low, high))

    def correct(self, stream: StreamHandle, pieces: Sequence[Piece]) -> None:
        """Puts ``pieces`` in the place of what ``stream`` has stored at their steps. Blocks."""
        self.database.write(lambda conn: None).result()
        self._background.correct(Lane(stream.live.no, stream.segment, stream.rank), pieces)

    # --- runs and series go out; these block, so call them off the event loop ---

    def runs(
        self,
        *,
        project: str | None = None,
        state: str | None = None,
        text: str = "",
        limit: int = 200,
        offset: int = 0,
        ids: Collection[str] | None = None,
    ) -> list[Run]:
        """Runs, the newest first. Each word of ``text`` must be in name, id, project, tags or who started it."""
        return self.page(project=project, state=state, text=text, limit=limit, offset=offset, ids=ids).runs

    def page(
        self,
        *,
        project: str | None = None,
        state: str | None = None,
        text: str = "",
        limit: int = 200,
        offset: int = 0,
        ids: Collection[str] | None = None,
        by_who: bool = True,
    ) -> RunPage:
        """As :meth:`runs`, with the number of all that match and the revision at which that holds."""

        def work(conn: Connection) -> RunPage:
            runs, total = queries.find_runs(
                conn,
                project=project,
                state=state,
                text=text,
                ids=ids,
                by_who=by_who,
                limit=limit,
                offset=offset,
            )
            return RunPage(runs, total, queries.revision(conn))

        return self.database.read(work)

    def run(self, run_id: str) -> Run | None:
        """The run, None if there is none."""

        def work(conn: Connection) -> Run | None:
            row = queries.find_run(conn, run_id)
            return None if row is None else queries.run_of(row)

        return self.database.read(work)

    def revision(self) -> int:
        """The newest revision of the database."""
        return self.database.read(queries.revision)

    def sizes(self) -> dict[str, int]:
        """Bytes that the numbers of each run take."""
        return self.database.read(sizes_by_run)

    def size(self) -> int:
        """Bytes of the whole database."""
        return self.database.read(database_bytes)

    def storage(self, run: Run) -> RunStorage:
        """What a run takes, and will take."""

        def work(conn: Connection) -> RunStorage:
            row = queries.find_run(conn, run.id)
            if row is None:
                return RunStorage(0, 0, None)
            series = queries.series_of_run(conn, row.no)
            pace = run.steps_per_s if run.state == "running" else 0.0
            numbers = self._intake.numbers_a_step(run.id)
            price = price_of(series, run.tensor_count, pace, numbers) if pace > 0 else None
            return RunStorage(bytes_of_run(conn, row.no), thinned_before(conn, row.no), price)

        return self.database.read(work)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are durable and wait to be put in order."""
        return self._background.waiting_bytes

    def segments(self, run_id: str) -> list[Segment]:
        """Segments in the order in which they began."""
        return self._of_run(run_id, lambda conn, no: queries.segments_of_run(conn, no, run_id))

    def tensors(self, run_id: str) -> list[TensorInfo]:
        """Tensors by index."""
        return self._of_run(run_id, queries.tensors_of_run)

    def groups(self, run_id: str) -> list[GroupInfo]:
        """Groups by index."""
        return self._of_run(run_id, queries.groups_of_run)

    def statistics(self, run_id: str) -> list[StatisticInfo]:
        """What can be asked for as a series."""
        return self._of_run(run_id, queries.statistics_of_run)

    def marks(self, run_id: str, since: int = 0) -> list[RunMark]:
        """Marks with a revision above ``since``."""
        return self._of_run(run_id, lambda conn, no: queries.marks_of_run(conn, no, run_id, since))

    def _of_run(self, run_id: str, fn: Callable[[Connection, int], list[T]]) -> list[T]:
        """``fn`` on the run's number, an empty list when there is no such run."""

        def work(conn: Connection) -> list[T]:
            row = queries.find_run(conn, run_id)
            return [] if row is None else fn(conn, int(row.no))

        return self.database.read(work)

    def series(self, run_id: str, query: SeriesQuery) -> Series:
        """Buckets of a statistic.

        Raises:
            NotFound: the run has no such statistic.
        """
        return self.database.read(
            lambda conn: read_series(conn, *_located(conn, run_id, query.scope, query.statistic), query)
        )

    def values(
        self,
        run_id: str,
        statistic: str,
        scope: str = "tensor",
        rows: Sequence[int] | None = None,
        from_step: int = 0,
        to_step: int | None = None,
        limit: int = 10_000,
        segment: int | None = None,
    ) -> Values:
        """The first ``limit`` exact values from ``from_step`` on, ``to_step`` exclusive.

        Raises:
            NotFound: the run has no such statistic.
        """
        return self.database.read(
            lambda conn: read_values(
                conn, *_located(conn, run_id, scope, statistic), rows, from_step, to_step, limit, segment
            )
        )

    def histogram(
        self, run_id: str, tensor: int, step: int | None = None, segment: int | None = None
    ) -> Histogram | None:
        """The gradient histogram of a tensor that is nearest to ``step`` (None: the newest), if there is any.

        Raises:
            NotFound: the run has no histograms.
        """

        def work(conn: Connection) -> Histogram | None:
            key, segments = _located(conn, run_id, SCOPE, HISTOGRAM)
            return nearest_histogram(conn, key, segments, tensor, step, segment)

        return self.database.read(work)

    def percentiles(
        self, run_id: str, statistic: str, scope: str, row: int, qs: Sequence[float]
    ) -> list[float]:
        """Percentiles (0 to 100) of the finite ones among the newest 16,384 steps' values; NaN where there are none.

        Raises:
            NotFound: the run has no such statistic.
        """

        def work(conn: Connection) -> list[float]:
            key, segments = _located(conn, run_id, scope, statistic)
            newest = read_series(conn, key, segments, SeriesQuery(statistic=statistic, rows=(), points=1))
            start = max(0, newest.last_step + 1 - _SAMPLE)
            found = read_values(conn, key, segments, (row,), start, None, _SAMPLE)
            finite = found.values[np.isfinite(found.values)]
            return [float(q) for q in np.percentile(finite, qs)] if len(finite) else [math.nan] * len(qs)

        return self.database.read(work)

    # --- edits ---

    def update_run(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> Future[Run]:
        """Changes what people say of a run; None leaves it as it is. The future raises NotFound."""
        return self._intake.update_run(run_id, name=name, tags=tags, notes=notes)

    def restore_run(self, run: Run, key_hash: str) -> Future[None]:
        """See :meth:`.intake.Intake.restore_run`."""
        return self._intake.restore_run(run, key_hash)

    def delete_run(self, run_id: str) -> Future[None]:
        """Forgets the run; its space is freed soon after. Streams of it are closed. The future raises NotFound."""
        return self._intake.delete_run(run_id)


def _located(conn: Connection, run_id: str, scope: str, name: str) -> tuple[SeriesKey, list[Segment]]:
    key = find_series(conn, run_id, scope, name)
    if key is None:
        raise NotFound(f"run {run_id!r} has no statistic {name!r} of scope {scope!r}")
    return key, queries.segments_of_run(conn, key.run_no, run_id)
