"""Series for the browser: the binary form ``GWV1`` of snapshots and deltas. Pure; ``static/js/core/codec.js`` reads it.

Little-endian; the numbers start at a multiple of 8, so that typed arrays can view them in place::

     0  4s  "GWV1"            20  (first_bucket, cont.)
     4  u16 version (1)       24  u32 width, steps per bucket
     6  u8  kind (1, 2)       28  u32 n, buckets
     7  u8  0                 32  u32 rows
     8  u32 subscription      36  u32 planes (1 or 3)
    12  u32 segment           40  f64 last_step (-1: none)
    16  f64 first_bucket      48  f64 last_time (Unix seconds)
    56  f32 planes, each [rows, n] row by row: low, high, last (planes 3) or last alone (planes 1)
        u8  flags [rows, n], then zeros up to a multiple of 8

``segment`` is 0xFFFFFFFF where segments are joined. With one plane low = high = last (a bucket is one step). Flags: 1
present, 2 a NaN, 4 an Inf, 8 an exact zero in the bucket; an absent cell has flags 0 and NaN values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from gradwatch.errors import ProtocolError

from ..models import Series

__all__ = ["DELTA", "JOINED", "SNAPSHOT", "View", "decode_view", "encode_view"]

SNAPSHOT: Final = 1
DELTA: Final = 2
JOINED: Final = 0xFFFFFFFF
"""The segment field of a view that joins the segments."""

_MAGIC: Final = b"GWV1"
_HEADER: Final = struct.Struct("<4sHBBIIdIIIIdd")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """One message: a series, and which subscription it answers."""

    kind: int
    subscription: int
    segment: int | None
    series: Series


def encode_view(
    series: Series, *, kind: int = SNAPSHOT, subscription: int = 0, segment: int | None = None
) -> bytes:
    """``series`` as bytes. Only ``last`` is sent where buckets are single steps."""
    rows, n = series.last.shape
    planes = 1 if series.width == 1 else 3
    header = _HEADER.pack(
        _MAGIC,
        1,
        kind,
        0,
        subscription,
        JOINED if segment is None else segment,
        float(series.first_bucket),
        series.width,
        n,
        rows,
        planes,
        float(series.last_step),
        series.last_time,
    )
    values = [series.last] if planes == 1 else [series.low, series.high, series.last]
    parts = [header, *(np.ascontiguousarray(plane, dtype="<f4").tobytes() for plane in values)]
    parts.append(np.ascontiguousarray(series.flags, dtype=np.uint8).tobytes())
    return b"".join(parts) + b"\0" * (-sum(map(len, parts)) % 8)


def decode_view(data: bytes) -> View:
    """The inverse of :func:`encode_view`, for Python clients and tests.

    Raises:
        ProtocolError: not one whole message of this form.
    """
    if len(data) < _HEADER.size:
        raise ProtocolError("a view shorter than its header")
    magic, version, kind, _, subscription, segment, first, width, n, rows, planes, last_step, last_time = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC or version != 1 or kind not in (SNAPSHOT, DELTA) or planes not in (1, 3):
        raise ProtocolError("binary data that is not a view of this version")
    cells = n * rows
    size = _HEADER.size + cells * (4 * planes + 1)
    if len(data) != size + -size % 8:
        raise ProtocolError(f"a view of {size + -size % 8:,} bytes arrived as {len(data):,}")
    values = np.frombuffer(data, "<f4", cells * planes, _HEADER.size).reshape(planes, rows, n)
    last = values[-1]
    finite = np.where(np.isfinite(last), last, np.float32(np.nan))
    series = Series(
        width=width,
        first_bucket=int(first),
        low=values[0] if planes == 3 else finite,
        high=values[1] if planes == 3 else finite,
        last=last,
        flags=np.frombuffer(data, np.uint8, cells, _HEADER.size + 4 * cells * planes).reshape(rows, n),
        last_step=int(last_step),
        last_time=last_time,
    )
    return View(
        kind=kind, subscription=subscription, segment=None if segment == JOINED else segment, series=series
    )
