"""Records that are encoded and not acknowledged yet: in memory, and on disk once their steps are half a second old.

Each record has one number for ever. The newest stand in memory up to a bound of bytes; older ones are read back from
the spool when the server wants them. Where there is no disk either, the oldest batches become ``Lost`` records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from .errors import FrameTooLarge, SpoolError
from .protocol import Batch, Lost, Mark, Record, Schema, Tensor, decode, encode
from .spool import BINARY, Entry, Spool, tombstone

__all__ = ["SPOOL_AFTER_S", "Journal"]

SPOOL_AFTER_S: Final = 0.3
"""What is not acknowledged within this time is written to the spool, less than half a second after its step (the sender
flushes and looks about every tenth of a second)."""

RETRY_SPOOL_S: Final = 5.0
SCHEMAS_KEPT: Final = 64


@dataclass(slots=True)
class _Kept:
    data: bytes | str
    at: float


class Journal:
    """The outgoing records of one stream, from the oldest not acknowledged to the newest.

    Args:
        open_spool: makes the spool when it is first needed; raises SpoolError if that cannot be. None for no spool.
        memory_limit: most bytes of records in memory.
        tell: gets a sentence when the spool cannot be used; once.
    """

    def __init__(
        self,
        open_spool: Callable[[], Spool] | None,
        *,
        memory_limit: int = 32 * 1024**2,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.acked = 0
        self.next_seq = 0
        self.cursor = 0
        self.lost_frames = 0
        self.spool: Spool | None = None
        self._open_spool = open_spool
        self._kept: dict[int, _Kept] = {}
        self._bytes = 0
        self._limit = memory_limit
        self._spooled = 0
        self._retry_at = 0.0
        self._tell = tell
        self._told = False
        self._reader: tuple[int, Iterator[Entry]] = (-1, iter(()))
        self._schemas: dict[int, str] = {}
        """The newest schema records that are not acknowledged, and the one in force before them, each with its tensors."""
        self._read_step = -1
        self._tensors: tuple[Tensor, ...] | None = None

    @property
    def outstanding(self) -> int:
        """How many records are not acknowledged."""
        return self.next_seq - self.acked

    @property
    def spooled(self) -> int:
        """How many of them are on disk."""
        return max(0, self._spooled - self.acked)

    def append(self, record: Record, now: float) -> None:
        """Encodes and keeps a record, whose number must be :attr:`next_seq`."""
        data = _encoded(record)
        if isinstance(record, Batch) and isinstance(data, str):
            self.lost_frames += _frames(record)
        if isinstance(record, Schema):
            self._tensors = self._tensors if record.tensors is None else record.tensors
            whole = dataclasses.replace(record, tensors=self._tensors)
            self._schemas[record.seq] = str(encode(whole))
            if len(self._schemas) > SCHEMAS_KEPT:
                del self._schemas[next(iter(self._schemas))]
        self._kept[record.seq] = _Kept(data, now)
        self._bytes += len(data)
        self.next_seq = record.seq + 1

    def peek(self) -> bytes | str | None:
        """The next record to send, None if all are sent. :meth:`advance` after sending it."""
        if self.cursor >= self.next_seq:
            return None
        kept = self._kept.get(self.cursor)
        return kept.data if kept is not None else self._read_back(self.cursor)

    def advance(self) -> None:
        """The record of :meth:`peek` is sent."""
        self.cursor += 1

    def rewind(self, next_seq: int) -> bool:
        """The server wants to go on at ``next_seq``. False if that is no longer here: it lost what it had acknowledged."""
        if not self.acked <= next_seq <= self.next_seq:
            return False
        self.acknowledge(next_seq)
        self.cursor = next_seq
        return True

    def acknowledge(self, next_seq: int) -> None:
        """Everything under ``next_seq`` is stored: forget it."""
        for seq in range(self.acked, min(next_seq, self.next_seq)):
            kept = self._kept.pop(seq, None)
            self._bytes -= len(kept.data) if kept is not None else 0
        self.acked = max(self.acked, min(next_seq, self.next_seq))
        self._forget_schemas()
        self.cursor = max(self.cursor, self.acked)
        if self.spool is not None:
            self.spool.free(self.acked)

    def tend(self, now: float, *, all_of_it: bool = False) -> None:
        """Writes to the spool what is due, and keeps memory within its bound. Call every turn."""
        self._write_due(now, all_of_it or self._bytes > self._limit)
        for seq in list(self._kept) if self._bytes > self._limit else ():
            if self._bytes <= self._limit:
                break
            if seq < self._spooled:
                self._bytes -= len(self._kept.pop(seq).data)
            else:
                self._bury(seq)

    def close(self) -> None:
        """Lets the spool go."""
        if self.spool is not None:
            self.spool.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _write_due(self, now: float, all_of_it: bool) -> None:
        seq = max(self._spooled, self.acked)
        if self._open_spool is None or now < self._retry_at:
            return
        try:
            while seq < self.next_seq and (all_of_it or now - self._kept[seq].at >= SPOOL_AFTER_S):
                if self.spool is None:
                    self.spool = self._open_spool()
                    self.spool.on_lost = self._lost_on_disk
                self.spool.note_schema(self._schema_before(seq))
                self.spool.append(seq, self._kept[seq].data)
                seq += 1
                self._spooled = seq
        except SpoolError as error:
            self._retry_at = now + RETRY_SPOOL_S
            if not self._told:
                self._told = True
                self._tell(f"{error}; undelivered steps are kept in memory only")

    def _lost_on_disk(self, lost: Lost) -> None:
        self.lost_frames += lost.frames
        kept = self._kept.pop(lost.seq, None)
        self._bytes -= len(kept.data) if kept is not None else 0

    def _schema_before(self, seq: int) -> str:
        return next((text for at, text in reversed(self._schemas.items()) if at < seq), "")

    def _forget_schemas(self) -> None:
        in_force = max((at for at in self._schemas if at < self.acked), default=-1)
        for at in [at for at in self._schemas if at < in_force]:
            del self._schemas[at]

    def _bury(self, seq: int) -> None:
        kept = self._kept[seq]
        if isinstance(kept.data, bytes):
            lost = tombstone(kept.data, "no room in memory, and none on disk")
            data = encode(lost)
            if len(data) < len(kept.data):
                self.lost_frames += lost.frames
                self._bytes -= len(kept.data) - len(data)
                kept.data = data

    def _read_back(self, seq: int) -> bytes | str:
        assert self.spool is not None
        at, entries = self._reader
        entry = self._next(entries) if at == seq else None
        if entry is None:
            entries = self.spool.read_from(seq)
            entry = self._next(entries)
        if entry is None or entry.seq != seq:
            self._reader = (-1, iter(()))
            return self._stand_in(seq, entry)
        self._reader = (seq + 1, entries)
        if entry.kind == BINARY:
            self._read_step = _steps(entry.payload)[1]
        return entry.data

    @staticmethod
    def _next(entries: Iterator[Entry]) -> Entry | None:
        """None at the end, and where the file has been taken away or cannot be read."""
        try:
            return next(entries, None)
        except OSError:
            return None

    def _stand_in(self, seq: int, later: Entry | None) -> bytes | str:
        """For a record that somebody deleted or damaged on disk. Numbers must go on, so a schema is sent from memory, and
        for anything else a ``Lost``: the first of a gap counts the steps up to what is there next."""
        if seq in self._schemas:
            return self._schemas[seq]
        first = self._read_step + 1
        after = self._first_step_after(seq, later)
        last = first if after is None else max(after - 1, 0)
        frames = max(0, last - first + 1)
        first, self._read_step = min(first, last), last
        self.lost_frames += frames
        return encode(
            Lost(seq=seq, from_step=first, to_step=last, frames=frames, reason="the spool is damaged")
        )

    def _first_step_after(self, seq: int, later: Entry | None) -> int | None:
        if later is not None and later.kind == BINARY:
            return _steps(later.payload)[0]
        kept = (self._kept[at].data for at in range(seq + 1, self.next_seq) if at in self._kept)
        return next((_steps(data)[0] for data in kept if isinstance(data, bytes)), None)


def _steps(data: bytes) -> tuple[int, int]:
    """First and last step of an encoded batch."""
    batch = decode(data)
    assert isinstance(batch, Batch)
    axes = [block.steps for block in batch.blocks]
    return min(int(steps[0]) for steps in axes), max(int(steps[-1]) for steps in axes)


def _frames(batch: Batch) -> int:
    return max(len(block.steps) for block in batch.blocks)


def _encoded(record: Record) -> bytes | str:
    """The record, or what can be said instead of one that is too large for the wire."""
    try:
        return encode(record)
    except FrameTooLarge as error:
        if isinstance(record, Mark):
            return encode(dataclasses.replace(record, data={"left out": str(error)}))
        if isinstance(record, Batch):
            steps = [int(step) for block in record.blocks for step in (block.steps[0], block.steps[-1])]
            lost = Lost(
                seq=record.seq,
                from_step=min(steps),
                to_step=max(steps),
                frames=_frames(record),
                reason="too large for one message: watch fewer tensors with include=",
            )
            return encode(lost)
        raise
