"""Valid messages, and what a broken network, a broken disk or an enemy makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tests.client.protocol.test_codec import MESSAGES

from gradwatch.protocol import Batch, Block, Schema, Statistic, Tensor, encode

NAMES = ("net.0.weight", "net.0.bias", "net.2.weight", "head")
EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\xf8\x7f", b"\x01\0\0\0")
ODD: Sequence[Any] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**53,
    2**63,
    10**400,
    -0.0,
    1e308,
    "NaN",
    "Infinity",
    "",
    "\x00",
    "\ud800",
    "😀" * 300,
    [],
    [[]],
    {},
    {"a": {"b": {}}},
    "9" * 5_000,
)


def a_schema() -> Schema:
    """Tensors with a norm each, one more statistic, and a loss."""
    return Schema(
        seq=0,
        id=0,
        tensors=tuple(Tensor(name=name, shape=(2, 3), numel=6, depth=i) for i, name in enumerate(NAMES)),
        statistics=(
            Statistic(name="grad_norm", scope="tensor", width=len(NAMES)),
            Statistic(name="update_ratio", scope="tensor", width=len(NAMES), cadence=10),
            Statistic(name="loss", scope="run", dtype="f8", cadence=0, logged=True),
        ),
    )


def a_batch(seq: int = 1, first: int = 0, n: int = 3) -> Batch:
    """All three statistics, one of them with absent values."""
    steps = np.arange(first, first + n, dtype=np.float64)
    times = 1.7e9 + steps
    values = np.linspace(0.1, 2, n * len(NAMES), dtype=np.float32).reshape(n, -1)
    return Batch(
        seq=seq,
        schema=0,
        blocks=(
            Block(statistic=0, steps=steps, times=times, values=values),
            Block(statistic=1, steps=steps, times=times, values=values, present=values > 1),
            Block(statistic=2, steps=steps, times=times, values=values[:, :1].astype(np.float64)),
        ),
    )


def originals() -> list[bytes | str]:
    """What is mutated: every kind of message, batches most often."""
    batches = [a_batch(), a_batch(n=40), a_batch(2, 3)]
    return [encode(message) for message in (*MESSAGES, a_schema(), *batches, *batches)]


def mutated(data: bytes | str, chance: random.Random) -> bytes | str:
    """``data`` after one to four changes; now and then it stays as it is."""
    if isinstance(data, str) and chance.random() < 0.6:
        return json.dumps(_twisted(json.loads(data), chance))
    raw = bytearray(data.encode() if isinstance(data, str) else data)
    for _ in range(chance.randint(0, 4)):
        chance.choice(_CHANGES)(raw, chance.randrange(len(raw) + 1), chance)
    return bytes(raw) if isinstance(data, bytes) else raw.decode("utf-8", "replace")


def _flip(raw: bytearray, at: int, chance: random.Random) -> None:
    if at < len(raw):
        raw[at] ^= 1 << chance.randrange(8)


def _cut(raw: bytearray, at: int, chance: random.Random) -> None:
    del raw[at : at + chance.randint(1, 16)]


def _halve(raw: bytearray, at: int, chance: random.Random) -> None:
    del raw[at:]


def _repeat(raw: bytearray, at: int, chance: random.Random) -> None:
    raw[at:at] = raw[at : at + chance.randint(1, 16)]


def _extreme(raw: bytearray, at: int, chance: random.Random) -> None:
    at = at // 4 * 4 if chance.random() < 0.7 else at
    raw[at : at + 4] = chance.choice(EXTREMES)


_CHANGES: Sequence[Callable[[bytearray, int, random.Random], None]] = (_flip, _cut, _halve, _repeat, _extreme)


def _twisted(plain: Any, chance: random.Random) -> Any:
    """A JSON value with one part replaced, removed or doubled."""
    if isinstance(plain, dict) and plain and chance.random() < 0.9:
        key = chance.choice(sorted(plain))
        kind = chance.randrange(4)
        if kind == 0:
            return {name: value for name, value in plain.items() if name != key}
        if kind == 1:
            return {**plain, key: chance.choice(ODD)}
        return {**plain, key: _twisted(plain[key], chance)}
    if isinstance(plain, list) and plain and chance.random() < 0.9:
        at = chance.randrange(len(plain))
        return [*plain[:at], _twisted(plain[at], chance), *plain[at + chance.randint(0, 1) :]]
    return chance.choice(ODD)
