"""Every statement of retention: what databases weigh, what may be thinned, and the thinning itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from . import tables as t
from .alert_tables import alerts
from .block_queries import LOWEST
from .health_tables import incidents

__all__ = [
    "Candidate",
    "add_sizes",
    "bytes_of_run",
    "candidates",
    "put_stubs",
    "sizes_by_run",
    "thinned_before",
    "thinned_runs",
    "total_bytes",
    "turning_points",
]

_b = t.blocks.c


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """Chunks of a series that may be thinned, from step ``before`` on. In order of their age."""

    last_seen: float
    segment: int
    before: int
    run_no: int
    series: int
    newest: int
    """First step of the newest block of ``level``."""
    level: int = LOWEST
    """The lowest level of the pyramid; 0 for series that have none."""


def add_sizes(conn: Connection, run_no: int, exact: int, buckets: int) -> None:
    """A run has become larger by so many bytes, or smaller."""
    c = t.run_sizes.c
    grown = update(t.run_sizes).where(c.run_no == run_no)
    moved = conn.execute(grown.values(exact=c.exact + exact, buckets=c.buckets + buckets))
    if not moved.rowcount:
        conn.execute(insert(t.run_sizes).values(run_no=run_no, exact=exact, buckets=buckets))


def sizes_by_run(conn: Connection) -> dict[str, int]:
    """Bytes of each run's numbers: in blocks, and in the tail."""
    c, a = t.run_sizes.c, t.tail.c
    stored = select(t.runs.c.id, c.exact + c.buckets).join(t.runs, t.runs.c.no == c.run_no)
    waiting = (
        select(t.runs.c.id, func.sum(a.size)).join(t.runs, t.runs.c.no == a.run_no).group_by(t.runs.c.id)
    )
    found: dict[str, int] = {}
    for run_id, size in [*conn.execute(stored), *conn.execute(waiting)]:
        found[str(run_id)] = found.get(str(run_id), 0) + int(size)
    return found


def bytes_of_run(conn: Connection, run_no: int) -> int:
    """Bytes of one run's numbers."""
    c, a = t.run_sizes.c, t.tail.c
    stored = conn.execute(select(c.exact + c.buckets).where(c.run_no == run_no)).scalar() or 0
    waiting = conn.execute(select(func.sum(a.size)).where(a.run_no == run_no)).scalar() or 0
    return int(stored) + int(waiting)


def total_bytes(conn: Connection) -> int:
    """Bytes of all numbers in blocks."""
    c = t.run_sizes.c
    return int(conn.execute(select(func.coalesce(func.sum(c.exact + c.buckets), 0))).scalar_one())


def candidates(conn: Connection, unseen_since: float | None) -> list[Candidate]:
    """What could be thinned: series of tensors and groups that have buckets, and histograms, which have none; of runs without
    a sign of life since ``unseen_since`` only, if given."""
    h, s, r = t.thinned.c, t.series.c, t.runs.c
    wanted = ((_b.level == LOWEST) & s.scope.in_(("tensor", "group"))) | (
        (_b.level == 0) & (s.scope == "histogram")
    )
    if unseen_since is not None:
        wanted &= r.last_seen < unseen_since
    rows = conn.execute(
        select(
            r.last_seen,
            _b.segment,
            func.coalesce(h.before, 0),
            _b.run_no,
            _b.series,
            func.max(_b.first_step),
            _b.level,
        )
        .join(t.series, (s.run_no == _b.run_no) & (s.idx == _b.series))
        .join(t.runs, r.no == _b.run_no)
        .outerjoin(t.thinned, (h.run_no == _b.run_no) & (h.series == _b.series) & (h.segment == _b.segment))
        .where(wanted)
        .group_by(r.last_seen, _b.segment, h.before, _b.run_no, _b.series, _b.level)
    )
    return [Candidate(*row) for row in rows]


def turning_points(conn: Connection, run_nos: Sequence[int]) -> Mapping[int, list[int]]:
    """By run, the steps whose neighbourhood is worth keeping: where incidents and alerts began and ended, and where segments
    begin."""
    r, s = t.runs.c, t.segments.c
    found: dict[int, list[int]] = {}
    columns = (
        (incidents, (incidents.c.first_step, incidents.c.opened_step, incidents.c.closed_step)),
        (alerts, (alerts.c.opened_step, alerts.c.cleared_step)),
    )
    for table, steps in columns:
        told = select(r.no, *steps).join(t.runs, r.id == table.c.run_id).where(r.no.in_(run_nos))
        for no, *moments in conn.execute(told):
            found.setdefault(int(no), []).extend(int(step) for step in moments if step is not None)
    seams = select(s.run_no, s.start_step).where(s.run_no.in_(run_nos) & (s.idx > 0))
    for no, start in conn.execute(seams):
        found.setdefault(int(no), []).append(int(start))
    return found


def put_stubs(
    conn: Connection, candidate: Candidate, stubs: Mapping[int, bytes], freed: int, before: int
) -> bool:
    """Replaces chunks, given by their first step, by what is left of them, and notes that all below ``before`` were looked at.
    False, and nothing changed, if the run is gone."""
    if conn.execute(select(t.runs.c.no).where(t.runs.c.no == candidate.run_no)).one_or_none() is None:
        return False
    this = (
        (_b.run_no == candidate.run_no)
        & (_b.series == candidate.series)
        & (_b.segment == candidate.segment)
        & (_b.level == 0)
    )
    for first, body in stubs.items():
        conn.execute(update(t.blocks).where(this & (_b.first_step == first)).values(body=body))
    add_sizes(conn, candidate.run_no, -freed, 0)
    h = t.thinned.c
    place = {"run_no": candidate.run_no, "series": candidate.series, "segment": candidate.segment}
    same = (h.run_no == place["run_no"]) & (h.series == place["series"]) & (h.segment == place["segment"])
    conn.execute(delete(t.thinned).where(same))
    conn.execute(insert(t.thinned).values(**place, before=before))
    return True


def thinned_before(conn: Connection, run_no: int, segment: int | None = None) -> int:
    """The step below which exact values of a run were thinned, 0 if none were."""
    h = t.thinned.c
    mine = h.run_no == run_no
    if segment is not None:
        mine &= h.segment == segment
    return int(conn.execute(select(func.coalesce(func.max(h.before), 0)).where(mine)).scalar_one())


def thinned_runs(conn: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    """As :func:`thinned_before`, of those runs by id of which exact values were thinned."""
    h, r = t.thinned.c, t.runs.c
    rows = conn.execute(
        select(r.id, func.max(h.before))
        .join(t.thinned, h.run_no == r.no)
        .where(r.id.in_(run_ids))
        .group_by(r.id)
    )
    return {str(run_id): int(before) for run_id, before in rows if before > 0}
