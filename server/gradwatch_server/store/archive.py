"""Runs as a file that another server can take in: complete, streamed, of any size.

A ZIP with ``manifest.json`` and, for each segment and rank of each run, one file of records as they go over the wire
(``u32 bytes | batch``, zstd around it). Taking one in is following its records again, so what is derived is made anew.
"""

from __future__ import annotations

import json
import secrets
import struct
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import zstandard
from sqlalchemy import Connection, select

from gradwatch.errors import ProtocolError
from gradwatch.protocol import Batch, Block, Hello, Lost, Mark, Record, Schema, Statistic, Tensor
from gradwatch.protocol.binary import decode_batch, encode_batch
from gradwatch.protocol.codec import from_plain, to_plain
from gradwatch.protocol.histogram import PER_TENSOR, wide

from ..errors import Conflict, NotFound, StoreError
from ..models import Run, Segment, TensorInfo
from . import queries
from . import tables as t
from .block_queries import SeriesKey, chunk_starts
from .database import Reader
from .live import MAIN_RANK, SeriesRef
from .plain import from_json
from .series import CHUNK_STEPS, SegmentReader
from .store import Store
from .tail import Piece

__all__ = ["Progress", "export_runs", "import_runs"]

Progress = Callable[[str, int], None]
"""Told a run's id and how many of its values are done."""

FORMAT: Final = "gradwatch-archive"
VERSION: Final = 1
_SIZE: Final = struct.Struct("<I")
_WINDOW_BYTES: Final = 8 << 20
_WINDOW_CHUNKS: Final = 16
_IN_FLIGHT: Final = 4
_DAMAGE: Final = (zstandard.ZstdError, ProtocolError)


def export_runs(
    reader: Reader,
    target: Path,
    ids: Collection[str] | None = None,
    progress: Progress = lambda run, done: None,
) -> list[str]:
    """Writes runs (all without ``ids``) into the new file ``target``; gives their ids.

    Raises:
        NotFound: an id that isn't there.
        StoreError: the file exists or can't be written.
    """
    rows = reader.read(_run_rows)
    known = {str(row.id) for row in rows}
    for missing in set(ids or ()) - known:
        raise NotFound(f"there is no run {missing!r}")
    wanted = [row for row in rows if ids is None or row.id in ids]
    try:
        with target.open("xb") as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            described = [
                reader.read(partial(_export_run, archive=archive, row=row, number=i, progress=progress))
                for i, row in enumerate(wanted)
            ]
            manifest = {"format": FORMAT, "version": VERSION, "runs": described}
            archive.writestr("manifest.json", json.dumps(to_plain(manifest), allow_nan=False))
    except FileExistsError:
        raise StoreError(f"{target} exists already. Give the export another name.") from None
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(f"{target} can't be written: {error.strerror or error}") from error
        raise
    return [str(row.id) for row in wanted]


def _run_rows(conn: Connection) -> list[Any]:
    return list(conn.execute(select(t.runs).order_by(t.runs.c.no)))


def _export_run(
    conn: Connection, *, archive: zipfile.ZipFile, row: Any, number: int, progress: Progress
) -> dict[str, Any]:
    run = queries.run_of(row)
    tensors = queries.tensors_of_run(conn, row.no)
    series = [one for one in queries.series_of_run(conn, row.no) if one.scope != "group"]
    streams = []
    done = 0
    for segment in queries.segments_of_run(conn, row.no, run.id):
        for rank in sorted({MAIN_RANK, *(one.rank for one in series)}):
            name = f"runs/{number}/{segment.index}-{rank}.zst"
            mine = [one for one in series if one.rank == rank]
            with archive.open(name, "w", force_zip64=True) as file:
                count, done = _export_stream(
                    conn, file, row.no, segment, mine, partial(progress, run.id), done
                )
            streams.append(
                {
                    "segment": segment.index,
                    "rank": rank,
                    "file": name,
                    "batches": count,
                    "series": [_declared(ref) for ref in mine],
                }
            )
    c = t.lost.c
    lost = conn.execute(
        select(c.from_step, c.to_step, c.frames, c.reason).where(c.run_no == row.no).order_by(c.id)
    )
    return {
        "run": run,
        "key_hash": row.key_hash,
        "optimizers": from_json(row.optimizers),
        "segments": queries.segments_of_run(conn, row.no, run.id),
        "tensors": tensors,
        "streams": streams,
        "marks": queries.marks_of_run(conn, row.no, run.id, 0),
        "lost": [dict(one._mapping) for one in lost],
    }


def _declared(ref: SeriesRef) -> Statistic:
    plain = {name: getattr(ref, name) for name in ("name", "scope", "width", "dtype", "cadence", "logged")}
    statistic: Statistic = from_plain(Statistic, plain)
    return statistic


def _export_stream(
    conn: Connection,
    file: IO[bytes],
    run_no: int,
    segment: Segment,
    series: list[SeriesRef],
    progress: Callable[[int], None],
    done: int,
) -> tuple[int, int]:
    """Batches of a few chunks each, then what is in no chunk yet. Gives how many, and the count of values so far."""
    readers = [
        SegmentReader(conn, SeriesKey(run_no, one.idx, one.width, one.rank), segment.index) for one in series
    ]
    width = sum(one.width // max(one.cadence, 1) for one in series)
    chunks = max(1, min(_WINDOW_CHUNKS, _WINDOW_BYTES // (CHUNK_STEPS * max(width, 1) * 4)))
    size = chunks * CHUNK_STEPS
    windows = sorted({start // size * size for start in chunk_starts(conn, run_no, segment.index)})
    windows = sorted(
        {*windows, *(int(piece.steps[0]) // size * size for one in readers for piece in one.tail)}
    )
    seq = 1
    with zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as packed:
        for i, start in enumerate(windows):
            end = windows[i + 1] if i + 1 < len(windows) else 2**53
            blocks = tuple(
                _block(index, piece, one.width)
                for index, (reader, one) in enumerate(zip(readers, series, strict=True))
                for piece in reader.exact(start, end)
            )
            if blocks:
                body = encode_batch(Batch(seq=seq, schema=0, blocks=blocks))
                packed.write(_SIZE.pack(len(body)))
                packed.write(body)
                seq += 1
                done += sum(block.values.size for block in blocks)
                progress(done)
    return seq - 1, done


def _block(index: int, piece: Piece, width: int) -> Block:
    """Rows that came later than the piece are absent in it."""
    values, present = np.ascontiguousarray(piece.values), piece.present
    missing = width - values.shape[1]
    if missing:
        there = np.ones(values.shape, np.bool_) if present is None else present
        present = np.pad(there, ((0, 0), (0, missing)))
        values = np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan)
    return Block(statistic=index, steps=piece.steps, times=piece.times, values=values, present=present)


# --- taking in --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Described:
    """A run of a manifest."""

    run: Run
    plain: dict[str, Any]
    segments: list[Segment]
    tensors: tuple[Tensor, ...]


def import_runs(store: Store, source: Path, progress: Progress = lambda run, done: None) -> list[str]:
    """Takes in every run of an export; gives their ids. A run is there whole or not at all.

    Raises:
        Conflict: a run of that id is there already. Those before it are taken in.
        StoreError: the file is no export, or damaged.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
                raise StoreError(
                    f"{source} is an export of a form that this gradwatch doesn't know: upgrade gradwatch"
                )
            return [_import_run(store, archive, _described(plain), progress) for plain in manifest["runs"]]
    except (zipfile.BadZipFile, LookupError, TypeError, ValueError, struct.error, *_DAMAGE) as error:
        raise StoreError(f"{source} is not a gradwatch export, or is damaged: {error}") from error
    except OSError as error:
        raise StoreError(f"{source} can't be read: {error.strerror or error}") from error


def _described(plain: dict[str, Any]) -> _Described:
    infos = [from_plain(TensorInfo, one) for one in plain["tensors"]]
    tensors = tuple(
        Tensor(
            name=info.name,
            shape=info.shape,
            numel=info.numel,
            dtype=info.dtype,
            depth=info.depth,
            module=info.module,
            kind=info.kind,
            trainable=info.trainable,
            optimizer=info.optimizer,
        )
        for info in infos
    )
    segments = [from_plain(Segment, one) for one in plain["segments"]]
    return _Described(from_plain(Run, plain["run"]), plain, segments, tensors)


def _import_run(store: Store, archive: zipfile.ZipFile, described: _Described, progress: Progress) -> str:
    run = described.run
    if store.run(run.id) is not None:
        raise Conflict(f"run {run.id!r} is here already. Delete it first, if it is to be replaced.")
    key = secrets.token_hex(16)
    try:
        for stream in described.plain["streams"]:
            _import_stream(store, archive, described, stream, key, progress)
        store.restore_run(run, str(described.plain["key_hash"])).result()
    except BaseException:
        if store.run(run.id) is not None:
            store.delete_run(run.id).result()
        raise
    return run.id


def _import_stream(
    store: Store,
    archive: zipfile.ZipFile,
    described: _Described,
    plain: dict[str, Any],
    key: str,
    progress: Progress,
) -> None:
    run = described.run
    segment = next(one for one in described.segments if one.index == plain["segment"])
    hello = Hello(
        run_id=run.id,
        run_key=key,
        project=run.project,
        name=run.name,
        stream=f"import-{segment.index}-{plain['rank']}-{secrets.token_hex(4)}",
        segment=segment.id,
        start_step=segment.start_step,
        started_at=segment.started_at,
        rank=plain["rank"],
        optimizers=tuple(described.plain["optimizers"]),
        context=run.context,
    )
    handle = store.open_stream(hello, now=run.last_seen).result().stream
    waiting: deque[Future[int]] = deque()
    done = 0
    for record in _records(archive, described, plain, last=segment is described.segments[-1]):
        waiting.append(store.append(handle, [replace(record, seq=handle.next_seq)]).done)
        if len(waiting) > _IN_FLIGHT:
            waiting.popleft().result()
        if isinstance(record, Batch):
            done += sum(block.values.size for block in record.blocks)
            progress(run.id, done)
    for future in waiting:
        future.result()


def _records(
    archive: zipfile.ZipFile, described: _Described, plain: dict[str, Any], *, last: bool
) -> Iterator[Record]:
    known: list[Statistic] = [from_plain(Statistic, one) for one in plain["series"]]
    statistics = [replace(one, width=wide(one.scope, len(described.tensors), one.width)) for one in known]
    yield Schema(
        seq=0,
        id=0,
        statistics=tuple(statistics),
        tensors=described.tensors,
    )
    with archive.open(plain["file"]) as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
        for _ in range(plain["batches"]):
            (size,) = _SIZE.unpack(unpacked.read(_SIZE.size))
            batch = decode_batch(memoryview(unpacked.read(size)))
            yield replace(batch, blocks=tuple(_widened(block, statistics) for block in batch.blocks))
    if last and plain["rank"] == MAIN_RANK:
        for mark in described.plain["marks"]:
            yield Mark(seq=0, step=mark["step"], time=mark["time"], kind=mark["kind"], data=mark["data"])
        for lost in described.plain["lost"]:
            yield from_plain(Lost, {"seq": 0, **lost})


def _widened(block: Block, statistics: Sequence[Statistic]) -> Block:
    """A series of a rank may be narrower than the run's tensors."""
    declared = statistics[block.statistic]
    if declared.scope not in PER_TENSOR or block.values.shape[1] == declared.width:
        return block
    piece = Piece(0, block.steps, block.times, block.values, block.present)
    return _block(block.statistic, piece, declared.width)
