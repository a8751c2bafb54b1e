"""Batches to bytes and back.

Binary layout of a batch, little-endian, every section aligned to 8 bytes::

    header   4s magic "GWB1" | u16 version | u16 0 | u64 seq | u32 schema | u16 axes | u16 blocks | u64 total bytes
    axis     u32 n | u32 0 | f64 steps[n] | f64 times[n]
    block    u16 statistic | u16 axis | u8 itemsize (4, 8) | u8 flags (1: presence) | u16 0 | u32 width | u32 0
             | presence bitmap (n x width bits, LSB first, padded) if flagged | values[n x width] (padded)

NaN and Inf travel as they are.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import FrameTooLarge, ProtocolError
from . import limits
from .messages import Batch, Block

__all__ = ["decode_batch", "encode_batch"]

MAGIC: Final = b"GWB1"
_HEADER: Final = struct.Struct("<4sHHQIHHQ")
_AXIS: Final = struct.Struct("<II")
_BLOCK: Final = struct.Struct("<HHBBHII")
_PRESENCE: Final = 1


def _pad(size: int) -> int:
    return -size % 8


def encode_batch(batch: Batch) -> bytes:
    axes: dict[tuple[int, int], int] = {}
    parts: list[bytes] = []
    body: list[bytes] = []
    for block in batch.blocks:
        n, width = block.values.shape
        if block.steps.shape != (n,) or block.times.shape != (n,):
            raise ProtocolError(f"a block of {n} steps came with {block.steps.shape[0]} step numbers")
        key = (id(block.steps), id(block.times))
        if key not in axes:
            axes[key] = len(axes)
            parts += [_AXIS.pack(n, 0), _f8(block.steps), _f8(block.times)]
        itemsize = 8 if block.values.dtype == np.float64 else 4
        flags = 0 if block.present is None else _PRESENCE
        body.append(_BLOCK.pack(block.statistic, axes[key], itemsize, flags, 0, width, 0))
        if block.present is not None:
            bits = np.packbits(block.present.reshape(-1), bitorder="little").tobytes()
            body += [bits, b"\0" * _pad(len(bits))]
        values = np.ascontiguousarray(block.values, dtype=f"<f{itemsize}").tobytes()
        body += [values, b"\0" * _pad(len(values))]
    total = _HEADER.size + sum(map(len, parts)) + sum(map(len, body))
    header = _HEADER.pack(MAGIC, 1, 0, batch.seq, batch.schema, len(axes), len(batch.blocks), total)
    return b"".join([header, *parts, *body])


def _f8(values: npt.NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


class _Reader:
    """Takes sections off a buffer; a section that is not there is an error, never a short read."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self.data, self._advance(layout.size))
        return values

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        size = np.dtype(dtype).itemsize * count
        start = self._advance(size + _pad(size))
        return np.frombuffer(self.data, dtype=dtype, count=count, offset=start)

    def _advance(self, size: int) -> int:
        start, end = self.at, self.at + size
        if end > len(self.data):
            raise ProtocolError(f"the batch ends at byte {len(self.data):,} in the middle of a section")
        self.at = end
        return start


def decode_batch(data: memoryview) -> Batch:
    reader = _Reader(data)
    magic, version, _, seq, schema, n_axes, n_blocks, total = reader.unpack(_HEADER)
    if magic != MAGIC or version != 1:
        raise ProtocolError("binary data that is not a batch of this protocol")
    if total != len(data):
        raise ProtocolError(f"a batch of {total:,} bytes arrived as {len(data):,}")
    if n_blocks > limits.MAX_BLOCKS:
        raise FrameTooLarge(f"{n_blocks} blocks in one batch; at most {limits.MAX_BLOCKS} are taken")
    axes = [_decode_axis(reader) for _ in range(n_axes)]
    blocks = tuple(_decode_block(reader, axes) for _ in range(n_blocks))
    if reader.at != total:
        raise ProtocolError(f"{total - reader.at} bytes after the last block of a batch")
    return Batch(seq=seq, schema=schema, blocks=blocks)


def _decode_axis(reader: _Reader) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    n, _ = reader.unpack(_AXIS)
    if not 0 < n <= limits.MAX_STEPS_PER_BLOCK:
        raise ProtocolError(f"a step axis of {n} steps; 1 to {limits.MAX_STEPS_PER_BLOCK:,} are taken")
    steps = reader.array("<f8", n)
    times = reader.array("<f8", n)
    if not _are_steps(steps):
        raise ProtocolError("step numbers must be whole, not negative, below 2**53, and rise")
    if not np.isfinite(times).all():
        raise ProtocolError("a time that is not finite")
    return steps, times


def _are_steps(steps: npt.NDArray[np.float64]) -> bool:
    first, last = float(steps[0]), float(steps[-1])
    if not (first >= 0 and last < limits.MAX_STEP):
        return False
    if len(steps) == 1:  # as most batches of a slow training have
        return first.is_integer()
    return bool((steps == np.floor(steps)).all() and (np.diff(steps) > 0).all())


def _decode_block(
    reader: _Reader, axes: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
) -> Block:
    statistic, axis, itemsize, flags, _, width, _ = reader.unpack(_BLOCK)
    if axis >= len(axes) or itemsize not in (4, 8) or flags > _PRESENCE:
        raise ProtocolError("a block header that makes no sense")
    if not 0 < width <= limits.MAX_COLUMNS:
        raise FrameTooLarge(f"a block of {width:,} columns; at most {limits.MAX_COLUMNS:,} are taken")
    steps, times = axes[axis]
    n = len(steps)
    present: npt.NDArray[np.bool_] | None = None
    if flags & _PRESENCE:
        packed = reader.array("u1", -(-n * width // 8))
        bits = np.unpackbits(packed, count=n * width, bitorder="little")
        present = bits.view(np.bool_).reshape(n, width)
    values = reader.array(f"<f{itemsize}", n * width).reshape(n, width)
    return Block(statistic=statistic, steps=steps, times=times, values=values, present=present)
