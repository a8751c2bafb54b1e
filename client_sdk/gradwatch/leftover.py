"""Spools that nobody writes to any more, and reading one, finished or still growing, in order and without gaps."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import ProtocolError
from .lockfile import holder
from .protocol import Batch, Bye, Hello, Lost, Record, Schema, decode, encode
from .spool import BINARY, CONTEXT, HELLO, TARGET, TEXT, Entry, read_segment, segments_of

__all__ = ["SpoolReader", "renumbered", "spools_in", "target_of"]

FOREIGN_QUIET_S = 600.0
"""A spool last written by another computer counts as abandoned after this long: its lock may not reach us."""

SETTLED_S = 60.0
"""A gap in a spool that was written later than this long ago may still be filled: somebody may be copying it."""


def spools_in(directory: Path) -> list[Path]:
    """The spool folders in ``directory`` (or ``directory`` itself, if it is one), the longest untouched first."""
    if segments_of(directory):
        return [directory]
    folders = [path for path in directory.iterdir() if path.is_dir() and segments_of(path)]
    return sorted(folders, key=written_at)


def target_of(folder: Path) -> str:
    """The server that a spool was meant for, "" for the local one."""
    try:
        return (folder / TARGET).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def may_be_alive_elsewhere(folder: Path) -> bool:
    """Whether another computer took the lock and has written lately: then it is read, and left where it is."""
    host = holder(folder / "lock").get("host")
    if host in (None, socket.gethostname()):
        return False
    return time.time() - written_at(folder) < FOREIGN_QUIET_S


def written_at(folder: Path) -> float:
    """When a spool last changed, 0 for an empty one."""
    found = 0.0
    for path in segments_of(folder):
        try:
            found = max(found, path.stat().st_mtime)
        except FileNotFoundError:
            continue  # its writer has freed it since
    return found


class SpoolReader:
    """The records of one spool from a given number on; call :meth:`read` again for what was added since.

    Records that are missing in the middle (a damaged place) come as ``Lost``, so that the numbers go on; but not while the
    spool still changes: then reading stops there, and :attr:`waits` is True.

    Args:
        clock: Unix time, as file systems have it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.finished = False
        self.waits = False
        self._clock = clock
        self._at = 0
        self._schema = -1
        self._step = -1
        self._seen: dict[Path, tuple[int, int, int]] = {}
        """Of each segment: its inode, its size, and where the last entry ended that was given."""
        self._context: Schema | None = None

    def hello(self) -> Hello | None:
        """Who wrote it, None if no segment says."""
        for path in segments_of(self.folder):
            for entry in read_segment(path):
                message = _decoded(entry)
                return message if entry.kind == HELLO and isinstance(message, Hello) else None
        return None

    def first(self) -> tuple[int, Schema | None] | None:
        """The oldest number that is there, and the schema in force at that point."""
        schema: Schema | None = None
        for path in segments_of(self.folder):
            for entry in read_segment(path):
                if entry.kind >= TEXT:
                    return entry.seq, schema
                message = _decoded(entry) if entry.kind == CONTEXT else None
                schema = message if isinstance(message, Schema) else schema
        return None

    def start(self, seq: int) -> None:
        """The next record to give is number ``seq``."""
        self._at = seq
        self._seen.clear()

    def read(self) -> Iterator[tuple[int, bytes | str]]:
        """Numbers and records, from where the last call ended to the end of what is there now.

        Raises:
            OSError: a file cannot be read; one that its writer has freed is left out.
        """
        self.waits = False
        paths = segments_of(self.folder)
        for i, path in enumerate(paths):
            if i < len(paths) - 1 and int(paths[i + 1].stem) <= self._at:
                continue
            try:
                yield from self._segment(path)
            except FileNotFoundError:
                continue
            if self.waits:
                return

    def _segment(self, path: Path) -> Iterator[tuple[int, bytes | str]]:
        status = path.stat()
        inode, size, start = self._seen.get(path, (status.st_ino, -1, 0))
        if inode != status.st_ino or status.st_size < start:
            start = 0  # thinned, or copied anew
        elif size == status.st_size:
            return
        for entry in read_segment(path, start):
            message = _decoded(entry) if entry.kind != BINARY else None
            if entry.kind == CONTEXT and isinstance(message, Schema):
                self._context = message
            if entry.kind >= TEXT and entry.seq >= self._at:
                if entry.seq > self._at:
                    if self._clock() - written_at(self.folder) < SETTLED_S:
                        self.waits = True
                        return
                    yield from self._fill(entry, self._context)
                self._note(entry, message)
                self._at = entry.seq + 1
                yield entry.seq, entry.data
            self._seen[path] = (status.st_ino, -1, entry.end)
        self._seen[path] = (status.st_ino, status.st_size, self._seen.get(path, (0, 0, 0))[2])

    def _fill(self, entry: Entry, context: Schema | None) -> Iterator[tuple[int, bytes | str]]:
        """Stands in for the missing records before ``entry``: the schema in force there, if it is news, and ``Lost``."""
        first, after = self._step + 1, _first_step(entry)
        last = max(first, after - 1) if after is not None else first
        frames = last - first + 1
        for seq in range(self._at, entry.seq):
            if context is not None and context.id > self._schema:
                self._schema = context.id
                yield seq, encode(dataclasses.replace(context, seq=seq))
                continue
            lost = Lost(seq=seq, from_step=first, to_step=last, frames=frames, reason="the spool is damaged")
            frames = 0
            yield seq, encode(lost)

    def _note(self, entry: Entry, message: object) -> None:
        if isinstance(message, Schema):
            self._schema = message.id
        self.finished = self.finished or isinstance(message, Bye)
        if entry.kind == BINARY:
            batch = decode(entry.payload)
            assert isinstance(batch, Batch)
            self._step = max(int(block.steps[-1]) for block in batch.blocks)
            self._schema = batch.schema


def renumbered(data: bytes | str, seq: int) -> bytes | str:
    """The same record under another number."""
    record = decode(data)
    assert isinstance(record, Record)
    return encode(dataclasses.replace(record, seq=seq))


def _first_step(entry: Entry) -> int | None:
    if entry.kind != BINARY:
        return None
    batch = decode(entry.payload)
    assert isinstance(batch, Batch)
    return min(int(block.steps[0]) for block in batch.blocks)


def _decoded(entry: Entry) -> object:
    try:
        return decode(entry.payload if entry.kind == BINARY else entry.payload.decode())
    except (ProtocolError, UnicodeDecodeError):
        return None


def remove(folder: Path) -> None:
    """Deletes a spool that is delivered."""
    for path in [*segments_of(folder), folder / TARGET, folder / "lock"]:
        path.unlink(missing_ok=True)
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)
    try:
        os.rmdir(folder)
    except OSError:
        return
