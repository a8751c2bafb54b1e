"""State in and out: any tree of our dataclasses as plain values and arrays, and as bytes.

A state is ``{"plain": JSON-able, "arrays": {path: ndarray}}``. Restoring goes into a freshly built object of the same
shape, so that types, bounds and everything static come from the code and never from the data.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from ..protocol.codec import to_plain
from .incidents import Incident

__all__ = ["State", "below", "from_bytes", "pack", "to_bytes", "unpack"]

State: TypeAlias = dict[str, Any]


def pack(tree: Any) -> State:
    """The state of a dataclass instance (or dict of them)."""
    arrays: dict[str, Any] = {}
    return {"plain": _down(tree, "", arrays), "arrays": arrays}


def unpack(tree: Any, plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Puts a packed state back into ``tree``, which was built with the same arguments; ``arrays`` have paths below it.

    Raises:
        ValueError: the state was made by another version, or is damaged.
    """
    try:
        _fill(tree, plain, "", arrays)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"this health state cannot be used ({error!r}); start a new Monitor and replay the run"
        ) from error


def below(arrays: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The arrays below ``path``, with the rest of their paths."""
    return {key[len(path) :]: array for key, array in arrays.items() if key.startswith(path + "/")}


def to_bytes(state: State) -> bytes:
    """A state as one compressed npz file."""
    out = io.BytesIO()
    plain = np.frombuffer(json.dumps(to_plain(state["plain"]), allow_nan=False).encode(), dtype=np.uint8)
    np.savez_compressed(out, plain=plain, **{f"a:{path}": array for path, array in state["arrays"].items()})
    return out.getvalue()


def from_bytes(data: bytes) -> State:
    """The inverse of :func:`to_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        arrays = {name[2:]: stored[name] for name in stored.files if name.startswith("a:")}
        return {"plain": _numbers(json.loads(stored["plain"].tobytes())), "arrays": arrays}


_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def _numbers(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _numbers(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_numbers(value) for value in plain]
    return _NON_FINITE.get(plain, plain) if isinstance(plain, str) else plain


def _down(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[path] = value.copy()
        return None
    if isinstance(value, Incident):
        return dataclasses.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _down(getattr(value, f.name), f"{path}/{f.name}", arrays)
            for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _down(item, f"{path}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple, deque)):
        return [_down(item, f"{path}/{n}", arrays) for n, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _fill(target: Any, plain: Any, path: str, arrays: Mapping[str, Any]) -> None:
    for f in dataclasses.fields(target):
        where = f"{path}/{f.name}"
        setattr(target, f.name, _value(getattr(target, f.name), plain[f.name], where, arrays))


def _value(now: Any, plain: Any, path: str, arrays: Mapping[str, Any]) -> Any:
    if path in arrays:
        return np.array(arrays[path])
    if isinstance(now, deque):
        return deque(plain, maxlen=now.maxlen)
    if dataclasses.is_dataclass(now) and not isinstance(now, type) and plain is not None:
        _fill(now, plain, path, arrays)
        return now
    if isinstance(now, dict) and plain and not isinstance(plain, dict):
        raise TypeError(f"{path} is not a table")
    return plain
