"""Looking after a database while its server runs: an online copy, and a check of everything that is stored."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import Connection, func, select

from ..errors import StoreError
from . import tables as t
from .block_codec import chunk_steps, decode_buckets, kind_of, verify
from .block_queries import LOWEST, SeriesKey, block_bodies
from .database import Reader
from .engines import parse_url
from .pyramid import Buckets, coarsen, fold
from .schema import open_reader
from .series import BLOCK_BUCKETS, SegmentReader, level_span
from .tail import unpack

__all__ = ["backup", "check"]

_AT_ONCE: Final = 64


def backup(address: str, target: Path) -> int:
    """Copies a SQLite database into the new file ``target``, as of one moment, without holding up its server. Gives the size
    of the copy in bytes; it may be smaller than the original, as free space is left out.

    Raises:
        StoreError: it isn't SQLite, there is none, or the copy can't be written.
    """
    url = parse_url(address)
    if url.get_backend_name() != "sqlite":
        raise StoreError(
            "PostgreSQL is copied with its own tool: pg_dump --format=custom --file=FILE ADDRESS"
        )
    if target.exists():
        raise StoreError(f"{target} exists already. Give the copy another name.")
    open_reader(address).close()
    source = sqlite3.connect(str(url.database), isolation_level=None, timeout=20.0)
    try:
        source.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise StoreError(
            f"the copy {target} could not be written: {error}. What was copied is removed."
        ) from error
    finally:
        source.close()
    return target.stat().st_size


def check(address: str, progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """Reads everything that is stored and says in sentences what isn't right: an empty list is good news.

    ``progress`` is told how many rows of numbers are done, and how many there are.

    Raises:
        StoreError: the database can't be read at all.
    """
    reader = open_reader(address)
    try:
        found = list(_file_problems(reader))
        total = reader.read(
            lambda conn: int(conn.execute(select(func.count()).select_from(t.blocks)).scalar_one())
        )
        done = 0
        for key, segment, level, run_id in reader.read(_stretches):
            work = partial(_level_problems, key=key, segment=segment, level=level)
            count, problems = reader.read(work)
            done += count
            progress(done, total)
            found += [f"run {run_id!r}: {problem}" for problem in problems]
        found += reader.read(_tail_problems)
        return found
    finally:
        reader.close()


def _file_problems(reader: Reader) -> Iterator[str]:
    if reader.dialect == "sqlite":
        rows = reader.read(lambda conn: conn.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all())
        yield from (f"the file: {row}" for row in rows if row != "ok")


def _stretches(conn: Connection) -> list[tuple[SeriesKey, int, int, str]]:
    c = t.blocks.c
    rows = conn.execute(
        select(c.run_no, c.series, c.segment, c.level, t.runs.c.id)
        .join(t.runs, t.runs.c.no == c.run_no)
        .distinct()
        .order_by(c.run_no, c.series, c.segment, c.level)
    )
    return [(SeriesKey(run, series, 0), segment, level, str(id)) for run, series, segment, level, id in rows]


def _level_problems(conn: Connection, key: SeriesKey, segment: int, level: int) -> tuple[int, list[str]]:
    """How many blocks a level has, and what is wrong with them: each is read, and compared with the level below."""
    c = t.blocks.c
    this = (c.run_no == key.run_no) & (c.series == key.series) & (c.segment == segment) & (c.level == level)
    rows = conn.execute(select(c.first_step, c.last_step).where(this).order_by(c.first_step)).all()
    problems = []
    for first, last in rows:
        where = f"statistic {key.series}, segment {segment}, level {level}, step {first}"
        if first % level_span(level) or not first <= last < first + level_span(level):
            problems.append(f"{where}: its steps do not fit its place")
            continue
        (body,) = (body for _, body in block_bodies(conn, key, segment, level, first, first + 1))
        try:
            verify(body)
            if level == 0:
                sound = _is_sound_chunk(conn, key, segment, first, last, body)
            else:
                sound = _agrees(conn, key, segment, level, first, body)
        except StoreError as error:
            problems.append(f"{where}: {error}")
            continue
        if not sound:
            problems.append(f"{where}: it does not agree with the values that it was made from")
    return len(rows), problems


def _is_sound_chunk(
    conn: Connection, key: SeriesKey, segment: int, first: int, last: int, body: bytes
) -> bool:
    steps = chunk_steps(body)
    if kind_of(body) == "derived":
        reader = SegmentReader(conn, key, segment)
        if reader.chunk(first, body) is None and not reader.is_thinned(first, last + 1):
            return False
    return bool(steps[0] >= first and steps[-1] == last and (np.diff(steps) > 0).all())


def _agrees(conn: Connection, key: SeriesKey, segment: int, level: int, first: int, body: bytes) -> bool:
    """Whether a block of the pyramid is what the level below gives, as far as that is kept."""
    width, span = 4**level, level_span(level)
    parts: list[Buckets] = []
    if level == LOWEST:
        reader = SegmentReader(conn, key, segment)
        for start, lower in block_bodies(conn, key, segment, 0, first, first + span):
            exact = reader.chunk(start, lower)
            if exact is not None:
                parts.append(fold(width, exact.steps, exact.times, exact.values, exact.present))
            else:
                return _counts_steps(conn, key, segment, first, body)
    else:
        for start, lower in block_bodies(conn, key, segment, level - 1, first, first + span):
            parts.append(decode_buckets(lower, width // 4, start // (width // 4)))
    if not parts:
        return False
    made, stored = coarsen(parts, width), decode_buckets(body, width, first // width)
    offset = made.first - stored.first
    if offset < 0 or len(stored.steps) != BLOCK_BUCKETS or stored.steps.sum() != made.steps.sum():
        return False
    kept = stored.cut(made.first, min(made.first + len(made.steps), stored.first + BLOCK_BUCKETS))
    n = len(kept.steps)
    return all(
        np.array_equal(getattr(kept, name), getattr(made, name)[..., :n], equal_nan=True)
        for name in ("low", "high", "last", "steps", "ends", "times")
    )


def _counts_steps(conn: Connection, key: SeriesKey, segment: int, first: int, body: bytes) -> bool:
    """Whether a block counts the steps of the chunks below it, some of which have no values any more."""
    bodies = block_bodies(conn, key, segment, 0, first, first + level_span(LOWEST))
    steps = np.concatenate([chunk_steps(below) for _, below in bodies])
    counted = np.bincount((steps - first).astype(np.int64) // 4**LOWEST, minlength=BLOCK_BUCKETS)
    return np.array_equal(counted, decode_buckets(body, 4**LOWEST, first // 4**LOWEST).steps)


def _tail_problems(conn: Connection) -> list[str]:
    problems = []
    for id, body in conn.execute(select(t.tail.c.id, t.tail.c.body)).yield_per(_AT_ONCE):
        try:
            for piece in unpack(bytes(body)):
                if not bool((np.diff(piece.steps) > 0).all()):
                    problems.append(f"row {id} of the tail: its steps do not rise")
        except (ValueError, struct.error) as error:
            problems.append(f"row {id} of the tail is damaged: {error}")
    return problems
