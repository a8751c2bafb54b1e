"""Arrays of numbers as few bytes, and back. Pure; nothing is rounded.

*Shuffled*: all first bytes, then all second bytes, ..., through zstd, which finds what neighbours share. Any dtype.

*Split*: for float32 rows whose values are of one size, as the norms of one tensor over some steps are. Seen as unsigned
integers, positive floats keep their order, so a row less its smallest is a row of small integers: their highest byte is
nearly always 0 and the next one far from uniform. Only those two go through zstd; the two bytes below are noise, and are
kept as they are unless a sample says otherwise. A norm with 10 % noise takes 2.8 bytes so, 3.1 when only shuffled, and comes
back four times faster.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

__all__ = ["Split", "compress", "expand", "merge", "shuffle", "split", "unshuffle"]

_LEVEL: Final = 1
MOST_PLAIN: Final = 2**30
"""Bytes of one section of a block, unpacked. Ours have a few million; an archive may come from anybody."""

_SAMPLE: Final = 8192
"""Bytes of noise that are tried before all of it is compressed."""

_local = threading.local()


def compress(data: Any) -> bytes:
    """Through zstd, with its checksum."""
    if not hasattr(_local, "zip"):
        _local.zip = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    packed: bytes = _local.zip.compress(data)
    return packed


def expand(data: Any) -> bytes:
    """The inverse.

    Raises:
        zstandard.ZstdError: damaged, or of an archive that was made to fill the memory.
    """
    if not 0 <= zstandard.frame_content_size(data) <= MOST_PLAIN:
        raise zstandard.ZstdError(f"a packed block of more than {MOST_PLAIN:,} bytes, or of unknown size")
    if not hasattr(_local, "unzip"):
        _local.unzip = zstandard.ZstdDecompressor()
    plain: bytes = _local.unzip.decompress(data)
    return plain


def shuffle(values: npt.NDArray[Any]) -> bytes:
    """The bytes of ``values``, of any shape."""
    size = values.dtype.itemsize
    planes = values.reshape(-1).view(np.uint8).reshape(-1, size)
    return compress(np.ascontiguousarray(planes.T).data)


def unshuffle(data: Any, dtype: str) -> npt.NDArray[Any]:
    """The inverse, flat."""
    size = np.dtype(dtype).itemsize
    planes = np.frombuffer(expand(data), np.uint8).reshape(size, -1)
    out = np.empty((planes.shape[1], size), np.uint8)
    for i, plane in enumerate(planes):  # four times faster than one transposed copy
        out[:, i] = plane
    return out.reshape(-1).view(dtype)


@dataclass(frozen=True, slots=True)
class Split:
    """``sections``: the two low bytes of each value, the third, the fourth (both empty where all are 0), and the smallest
    of each row. ``packed``: whether the first went through zstd; if not, it has no checksum."""

    sections: list[bytes]
    packed: bool


def split(values: npt.NDArray[Any]) -> Split:
    """Float32 ``[rows, n]``, ``n`` > 0."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    base = bits.min(axis=1)
    off = bits - base[:, None]
    low = off.astype("<u2")
    high = (off >> 16).astype("<u2")
    fourth = (high >> 8).astype(np.uint8)
    sample = low.reshape(-1)[: _SAMPLE // 2]
    packed = len(compress(sample.data)) < 0.95 * sample.nbytes
    noise = compress(low.data) if packed else low.tobytes()
    return Split([noise, _unless_empty(high.astype(np.uint8)), _unless_empty(fourth), shuffle(base)], packed)


def _unless_empty(plane: npt.NDArray[np.uint8]) -> bytes:
    return compress(plane.data) if plane.any() else b""


def merge(sections: Sequence[Any], packed: bool, rows: int, n: int) -> npt.NDArray[np.float32]:
    """The inverse: float32 ``[rows, n]``.

    Raises:
        zstandard.ZstdError, ValueError: damaged.
    """
    noise, third, fourth, base = sections
    bits = np.empty((rows * n, 4), np.uint8)
    bits.view("<u2")[:, 0] = np.frombuffer(expand(noise) if packed else noise, "<u2")
    if len(fourth):
        bits[:, 2] = np.frombuffer(expand(third), np.uint8) if len(third) else 0
        bits[:, 3] = np.frombuffer(expand(fourth), np.uint8)
    else:
        bits.view("<u2")[:, 1] = np.frombuffer(expand(third), np.uint8) if len(third) else 0
    whole = bits.view("<u4").reshape(rows, n)
    whole += unshuffle(base, "<u4")[:, None]
    values: npt.NDArray[np.float32] = whole.view("<f4")
    return values
