"""Undelivered records on disk: append-only, checksummed, freed when acknowledged, readable by the next process.

A stream's spool is a folder ``<spool>/<run id>-<stream>`` with a ``lock`` file (held by the one writer) and segments named
after their first sequence number. A segment is the magic ``GWSPOOL1`` and then entries::

    u32 length of payload | u32 crc32 of the rest | u8 kind | 3 zero bytes | u64 seq | payload

Every segment begins with the ``hello`` (JSON, without its proof) and the ``schema`` in force, so that each can be read
by itself. A reader takes entries up to the first that is cut short or does not match its checksum.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import SpoolError
from .lockfile import LockFile
from .protocol import Batch, Hello, Lost, decode, encode

__all__ = ["Entry", "Spool", "read_segment", "segments_of"]

MAGIC: Final = b"GWSPOOL1"
SUFFIX: Final = ".gws"
TARGET: Final = "server"
"""File with the address of the server that a spool is meant for."""

_ENTRY: Final = struct.Struct("<IIB3xQ")
HELLO: Final = 0
CONTEXT: Final = 1
TEXT: Final = 2
BINARY: Final = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a record (``kind`` TEXT or BINARY), or what stands before them (HELLO, CONTEXT). It ends before byte
    ``end`` of its segment."""

    kind: int
    seq: int
    payload: bytes
    end: int = 0

    @property
    def data(self) -> bytes | str:
        """As it goes on the wire."""
        return self.payload if self.kind == BINARY else self.payload.decode()


def pack_entry(kind: int, seq: int, payload: bytes) -> bytes:
    """The bytes of one entry."""
    head = _ENTRY.pack(len(payload), 0, kind, seq)
    return _ENTRY.pack(len(payload), zlib.crc32(payload, zlib.crc32(head)), kind, seq) + payload


def read_segment(path: Path, start: int = 0) -> Iterator[Entry]:
    """The entries of a segment up to the first damaged one; with ``start`` those from that byte on, where an entry ended.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    at = 0
    if not start:
        at = len(MAGIC)
        if data[:at] != MAGIC:
            return
    while at + _ENTRY.size <= len(data):
        length, crc, kind, seq = _ENTRY.unpack_from(data, at)
        payload = data[at + _ENTRY.size : at + _ENTRY.size + length]
        head = _ENTRY.pack(length, 0, kind, seq)
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(head)) != crc:
            return
        at += _ENTRY.size + length
        yield Entry(kind, seq, payload, start + at)


def segments_of(folder: Path) -> list[Path]:
    """The segments in a stream's folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


class Spool:
    """The spool of one stream, open for writing. Used by the sender thread alone.

    Args:
        folder: made here, readable by the user only.
        hello: who the records are from.
        limit: most bytes on disk; beyond it the oldest batches are replaced by ``Lost`` records of the same number.
        target: address of the server it is meant for, "" for the local one.
        segment_bytes: a new segment is begun when one holds this much, without what every segment begins with.

    Raises:
        SpoolError: the folder cannot be written, or another process holds it.
    """

    def __init__(
        self, folder: Path, hello: Hello, *, limit: int, target: str = "", segment_bytes: int = 8 * 1024**2
    ) -> None:
        self.folder = folder
        self.bytes = 0
        self.on_lost: Callable[[Lost], None] = lambda lost: None
        self._hello = encode(hello)
        self._schema = ""
        self._limit = limit
        self._segment_bytes = min(segment_bytes, max(limit // 4, 4096))
        self._segments: list[_Segment] = []
        self._file = -1
        self._head_size = 0
        self._reader: tuple[Path, Iterator[Entry]] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / TARGET).write_text(target, encoding="utf-8")
            self._lock = LockFile(folder / "lock")
            held = self._lock.acquire()
        except OSError as error:
            raise SpoolError(f"cannot write to {folder}: {error.strerror or error}") from error
        if not held:
            raise SpoolError(f"another process writes to {folder}")

    def note_schema(self, text: str) -> None:
        """The schema in force from here on; repeated at the beginning of each segment."""
        self._schema = text

    def append(self, seq: int, data: bytes | str) -> None:
        """Adds a record; numbers must rise by one.

        Raises:
            SpoolError: it could not be written; what was there before still is.
        """
        if isinstance(data, str):
            entry = pack_entry(TEXT, seq, data.encode())
        else:
            entry = pack_entry(BINARY, seq, data)
        try:
            if self._file < 0 or self._segments[-1].size > self._head_size + self._segment_bytes:
                self._begin(seq)
            self._write(entry)
        except OSError as error:
            raise SpoolError(f"cannot write to {self.folder}: {error.strerror or error}") from error
        self._segments[-1].last = seq
        while self.bytes > self._limit and self._thin():
            pass

    def free(self, below: int) -> None:
        """Deletes what is acknowledged: segments whose records all have numbers under ``below``. One that cannot be deleted
        stays: sent again by a later ``sync``, it changes nothing."""
        while self._segments and self._segments[0].last < below:
            segment = self._segments.pop(0)
            if not self._segments:
                self._close_file()
            self.bytes -= segment.size
            with suppress(OSError):
                segment.path.unlink()

    def read_from(self, seq: int) -> Iterator[Entry]:
        """The records from ``seq`` on, in order."""
        for segment in list(self._segments):
            if segment.last >= seq and segment.path.exists():
                for entry in read_segment(segment.path):
                    if entry.kind >= TEXT and entry.seq >= seq:
                        yield entry

    def close(self) -> None:
        """Ends writing and lets others have the spool; an empty one is removed."""
        self._close_file()
        if self._segments:
            self._lock.release()
            return
        try:
            (self.folder / TARGET).unlink(missing_ok=True)
            (self.folder / "lock").unlink(missing_ok=True)
            self._lock.release()
            self.folder.rmdir()
        except OSError:
            self._lock.release()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begin(self, seq: int) -> None:
        self._close_file()
        path = self.folder / f"{seq:016d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        self._segments.append(_Segment(path, seq, seq - 1, 0))
        try:
            head = self._head()
            self._head_size = len(head)
            self._write(head)
        except OSError:
            self._segments.pop()
            self._close_file()
            path.unlink(missing_ok=True)
            raise

    def _head(self) -> bytes:
        hello = pack_entry(HELLO, 0, str(self._hello).encode())
        return MAGIC + hello + (pack_entry(CONTEXT, 0, self._schema.encode()) if self._schema else b"")

    def _write(self, data: bytes) -> None:
        segment = self._segments[-1]
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, segment.size)
            os.lseek(self._file, segment.size, os.SEEK_SET)
            raise
        segment.size += len(data)
        self.bytes += len(data)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _thin(self) -> bool:
        """Replaces the batches of the oldest full segment by ``Lost`` records; False if there is none left."""
        for segment in self._segments[:-1]:
            if not segment.thinned:
                try:
                    self._thin_segment(segment)
                except OSError:
                    return False  # no room even for less, or the file was taken away: tried again with the next record
                return True
        return False

    def _thin_segment(self, segment: _Segment) -> None:
        parts, gone = [MAGIC], []
        for entry in read_segment(segment.path):
            if entry.kind == BINARY:
                lost = tombstone(entry.payload, "the spool was full")
                gone.append(lost)
                parts.append(pack_entry(TEXT, entry.seq, str(encode(lost)).encode()))
            else:
                parts.append(pack_entry(entry.kind, entry.seq, entry.payload))
        data = b"".join(parts)
        small = segment.path.with_suffix(".tmp")
        small.write_bytes(data)
        os.replace(small, segment.path)
        self.bytes += len(data) - segment.size
        segment.size = len(data)
        segment.thinned = True
        for lost in gone:
            self.on_lost(lost)


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    last: int
    size: int
    thinned: bool = False


def tombstone(data: bytes, reason: str) -> Lost:
    """What takes the place of a batch that was dropped: it keeps the number, so that the next one still follows."""
    batch = decode(data)
    assert isinstance(batch, Batch)
    first = min(int(block.steps[0]) for block in batch.blocks)
    last = max(int(block.steps[-1]) for block in batch.blocks)
    frames = max(len(block.steps) for block in batch.blocks)
    return Lost(seq=batch.seq, from_step=first, to_step=last, frames=frames, reason=reason)
