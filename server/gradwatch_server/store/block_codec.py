"""Stored blocks: exact values of a stretch of steps, and buckets of the pyramid, as bytes. Pure.

Both kinds begin with ``u8 version | u8 kind | u8 flags | u8 itemsize | u32 n | u32 rows | u32 check`` and are little-endian.
Sections follow, each as ``u32 bytes | data``. Arrays are made small as :mod:`.planes` describes. Compressed sections carry
zstd's checksum and are checked when read; sections that aren't compressed have theirs (CRC-32) in the head, which
:func:`verify` checks.

A chunk may hold less than its values: those of *derived* ones (norms of groups) follow from the chunk of their tensors, and
those of *thinned* ones are gone; both say which steps they are of.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from ..errors import StoreError
from .planes import compress, expand, merge, shuffle, split, unshuffle
from .pyramid import Buckets
from .tail import Piece

__all__ = [
    "Stub",
    "chunk_steps",
    "decode_buckets",
    "decode_chunk",
    "encode_buckets",
    "encode_chunk",
    "encode_stub",
    "kind_of",
    "stub_of",
    "thin",
    "verify",
]

_HEAD: Final = struct.Struct("<BBBBIII")
_SIZE: Final = struct.Struct("<I")
_VERSION: Final = 2

_CHUNK: Final = 1
_BUCKETS: Final = 2
_PRESENCE: Final = 1
_PLAIN: Final = 16
_DERIVED: Final = 32
_THINNED: Final = 64
"""Flags of a chunk: whether it has a presence bitmap; that all its values are finite and not zero; stubs."""

_COUNTS: Final = 1
"""Flag of buckets: whether they have counts."""

_SPLIT: Final = 4
_PACKED_NOISE: Final = 8
"""Flags of both: values are split, and their low bytes compressed."""


@dataclass(frozen=True, slots=True, eq=False)
class Stub:
    """A chunk of ``rows`` columns without values: *derived* from another series, or else thinned."""

    steps: npt.NDArray[np.float64]
    rows: int
    derived: bool


def _join(head: bytes, sections: list[bytes]) -> bytes:
    parts = [head]
    for section in sections:
        parts += [_SIZE.pack(len(section)), section]
    return b"".join(parts)


def _sections(body: bytes) -> Iterator[memoryview]:
    view, at = memoryview(body), _HEAD.size
    while at < len(body):
        (size,) = _SIZE.unpack_from(body, at)
        at += _SIZE.size
        yield view[at : at + size]
        at += size


def _head(body: bytes, kind: int) -> tuple[int, int, int, int]:
    version, found, flags, itemsize, n, rows, _ = _HEAD.unpack_from(body)
    if version != _VERSION or found != kind:
        raise StoreError(
            f"a stored block has form {version}.{found}, which this gradwatch doesn't know. Check the database with "
            "`gradwatch doctor --db`, or upgrade gradwatch."
        )
    return flags, itemsize, n, rows


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    try:
        yield
    except (zstandard.ZstdError, struct.error, ValueError, IndexError, StopIteration) as error:
        raise StoreError(
            f"a stored block is damaged ({error}). Check the database with `gradwatch doctor --db`, and restore a backup."
        ) from error


# --- chunks -----------------------------------------------------------------------------------------------------------


def encode_chunk(piece: Piece) -> bytes:
    """Exact values as they are kept: transposed, so that one row's steps are neighbours."""
    n, rows = piece.values.shape
    itemsize = piece.values.dtype.itemsize
    flags, check = 0 if piece.present is None else _PRESENCE, 0
    values = np.ascontiguousarray(piece.values.T, dtype=f"<f{itemsize}")
    if piece.present is None and bool(np.isfinite(values).all()) and bool(values.all()):
        flags |= _PLAIN
    if itemsize == 4 and rows:
        parts = split(values)
        sections = parts.sections
        flags |= _SPLIT | (_PACKED_NOISE if parts.packed else 0)
        check = 0 if parts.packed else zlib.crc32(sections[0])
    else:
        sections = [shuffle(values)]
    sections += _axis(piece.steps, piece.times) + _presence(piece.present)
    return _join(_HEAD.pack(_VERSION, _CHUNK, flags, itemsize, n, rows, check), sections)


def encode_stub(stub: Stub) -> bytes:
    """A chunk of which the values are not kept."""
    flags = _DERIVED if stub.derived else _THINNED
    head = _HEAD.pack(_VERSION, _CHUNK, flags, 4, len(stub.steps), stub.rows, 0)
    return _join(head, [shuffle(_deltas(stub.steps.astype(np.int64)))])


def thin(body: bytes) -> bytes:
    """What is left of a chunk when its values are not kept.

    Raises:
        StoreError: written by a newer version, or damaged.
    """
    *_, rows = _head(body, _CHUNK)
    return encode_stub(Stub(chunk_steps(body), rows, derived=False))


def kind_of(head: bytes) -> Literal["values", "derived", "thinned"]:
    """What a chunk holds, from its first bytes."""
    flags = head[2]
    return "derived" if flags & _DERIVED else "thinned" if flags & _THINNED else "values"


def stub_of(body: bytes) -> Stub | None:
    """What a derived or thinned chunk says, None for one that has its values.

    Raises:
        StoreError: written by a newer version, or damaged.
    """
    with _whole():
        flags, _, _, rows = _head(body, _CHUNK)
        if not flags & (_DERIVED | _THINNED):
            return None
        return Stub(chunk_steps(body), rows, bool(flags & _DERIVED))


def chunk_steps(body: bytes) -> npt.NDArray[np.float64]:
    """The steps of a chunk, whatever else is in it, without looking at its values.

    Raises:
        StoreError: written by a newer version, or damaged.
    """
    with _whole():
        flags, *_ = _head(body, _CHUNK)
        before = 0 if flags & (_DERIVED | _THINNED) else 4 if flags & _SPLIT else 1
        (axis,) = itertools.islice(_sections(body), before, before + 1)
        return np.cumsum(unshuffle(axis, "<i8")).astype(np.float64)


def _axis(steps: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> list[bytes]:
    whole, clock = steps.astype(np.int64), times.astype("<f8").view(np.int64)
    return [shuffle(_deltas(whole)), shuffle(_deltas(clock))]


def _presence(present: npt.NDArray[np.bool_] | None) -> list[bytes]:
    return [] if present is None else [compress(np.packbits(present.T).data)]


def decode_chunk(body: bytes, series: int) -> Piece:
    """The inverse of :func:`encode_chunk`; ``values`` is a transposed view.

    Raises:
        StoreError: written by a newer version, damaged, or a stub.
    """
    with _whole():
        return _decode_chunk(body, series)


def _decode_chunk(body: bytes, series: int) -> Piece:
    flags, itemsize, n, rows = _head(body, _CHUNK)
    if flags & (_DERIVED | _THINNED):
        raise StoreError("a stored chunk has no values of its own")
    sections = _sections(body)
    if flags & _SPLIT:
        planes = [next(sections) for _ in range(4)]
        values = merge(planes, bool(flags & _PACKED_NOISE), rows, n).T
    else:
        values = unshuffle(next(sections), f"<f{itemsize}").reshape(rows, n).T
    steps, times = _steps_times(sections)
    present = _decode_presence(flags, sections, n, rows)
    return Piece(series, steps, times, values, present, bool(flags & _PLAIN))


def _steps_times(
    sections: Iterator[memoryview],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    steps = np.cumsum(unshuffle(next(sections), "<i8")).astype(np.float64)
    return steps, np.cumsum(unshuffle(next(sections), "<i8")).view("<f8")


def _decode_presence(
    flags: int, sections: Iterator[memoryview], n: int, rows: int
) -> npt.NDArray[np.bool_] | None:
    if not flags & _PRESENCE:
        return None
    bits = np.frombuffer(expand(next(sections)), np.uint8)
    present: npt.NDArray[np.bool_] = np.unpackbits(bits, count=n * rows).view(np.bool_).reshape(rows, n).T
    return present


def _deltas(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Differences, wrapping round, so that their running sum gives ``values`` back bit by bit."""
    out: npt.NDArray[np.int64] = values.copy()
    out[1:] -= values[:-1]
    return out


# --- buckets ----------------------------------------------------------------------------------------------------------


def encode_buckets(buckets: Buckets, *, packed: bool) -> bytes:
    """Buckets as they are kept; ``packed`` trades about a third of the bytes for slower reading."""
    rows, n = buckets.last.shape
    flags, check = 0 if buckets.counts is None else _COUNTS, 0
    axis = np.concatenate(
        (_deltas(buckets.steps), _deltas(buckets.ends), _deltas(buckets.times.view(np.int64)))
    )
    if packed and rows:
        parts = split(np.concatenate((buckets.low, buckets.high, buckets.last), axis=1))
        planes = parts.sections
        flags |= _SPLIT | (_PACKED_NOISE if parts.packed else 0)
        check = 0 if parts.packed else zlib.crc32(planes[0])
    else:
        planes = [np.stack((buckets.low, buckets.high, buckets.last)).astype("<f4", copy=False).tobytes()]
        check = zlib.crc32(planes[0])
    sections = [*planes, shuffle(axis)]
    if buckets.counts is not None:
        sections += [
            compress(np.ascontiguousarray(buckets.flags()).data),
            shuffle(buckets.counts.astype("<u4")),
        ]
    return _join(_HEAD.pack(_VERSION, _BUCKETS, flags, 4, n, rows, check), sections)


def verify(body: bytes) -> None:
    """Reads everything and checks what reading for a page leaves out.

    Raises:
        StoreError: damaged.
    """
    with _whole():
        _, kind, flags, _, _, _, check = _HEAD.unpack_from(body)
        if kind == _CHUNK and flags & (_DERIVED | _THINNED):
            stub_of(body)
            return
        if kind == _CHUNK:
            _decode_chunk(body, 0)
            unpacked = flags & _SPLIT and not flags & _PACKED_NOISE
        else:
            _decode_buckets(body, 1, 0)
            unpacked = not flags & _PACKED_NOISE
        if unpacked and zlib.crc32(next(_sections(body))) != check:
            raise ValueError("its checksum does not agree")


def decode_buckets(body: bytes, width: int, first: int) -> Buckets:
    """The inverse of :func:`encode_buckets`.

    Raises:
        StoreError: written by a newer version, or damaged.
    """
    with _whole():
        return _decode_buckets(body, width, first)


def _decode_buckets(body: bytes, width: int, first: int) -> Buckets:
    flags, _, n, rows = _head(body, _BUCKETS)
    sections = _sections(body)
    low, high, last = _planes(flags, sections, rows, n)
    axis = unshuffle(next(sections), "<i8").reshape(3, n)
    steps, ends, times = np.cumsum(axis[0]), np.cumsum(axis[1]), np.cumsum(axis[2]).view("<f8")
    counts = None
    if flags & _COUNTS:
        next(sections)
        counts = unshuffle(next(sections), "<u4").reshape(4, rows, n)
    return Buckets(width, first, low, high, last, counts, steps, ends, times)


def _planes(flags: int, sections: Iterator[memoryview], rows: int, n: int) -> tuple[Any, Any, Any]:
    if flags & _SPLIT:
        planes = [next(sections) for _ in range(4)]
        joined = merge(planes, bool(flags & _PACKED_NOISE), rows, 3 * n)
        return joined[:, :n], joined[:, n : 2 * n], joined[:, 2 * n :]
    low, high, last = np.frombuffer(next(sections), "<f4").reshape(3, rows, n)
    return low, high, last
