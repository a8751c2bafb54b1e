"""Keeps a database within its limits: the oldest exact values are thinned to the pyramid, a few chunks at a time.

Nothing else is ever removed by itself, and histograms, which have no pyramid. Buckets stay, so every spike and NaN stays visible at every zoom; series of the run
(loss, global norm) stay whole; and around each incident, alert and restart exact values stay. "Oldest" means: of the run
that has been silent longest, and in it the first steps.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from . import retention_sql as sql
from .block_codec import stub_of, thin
from .block_queries import LOWEST, SeriesKey, block_bodies, chunk_rows
from .database import Database
from .retention_sql import Candidate
from .series import CHUNK_STEPS, level_span

__all__ = ["NEAR_STEPS", "Limits", "Retention", "near"]

NEAR_STEPS: Final = 512
"""Exact values of so many steps before and after a turning point are kept."""

_CHUNKS: Final = 8
"""Chunks thinned in one transaction, so that nobody waits long for a commit."""

_DAY: Final = 86_400.0

log = logging.getLogger("gradwatch.store")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much a database may hold. 0: no limit."""

    most_bytes: int = 10_000_000_000
    """Of blocks. What is left when everything is thinned stays, and is told."""

    exact_days: float = 0.0
    """Exact values of runs that have been silent longer than this are thinned."""


def near(step: int, points: Iterable[int]) -> bool:
    """Whether the chunk that begins at ``step`` lies within :data:`NEAR_STEPS` of one of ``points``."""
    return any(
        step - NEAR_STEPS < point + CHUNK_STEPS and point - NEAR_STEPS < step + CHUNK_STEPS
        for point in points
    )


class Retention:
    """:meth:`work` does a bit of what is to be done; for one thread, the compactor's."""

    def __init__(self, database: Database, limits: Limits, clock: Callable[[], float]) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self._queue: list[Candidate] = []
        self._points: dict[int, list[int]] = {}
        self._aged = False
        self._told = False

    def work(self) -> bool:
        """Thins a few chunks if a limit is passed. False when there is nothing to do.

        Raises:
            StoreError: the database failed; it stays to be done.
        """
        over = self._is_over()
        if self._queue and not (over or self._aged):
            self._queue = []
        if not self._queue:
            self._plan(over)
        if not self._queue:
            if over and not self._told:
                self._told = True
                log.warning(
                    "the database holds more than %s although everything old is thinned: delete runs, or raise --max-size",
                    f"{self._limits.most_bytes / 1e9:.1f} GB",
                )
            return False
        candidate = heapq.heappop(self._queue)
        rest = self._thin(candidate)
        if rest is not None:
            heapq.heappush(self._queue, rest)
        return True

    def _is_over(self) -> bool:
        most = self._limits.most_bytes
        return most > 0 and self._database.read(sql.total_bytes) > most

    def _plan(self, over: bool) -> None:
        days = self._limits.exact_days
        self._aged = not over and days > 0
        if not over and not self._aged:
            return
        since = self._clock() - days * _DAY if self._aged else None
        found = self._database.read(lambda conn: sql.candidates(conn, since))
        self._queue = [one for one in found if one.before + CHUNK_STEPS <= _bound(one)]
        heapq.heapify(self._queue)
        runs = sorted({one.run_no for one in self._queue})
        self._points = dict(self._database.read(lambda conn: sql.turning_points(conn, runs))) if runs else {}

    def _thin(self, candidate: Candidate) -> Candidate | None:
        """Thins the next chunks of a candidate; what is left of it."""
        bound = _bound(candidate)
        key = SeriesKey(candidate.run_no, candidate.series, 0)
        low = candidate.before
        starts = self._database.read(
            lambda conn: chunk_rows(conn, key, candidate.segment, low, bound - CHUNK_STEPS + 1, _CHUNKS)
        )
        points = self._points.get(candidate.run_no, [])
        whole = self._database.read(
            lambda conn: _bodies(conn, candidate, key, [s for s in starts if not near(s, points)])
        )
        stubs = {first: thin(body) for first, body in whole.items()}
        freed = sum(len(body) - len(stubs[first]) for first, body in whole.items())
        before = starts[-1] + CHUNK_STEPS if len(starts) == _CHUNKS else bound
        kept = self._database.write(
            lambda conn: sql.put_stubs(conn, candidate, stubs, freed, before)
        ).result()
        if not kept or before + CHUNK_STEPS > bound:
            return None
        return Candidate(
            candidate.last_seen,
            candidate.segment,
            before,
            candidate.run_no,
            candidate.series,
            candidate.newest,
            candidate.level,
        )


def _bodies(
    conn: Connection, candidate: Candidate, key: SeriesKey, starts: Iterable[int]
) -> dict[int, bytes]:
    """The chunks that have values of their own, by where they begin."""
    found = {}
    for start in starts:
        for first, body in block_bodies(conn, key, candidate.segment, 0, start, start + 1):
            if stub_of(body) is None:
                found[first] = body
    return found


def _bound(candidate: Candidate) -> int:
    """Where the lowest level of the pyramid ends: what is above is in no bucket yet. Without one, where the newest chunk
    begins."""
    return candidate.newest + (level_span(LOWEST) if candidate.level else 0)
