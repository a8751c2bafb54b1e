"""Messages to bytes and back: binary for batches, JSON text for everything else.

Binary layout of a batch, little-endian, every section aligned to 8 bytes::

    header   4s magic "GWB1" | u16 version | u16 0 | u64 seq | u32 schema | u16 axes | u16 blocks | u64 total bytes
    axis     u32 n | u32 0 | f64 steps[n] | f64 times[n]
    block    u16 statistic | u16 axis | u8 itemsize (4, 8) | u8 flags (1: presence) | u16 0 | u32 width | u32 0
             | presence bitmap (n x width bits, LSB first, padded) if flagged | values[n x width] (padded)

NaN and Inf travel as they are. In JSON, which has no word for them, they are the strings "NaN", "Infinity" and
"-Infinity"; a bare NaN is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import types
import typing
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import FrameTooLarge, ProtocolError
from . import limits
from .messages import (
    Ack,
    Batch,
    Block,
    Bye,
    Challenge,
    Command,
    CommandResult,
    Error,
    Heartbeat,
    Hello,
    Incident,
    Lost,
    Mark,
    Message,
    Schema,
    Statistic,
    Tensor,
    Welcome,
)

__all__ = ["KINDS", "decode", "encode", "from_plain", "to_plain"]

MAGIC: Final = b"GWB1"
_HEADER: Final = struct.Struct("<4sHHQIHHQ")
_AXIS: Final = struct.Struct("<II")
_BLOCK: Final = struct.Struct("<HHBBHII")
_PRESENCE: Final = 1

KINDS: Final[dict[str, type[Any]]] = {
    "hello": Hello,
    "schema": Schema,
    "mark": Mark,
    "lost": Lost,
    "bye": Bye,
    "challenge": Challenge,
    "welcome": Welcome,
    "ack": Ack,
    "heartbeat": Heartbeat,
    "error": Error,
    "incident": Incident,
    "command": Command,
    "command_result": CommandResult,
}
"""The ``type`` of each JSON message."""

_TYPE_OF: Final = {cls: kind for kind, cls in KINDS.items()}
_NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(message: Message) -> bytes | str:
    """The message as it goes on the wire: bytes for a batch, text for the others.

    Raises:
        FrameTooLarge: above :data:`~.limits.MAX_MESSAGE_BYTES`.
    """
    data = _encode_batch(message) if isinstance(message, Batch) else _encode_text(message)
    if len(data) > limits.MAX_MESSAGE_BYTES:
        raise FrameTooLarge(
            f"this message has {len(data):,} bytes; at most {limits.MAX_MESSAGE_BYTES:,} are taken. "
            "Watch fewer tensors with include=, or send fewer steps at once."
        )
    return data


def decode(data: bytes | bytearray | memoryview | str) -> Message:
    """The message in ``data``. Array fields of a batch are read-only views of ``data``, not copies.

    Raises:
        FrameTooLarge: above a limit of :mod:`.limits`.
        ProtocolError: anything that is not one whole message of this protocol.
    """
    if len(data) > limits.MAX_MESSAGE_BYTES:
        raise FrameTooLarge(f"a message of {len(data):,} bytes; at most {limits.MAX_MESSAGE_BYTES:,} are taken")
    if isinstance(data, str):
        return _decode_text(data)
    return _decode_batch(memoryview(data))


# --- binary -----------------------------------------------------------------------------------------------------------


def _pad(size: int) -> int:
    return -size % 8


def _encode_batch(batch: Batch) -> bytes:
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


def _decode_batch(data: memoryview) -> Batch:
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
    first, last = steps[0], steps[-1]
    if not (first >= 0 and last < limits.MAX_STEP):
        return False
    return bool((steps == np.floor(steps)).all() and (np.diff(steps) > 0).all())


def _decode_block(
    reader: _Reader, axes: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
) -> Block:
    statistic, axis, itemsize, flags, _, width, _ = reader.unpack(_BLOCK)
    if axis >= len(axes) or itemsize not in (4, 8) or flags > _PRESENCE:
        raise ProtocolError("a block header that makes no sense")
    if not 0 < width <= limits.MAX_TENSORS:
        raise FrameTooLarge(f"a block of {width:,} columns; at most {limits.MAX_TENSORS:,} are taken")
    steps, times = axes[axis]
    n = len(steps)
    present: npt.NDArray[np.bool_] | None = None
    if flags & _PRESENCE:
        packed = reader.array("u1", -(-n * width // 8))
        bits = np.unpackbits(packed, count=n * width, bitorder="little")
        present = bits.view(np.bool_).reshape(n, width)
    values = reader.array(f"<f{itemsize}", n * width).reshape(n, width)
    return Block(statistic=statistic, steps=steps, times=times, values=values, present=present)


# --- text -------------------------------------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """``value`` (dataclasses, tuples, numbers) as what JSON can say; non-finite numbers as strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _encode_text(message: Message) -> str:
    plain = {"type": _TYPE_OF[type(message)], **to_plain(message)}
    return json.dumps(plain, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _refuse_constant(word: str) -> Any:
    raise ProtocolError(f'a bare {word} is not JSON; send the string "{word}"')


def _decode_text(text: str) -> Message:
    try:
        plain = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a text message that is not JSON: {str(error)[:200]}") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("type"), str):
        raise ProtocolError('a text message must be a JSON object with a "type"')
    kind = plain.pop("type")
    if kind not in KINDS:
        raise ProtocolError(f"unknown message type {kind[:80]!r}")
    message: Message = from_plain(KINDS[kind], plain)
    _check(message)
    return message


def from_plain(cls: type[Any], plain: dict[str, Any]) -> Any:
    """A dataclass of this package from its JSON object. Unknown fields are ignored, so that newer peers may add some.

    Raises:
        ProtocolError: a field is missing or of the wrong type.
    """
    if not isinstance(plain, dict):
        raise ProtocolError(f"{cls.__name__} must be a JSON object")
    values = {}
    for f, read in _fields(cls):
        if f.name in plain:
            values[f.name] = read(plain[f.name], f"{cls.__name__}.{f.name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ProtocolError(f"{cls.__name__} without {f.name!r}")
    return cls(**values)


_Read = Callable[[Any, str], Any]
_fields_cache: dict[type[Any], list[tuple[dataclasses.Field[Any], _Read]]] = {}


def _fields(cls: type[Any]) -> list[tuple[dataclasses.Field[Any], _Read]]:
    if cls not in _fields_cache:
        hints = typing.get_type_hints(cls)
        _fields_cache[cls] = [(f, _reader_of(hints[f.name])) for f in dataclasses.fields(cls)]
    return _fields_cache[cls]


def _reader_of(hint: Any) -> _Read:
    """A function that turns a JSON value into ``hint`` or refuses it. Covers the types that messages.py uses."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = _reader_of(next(a for a in args if a is not type(None)))
        return lambda value, where: None if value is None else inner(value, where)
    if origin is typing.Literal:
        return lambda value, where: value if value in args and type(value) is str else _refuse(value, where, hint)
    if origin is tuple:
        item = _reader_of(args[0])
        return lambda value, where: (
            tuple([item(one, where) for one in value]) if isinstance(value, list) else _refuse(value, where, hint)
        )
    if origin is dict:
        item = (lambda value, where: value) if args[1] is Any else _reader_of(args[1])
        return lambda value, where: (
            {key: item(one, where) for key, one in value.items()}
            if isinstance(value, dict)
            else _refuse(value, where, hint)
        )
    if dataclasses.is_dataclass(hint):
        return lambda value, where: from_plain(typing.cast("type[Any]", hint), value)
    return _SCALARS[hint]


def _refuse(value: Any, where: str, hint: Any) -> Any:
    raise ProtocolError(f"{where} cannot be {str(value)[:80]!r}: {getattr(hint, '__name__', hint)} is wanted")


def _read_float(value: Any, where: str) -> float:
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(value, where, float)
    try:
        return float(value)
    except OverflowError:
        raise ProtocolError(f"{where} is a number beyond float64") from None


def _read_int(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(value, where, int)
    if abs(value) > limits.MAX_STEP:
        raise ProtocolError(f"{where} is {str(value)[:40]}; whole numbers up to 2**53 are taken")
    return int(value)


def _read_str(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _refuse(value, where, str)
    return str(value).encode("utf-8", "replace").decode()


def _read_bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        _refuse(value, where, bool)
    return bool(value)


_SCALARS: Final[dict[Any, _Read]] = {float: _read_float, int: _read_int, str: _read_str, bool: _read_bool}


def _check(message: Message) -> None:
    """Limits that types alone don't hold."""
    if isinstance(message, Schema):
        _check_schema(message)
    elif isinstance(message, Hello):
        _check_hello(message)
    elif isinstance(message, (Mark, Heartbeat)) and not math.isfinite(message.time):
        raise ProtocolError("a time that is not finite")
    seq = getattr(message, "seq", 0)
    if seq < 0:
        raise ProtocolError("a negative sequence number")


def _check_hello(hello: Hello) -> None:
    for name in ("run_id", "run_key", "project", "name", "stream", "segment"):
        value = getattr(hello, name)
        if not value or len(value) > limits.MAX_NAME:
            raise ProtocolError(f"Hello.{name} must have 1 to {limits.MAX_NAME} characters")
    if hello.start_step < 0 or hello.rank < 0 or hello.world_size < 1:
        raise ProtocolError("Hello with a negative step or rank")
    size = len(json.dumps(hello.context, default=str))
    if size > limits.MAX_CONTEXT_BYTES:
        raise FrameTooLarge(f"a context of {size:,} bytes; at most {limits.MAX_CONTEXT_BYTES:,} are taken")


def _check_schema(schema: Schema) -> None:
    tensors: tuple[Tensor, ...] = schema.tensors or ()
    if len(tensors) > limits.MAX_TENSORS:
        raise FrameTooLarge(
            f"this model has {len(tensors):,} tensors; at most {limits.MAX_TENSORS:,} are taken. "
            'Watch fewer with include=, for example include=["*.weight"].'
        )
    if len(schema.statistics) > limits.MAX_STATISTICS:
        raise FrameTooLarge(
            f"{len(schema.statistics):,} statistics and scalars; at most {limits.MAX_STATISTICS:,} are taken. "
            "Log fewer different names."
        )
    named: list[Tensor | Statistic] = [*tensors, *schema.statistics]
    for thing in named:
        if not thing.name or len(thing.name) > limits.MAX_NAME:
            raise ProtocolError(f"a name of {len(thing.name)} characters; 1 to {limits.MAX_NAME} are taken")
    for statistic in schema.statistics:
        if not 0 < statistic.width <= limits.MAX_TENSORS or statistic.cadence < 0:
            raise ProtocolError(f"statistic {statistic.name!r} has a width or cadence that makes no sense")
        if schema.tensors is not None and statistic.scope == "tensor" and statistic.width != len(tensors):
            raise ProtocolError(
                f"statistic {statistic.name!r} has {statistic.width} columns for {len(tensors)} tensors"
            )
