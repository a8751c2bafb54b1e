"""Stored blocks: exact values of a stretch of steps, and buckets of the pyramid, as bytes. Pure.

Planes of numbers are byte-shuffled (all first bytes, then all second bytes, ...), which lets zstd find the signs and
exponents that neighbours share; about 3.1 bytes are left of a float32 gradient norm. Both kinds begin with
``u8 version | u8 kind | u8 flags | u8 itemsize | u32 n | u32 rows | u32 check`` and are little-endian. Sections follow, each
as ``u32 bytes | data``. Compressed sections carry zstd's checksum and are checked when read; planes that aren't compressed have
theirs (CRC-32) in the head, which :func:`verify` checks.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

from ..errors import StoreError
from .pyramid import Buckets
from .tail import Piece

__all__ = ["decode_buckets", "decode_chunk", "encode_buckets", "encode_chunk", "verify"]

_HEAD: Final = struct.Struct("<BBBBIII")
_SIZE: Final = struct.Struct("<I")
_VERSION: Final = 1
_CHUNK: Final = 1
_BUCKETS: Final = 2
_PRESENCE: Final = 1
_COUNTS: Final = 1
_PACKED: Final = 2
"""Flags: of a chunk, PRESENCE; of buckets, COUNTS and whether their planes are compressed."""

_LEVEL: Final = 1

_local = threading.local()


def _compress(data: Any) -> bytes:
    if not hasattr(_local, "zip"):
        _local.zip = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    packed: bytes = _local.zip.compress(data)
    return packed


def _expand(data: Any) -> bytes:
    if not hasattr(_local, "unzip"):
        _local.unzip = zstandard.ZstdDecompressor()
    plain: bytes = _local.unzip.decompress(data)
    return plain


def _shuffle(values: npt.NDArray[Any]) -> bytes:
    size = values.dtype.itemsize
    planes = values.reshape(-1).view(np.uint8).reshape(-1, size)
    return _compress(np.ascontiguousarray(planes.T).data)


def _unshuffle(data: Any, dtype: str) -> npt.NDArray[Any]:
    size = np.dtype(dtype).itemsize
    planes = np.frombuffer(_expand(data), np.uint8).reshape(size, -1)
    out = np.empty((planes.shape[1], size), np.uint8)
    for i, plane in enumerate(planes):  # four times faster than one transposed copy
        out[:, i] = plane
    return out.reshape(-1).view(dtype)


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


def encode_chunk(piece: Piece) -> bytes:
    """Exact values as they are kept: transposed, so that one row's steps are neighbours."""
    n, rows = piece.values.shape
    itemsize = piece.values.dtype.itemsize
    flags = 0 if piece.present is None else _PRESENCE
    steps, times = _deltas(piece.steps.astype(np.int64)), _deltas(piece.times.astype("<f8").view(np.int64))
    values = np.ascontiguousarray(piece.values.T, dtype=f"<f{itemsize}")
    sections = [_shuffle(steps), _shuffle(times), _shuffle(values)]
    if piece.present is not None:
        sections.append(_compress(np.packbits(piece.present.T).data))
    return _join(_HEAD.pack(_VERSION, _CHUNK, flags, itemsize, n, rows, 0), sections)


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    try:
        yield
    except (zstandard.ZstdError, struct.error, ValueError, IndexError, StopIteration) as error:
        raise StoreError(
            f"a stored block is damaged ({error}). Check the database with `gradwatch doctor --db`, and restore a backup."
        ) from error


def decode_chunk(body: bytes, series: int) -> Piece:
    """The inverse of :func:`encode_chunk`; ``values`` is a transposed view.

    Raises:
        StoreError: written by a newer version, or damaged.
    """
    with _whole():
        return _decode_chunk(body, series)


def _decode_chunk(body: bytes, series: int) -> Piece:
    flags, itemsize, n, rows = _head(body, _CHUNK)
    sections = _sections(body)
    steps = np.cumsum(_unshuffle(next(sections), "<i8")).astype(np.float64)
    times = np.cumsum(_unshuffle(next(sections), "<i8")).view("<f8")
    values = _unshuffle(next(sections), f"<f{itemsize}").reshape(rows, n).T
    present = None
    if flags & _PRESENCE:
        bits = np.frombuffer(_expand(next(sections)), np.uint8)
        present = np.unpackbits(bits, count=n * rows).view(np.bool_).reshape(rows, n).T
    return Piece(series, steps, times, values, present)


def _deltas(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Differences, wrapping round, so that their running sum gives ``values`` back bit by bit."""
    out: npt.NDArray[np.int64] = values.copy()
    out[1:] -= values[:-1]
    return out


def encode_buckets(buckets: Buckets, *, packed: bool) -> bytes:
    """Buckets as they are kept; ``packed`` trades about a quarter of the bytes for slower reading."""
    rows, n = buckets.last.shape
    flags = (0 if buckets.counts is None else _COUNTS) | (_PACKED if packed else 0)
    axis = np.concatenate(
        (_deltas(buckets.steps), _deltas(buckets.ends), _deltas(buckets.times.view(np.int64)))
    )
    planes = np.stack((buckets.low, buckets.high, buckets.last)).astype("<f4", copy=False)
    sections = [_shuffle(axis), _shuffle(planes) if packed else planes.tobytes()]
    check = 0 if packed else zlib.crc32(sections[1])
    if buckets.counts is not None:
        sections += [
            _compress(np.ascontiguousarray(buckets.flags()).data),
            _shuffle(buckets.counts.astype("<u4")),
        ]
    return _join(_HEAD.pack(_VERSION, _BUCKETS, flags, 4, n, rows, check), sections)


def verify(body: bytes) -> None:
    """Reads everything and checks what reading for a page leaves out.

    Raises:
        StoreError: damaged.
    """
    with _whole():
        kind = body[1]
        if kind == _CHUNK:
            _decode_chunk(body, 0)
            return
        flags, *_ = _head(body, _BUCKETS)
        _decode_buckets(body, 1, 0)
        planes = list(_sections(body))[1]
        if not flags & _PACKED and zlib.crc32(planes) != _HEAD.unpack_from(body)[-1]:
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
    axis = _unshuffle(next(sections), "<i8").reshape(3, n)
    steps, ends, times = np.cumsum(axis[0]), np.cumsum(axis[1]), np.cumsum(axis[2]).view("<f8")
    data = next(sections)
    flat = _unshuffle(data, "<f4") if flags & _PACKED else np.frombuffer(data, "<f4")
    low, high, last = flat.reshape(3, rows, n)
    counts = None
    if flags & _COUNTS:
        next(sections)
        counts = _unshuffle(next(sections), "<u4").reshape(4, rows, n)
    return Buckets(width, first, low, high, last, counts, steps, ends, times)
