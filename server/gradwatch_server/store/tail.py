"""Arrived blocks as one row of bytes: what is durable before the compactor has put it in order. Pure.

Little-endian, every section aligned to 8 bytes::

    header   u32 axes | u32 blocks
    axis     u32 n | u32 0 | f64 steps[n] | f64 times[n]
    block    u32 series | u16 axis | u8 itemsize (4, 8) | u8 flags (1: presence) | u32 width | u32 bytes that follow
             | presence bitmap (n x width bits, LSB first, padded) if flagged | values[n x width] (padded)
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Piece", "pack", "unpack"]

_HEADER: Final = struct.Struct("<II")
_BLOCK: Final = struct.Struct("<IHBBII")
_PRESENCE: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Exact values of one series at rising steps.

    ``steps``, ``times`` float64 ``[n]``; ``values`` float32 or float64 ``[n, width]``, columns are run-wide rows;
    ``present`` bool ``[n, width]`` or None (all there); what is absent is NaN. ``plain``: known to be all there, finite and
    not zero.
    """

    series: int
    steps: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_] | None = None
    plain: bool = False

    def presence(self) -> npt.NDArray[np.bool_]:
        """``present``, made up where it is None."""
        return np.ones(self.values.shape, np.bool_) if self.present is None else self.present

    def between(self, low: float, high: float) -> Piece | None:
        """Its steps ``low <= step < high``, None if there are none."""
        start, end = np.searchsorted(self.steps, (low, high))
        if start >= end:
            return None
        if start == 0 and end == len(self.steps):
            return self
        at = slice(int(start), int(end))
        present = None if self.present is None else self.present[at]
        return Piece(self.series, self.steps[at], self.times[at], self.values[at], present, self.plain)


def pack(pieces: Iterable[Piece]) -> bytes:
    """The bytes of ``pieces``. Pieces whose steps are the same array share them."""
    axes: dict[int, int] = {}
    heads: list[bytes] = []
    body: list[Any] = []
    count = 0
    for piece in pieces:
        n, width = piece.values.shape
        axis = axes.get(id(piece.steps))
        if axis is None:
            axis = axes[id(piece.steps)] = len(axes)
            heads += [_HEADER.pack(n, 0), _f8(piece.steps), _f8(piece.times)]
        itemsize = 8 if piece.values.dtype == np.float64 else 4
        data = np.ascontiguousarray(piece.values, dtype=f"<f{itemsize}")
        bits = b""
        if piece.present is not None:
            bits = np.packbits(piece.present.reshape(-1), bitorder="little").tobytes()
            bits += bytes(-len(bits) % 8)
        pad = -data.nbytes % 8
        flags = 0 if piece.present is None else _PRESENCE
        body += [
            _BLOCK.pack(piece.series, axis, itemsize, flags, width, len(bits) + data.nbytes + pad),
            bits,
            data.data,
            bytes(pad),
        ]
        count += 1
    return b"".join([_HEADER.pack(len(axes), count), *heads, *body])


def _f8(values: npt.NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack(body: bytes, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """The pieces in ``body``, only those of the ``wanted`` series if given. Arrays are read-only views of ``body``."""
    n_axes, n_blocks = _HEADER.unpack_from(body)
    at = _HEADER.size
    axes = []
    for _ in range(n_axes):
        n, _ = _HEADER.unpack_from(body, at)
        pair = np.frombuffer(body, "<f8", 2 * n, at + _HEADER.size)
        axes.append((pair[:n], pair[n:]))
        at += _HEADER.size + 16 * n
    for _ in range(n_blocks):
        series, axis, itemsize, flags, width, size = _BLOCK.unpack_from(body, at)
        at += _BLOCK.size
        if wanted is None or series in wanted:
            yield _piece(body, at, series, axes[axis], itemsize, flags, width)
        at += size


def _piece(
    body: bytes,
    at: int,
    series: int,
    axis: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    itemsize: int,
    flags: int,
    width: int,
) -> Piece:
    steps, times = axis
    count = len(steps) * width
    present: npt.NDArray[np.bool_] | None = None
    if flags & _PRESENCE:
        size = -(-count // 8)
        bits = np.frombuffer(body, np.uint8, size, at)
        present = np.unpackbits(bits, count=count, bitorder="little").view(np.bool_).reshape(-1, width)
        at += size + -size % 8
    values = np.frombuffer(body, f"<f{itemsize}", count, at).reshape(-1, width)
    return Piece(series, steps, times, values, present)
