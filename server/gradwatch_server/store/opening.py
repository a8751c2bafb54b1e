"""A stream opens: its run, segment and stream are found or made, and what was declared before is loaded."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, func, select

from gradwatch.errors import ProtocolError
from gradwatch.protocol import Hello
from gradwatch.protocol.limits import MAX_STORED_STEP, MAX_WHO

from ..errors import RunKeyRefused, StreamFenced
from ..models import Run
from . import queries, writes
from . import tables as t
from .block_queries import tail_bodies
from .live import LiveRun, StreamHandle, declare
from .plain import INT32, int32s, statistics, text
from .tail import unpack

__all__ = ["OpenedStream", "begin", "checked", "hash_of", "load_live", "open_stream"]


_APART_S: Final = 0.001
"""Segments whose clocks disagree begin at least this far apart."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedStream:
    """A stream that may append from ``next_seq`` on. ``created``: its run is new."""

    stream: StreamHandle
    run: Run
    next_seq: int
    created: bool
    context: dict[str, Any] | None = None
    """The run's, where this stream has made more of it private."""


def checked(hello: Hello, now: float) -> Hello:
    """``hello`` as every database can hold it.

    Raises:
        ProtocolError: an id or number that none can.
    """
    for name in ("run_id", "stream", "segment"):
        value = getattr(hello, name)
        if text(value) != value:
            raise ProtocolError(f"Hello.{name} holds characters that cannot be stored")
    if hello.start_step >= MAX_STORED_STEP or hello.rank > INT32:
        raise ProtocolError(f"Hello with step {hello.start_step} and rank {hello.rank}, which are too large")
    started = hello.started_at if math.isfinite(hello.started_at) and hello.started_at > 0 else now
    return replace(hello, project=text(hello.project), name=text(hello.name), started_at=started)


def open_stream(conn: Connection, hello: Hello, live: LiveRun | None, *, now: float) -> OpenedStream:
    """Finds or makes the rows. ``live`` is the run if it is known already; :func:`begin` must follow.

    Raises:
        RunKeyRefused: another client owns the run.
        StreamFenced: a newer stream of the same rank has taken over.
    """
    key_hash = hash_of(hello.run_key)
    row = queries.find_run(conn, hello.run_id)
    if row is not None and not hmac.compare_digest(str(row.key_hash), key_hash):
        raise RunKeyRefused(
            f"another client already owns run {hello.run_id!r}: its key is not the one sent. Choose another run id, or "
            "leave it out to get a new one."
        )
    if row is None:
        live = _new_run(conn, hello, key_hash, now)
    elif live is None:
        live = load_live(conn, row.no, queries.run_of(row))
    live.key_hash = key_hash
    stream = _stream(conn, hello, live, now)
    context = _more_private(live.run.context, hello.context)
    if context is not None:
        writes.save_context(conn, live.no, context)
    return OpenedStream(stream, live.run, stream.next_seq, created=row is None, context=context)


def begin(opened: OpenedStream, *, now: float) -> OpenedStream:
    """The run after the stream has opened. No SQL: it changes what appends of other threads change too, under their lock."""
    stream, live = opened.stream, opened.stream.live
    if stream.segment_at >= live.segment_at:
        live.segment, live.segment_at = stream.segment, stream.segment_at
    if stream.speaks and not stream.ended:
        live.run = replace(live.run, state="running", finished_at=None, reason="", error=None)
    if opened.context is not None:
        live.run = replace(live.run, context=opened.context)
    live.run = replace(live.run, last_seen=max(now, live.run.last_seen))
    return replace(opened, run=live.run)


def hash_of(run_key: str) -> str:
    """What is stored of a run's key."""
    return hashlib.sha256(run_key.encode()).hexdigest()


def _who(context: Mapping[str, Any]) -> str:
    """Whose account started the run, as the client says: a short name, or nothing."""
    who = context.get("who")
    return who[:MAX_WHO] if isinstance(who, str) else ""


def _more_private(known: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any] | None:
    """The context of a run that goes on, with what the new stream says is private besides; None where that is nothing. What
    said nothing of it stays private as a whole."""
    before, now = known.get("private"), said.get("private")
    if not isinstance(before, list) or not isinstance(now, list):
        return None
    added = [glob for glob in now if glob not in before]
    return {**known, "private": [*before, *added]} if added else None


def _new_run(conn: Connection, hello: Hello, key_hash: str, now: float) -> LiveRun:
    run = Run(
        id=hello.run_id,
        project=hello.project,
        name=hello.name,
        state="running",
        created_at=hello.started_at,
        last_time=0.0,
        last_seen=now,
        context=hello.context,
        who=_who(hello.context),
    )
    no = writes.insert_run(conn, run, key_hash, hello.optimizers)
    return LiveRun(no, run, {}, {}, {})


def load_live(conn: Connection, no: int, run: Run) -> LiveRun:
    """A run as it stands in the database."""
    c = t.segments.c
    newest = conn.execute(
        select(c.idx, c.started_at).where(c.run_no == no).order_by(c.started_at.desc(), c.idx.desc()).limit(1)
    ).one_or_none()
    return LiveRun(
        no,
        run,
        {tensor.name: tensor for tensor in queries.tensors_of_run(conn, no)},
        {group.path: group for group in queries.groups_of_run(conn, no)},
        {(series.rank, series.scope, series.name): series for series in queries.series_of_run(conn, no)},
        segment=newest.idx if newest is not None else 0,
        segment_at=newest.started_at if newest is not None else 0.0,
        loaded_steps=run.steps,
    )


def _stream(conn: Connection, hello: Hello, live: LiveRun, now: float) -> StreamHandle:
    c = t.streams.c
    row = conn.execute(
        select(t.streams).where((c.run_no == live.no) & (c.stream == hello.stream))
    ).one_or_none()
    if row is not None and row.fenced:
        raise StreamFenced(
            f"a newer process has taken over run {hello.run_id!r}; this one sends no more. Each process needs a run of its "
            "own, or its own rank."
        )
    if row is None:
        segment, began = _segment(conn, hello, live.no)
        no = writes.insert_stream(conn, live.no, hello.stream, hello.rank, segment, now)
        writes.fence(conn, live.no, hello.rank, segment, but=no)
        stream = StreamHandle(
            no=no,
            stream=hello.stream,
            live=live,
            rank=hello.rank,
            segment=segment,
            next_seq=0,
            segment_at=began,
        )
    else:
        stream = StreamHandle(
            no=row.no,
            stream=hello.stream,
            live=live,
            rank=row.rank,
            segment=row.segment,
            next_seq=row.next_seq,
            ended=row.ended,
            segment_at=_began(conn, live.no, row.segment),
        )
        _load_layouts(conn, stream)
    _load_newest(conn, stream)
    return stream


def _segment(conn: Connection, hello: Hello, run_no: int) -> tuple[int, float]:
    """Index of the stream's segment, and when it began. A new one is the newest even if its computer's clock is behind,
    unless it comes late from a spool."""
    c = t.segments.c
    found = conn.execute(
        select(c.idx, c.started_at).where((c.run_no == run_no) & (c.id == hello.segment))
    ).one_or_none()
    if found is not None:
        return int(found.idx), float(found.started_at)
    began = hello.started_at
    newest = conn.execute(select(func.max(c.started_at)).where(c.run_no == run_no)).scalar()
    if newest is not None and not hello.late:
        began = max(began, float(newest) + _APART_S)
    return writes.insert_segment(conn, run_no, hello.segment, hello.start_step, began), began


def _began(conn: Connection, run_no: int, segment: int) -> float:
    c = t.segments.c
    return float(
        conn.execute(select(c.started_at).where((c.run_no == run_no) & (c.idx == segment))).scalar_one()
    )


def _load_layouts(conn: Connection, stream: StreamHandle) -> None:
    c = t.schemas.c
    rows = conn.execute(select(t.schemas).where(c.stream_no == stream.no).order_by(c.id))
    for row in rows:
        layout, _ = declare(stream.live, stream.rank, statistics(row.statistics), int32s(row.rows))
        stream.layouts[row.id] = layout


def _load_newest(conn: Connection, stream: StreamHandle) -> None:
    """The newest step of each series in the stream's segment, stored before by it or by an earlier stream of its rank."""
    c = t.blocks.c
    mine = {series.idx for series in stream.live.series.values() if series.rank == stream.rank}
    this = (c.run_no == stream.live.no) & (c.segment == stream.segment) & (c.level == 0)
    rows = conn.execute(select(c.series, func.max(c.last_step)).where(this).group_by(c.series))
    newest = {int(series): float(step) for series, step in rows if series in mine}
    for _, _, body in tail_bodies(conn, stream.live.no, stream.segment, stream.rank):
        for piece in unpack(body):
            newest[piece.series] = max(newest.get(piece.series, -1.0), float(piece.steps[-1]))
    stream.newest = newest
    stream.newest_step = max(newest.values(), default=-1.0)
