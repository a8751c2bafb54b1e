"""Values as the text that columns named JSON hold, and back. Non-finite numbers are the protocol's strings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gradwatch.protocol import Statistic
from gradwatch.protocol.codec import from_plain, to_plain

__all__ = ["from_json", "int32s", "numbers", "statistics", "text", "to_int32s", "to_json", "whole"]

INT32: Final = 2**31 - 1
INT64: Final = 2**63 - 1


def text(value: str, most: int | None = None) -> str:
    """Text that every database takes: without NUL and lone surrogates, cut to ``most`` characters."""
    clean = value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    return clean[:most]


def whole(value: int, most: int = INT64) -> int:
    """A number that its column can hold: the nearest that is within ``-most .. most``."""
    return max(-most, min(value, most))


def to_json(value: Any) -> str:
    """``value`` as JSON text."""
    return json.dumps(to_plain(value), separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Any:
    """What :func:`to_json` was given, with lists for tuples and plain objects for dataclasses."""
    return json.loads(text)


def numbers(text: str) -> dict[str, float]:
    """A JSON object whose values are numbers, non-finite ones included."""
    return {name: float(value) for name, value in json.loads(text).items()}


def statistics(text: str) -> tuple[Statistic, ...]:
    """The statistics of a schema."""
    return tuple(from_plain(Statistic, one) for one in json.loads(text))


def to_int32s(values: Iterable[int] | npt.NDArray[np.int32]) -> bytes:
    """Whole numbers as little-endian int32."""
    array = values if isinstance(values, np.ndarray) else np.fromiter(values, "<i4")
    return array.astype("<i4").tobytes()


def int32s(data: bytes) -> npt.NDArray[np.int32]:
    """The inverse of :func:`to_int32s`."""
    return np.frombuffer(data, "<i4").astype(np.int32)
