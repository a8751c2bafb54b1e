"""Control messages to JSON and back.

JSON has no word for NaN and Inf: they are the strings "NaN", "Infinity" and "-Infinity"; a bare NaN is refused. Unknown
fields are ignored, so that newer peers may add some.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..errors import FrameTooLarge, ProtocolError
from . import limits
from .histogram import PER_TENSOR
from .messages import (
    Ack,
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

__all__ = ["KINDS", "decode_text", "encode_text", "from_plain", "to_plain"]

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


def to_plain(value: Any) -> Any:
    """``value`` (dataclasses, tuples, numbers) as what JSON can say; non-finite numbers as strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def encode_text(message: Message) -> str:
    plain = {"type": _TYPE_OF[type(message)], **to_plain(message)}
    return json.dumps(plain, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _refuse_constant(word: str) -> Any:
    raise ProtocolError(f'a bare {word} is not JSON; send the string "{word}"')


def decode_text(text: str) -> Message:
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
        return lambda value, where: (
            value if value in args and type(value) is str else _refuse(value, where, hint)
        )
    if origin is tuple:
        item = _reader_of(args[0])
        return lambda value, where: (
            tuple([item(one, where) for one in value])
            if isinstance(value, list)
            else _refuse(value, where, hint)
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
    if hello.start_step < 0 or hello.rank < 0 or not 1 <= hello.world_size <= limits.MAX_SHARDS:
        raise ProtocolError("Hello with a step, rank or number of ranks that makes no sense")
    if hello.parts and hello.rank >= hello.world_size:
        raise ProtocolError("Hello of a rank beyond the number of ranks")
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
    if any(not 0 <= tensor.shard < tensor.shards <= limits.MAX_SHARDS for tensor in tensors):
        raise ProtocolError("a tensor with a shard beyond the number of its shards")
    for statistic in schema.statistics:
        each = PER_TENSOR.get(statistic.scope, 0)
        if not 0 < statistic.width <= limits.MAX_TENSORS * max(each, 1) or statistic.cadence < 0:
            raise ProtocolError(f"statistic {statistic.name!r} has a width or cadence that makes no sense")
        if schema.tensors is not None and each and statistic.width != each * len(tensors):
            raise ProtocolError(
                f"statistic {statistic.name!r} has {statistic.width} columns for {len(tensors)} tensors"
            )
