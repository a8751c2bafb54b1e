"""The codec: whatever goes in comes out, whatever doesn't belong is refused with a sentence."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradwatch.errors import FrameTooLarge, ProtocolError
from gradwatch.protocol import (
    Ack,
    Batch,
    Block,
    Bye,
    Challenge,
    Error,
    Heartbeat,
    Hello,
    Lost,
    Mark,
    Schema,
    Statistic,
    Tensor,
    Welcome,
    decode,
    encode,
    limits,
)
from gradwatch.protocol.codec import to_plain
from gradwatch.protocol.messages import Command, CommandResult, Incident, Message

HELLO = Hello(run_id="r1", run_key="k", project="p", name="n", stream="s", segment="g")


def axis(*steps: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.array(steps, "f8"), np.array(steps, "f8") + 1.7e9


def batch(seq: int = 3, width: int = 4) -> Batch:
    steps, times = axis(0, 1, 5)
    values = np.arange(3 * width, dtype="f4").reshape(3, width)
    return Batch(seq=seq, schema=1, blocks=(Block(statistic=0, steps=steps, times=times, values=values),))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    blocks = []
    for statistic in range(draw(st.integers(0, 4))):
        steps = sorted(draw(st.sets(st.integers(0, 2**53 - 1), min_size=1, max_size=5)))
        n, width = len(steps), draw(st.integers(1, 9))
        dtype = draw(st.sampled_from([np.float32, np.float64]))
        values = draw(hnp.arrays(dtype, (n, width)))
        present = draw(st.none() | hnp.arrays(np.bool_, (n, width)))
        times = draw(hnp.arrays(np.float64, n, elements=st.floats(0, 4e9)))
        blocks.append(
            Block(
                statistic=statistic,
                steps=np.array(steps, "f8"),
                times=times,
                values=values,
                present=present,
            )
        )
    return Batch(seq=draw(st.integers(0, 2**60)), schema=draw(st.integers(0, 2**31)), blocks=tuple(blocks))


@given(batches())
@settings(deadline=None)
def test_a_batch_survives_the_wire_bit_by_bit(sent: Batch) -> None:
    got = decode(encode(sent))
    assert isinstance(got, Batch)
    assert (got.seq, got.schema, len(got.blocks)) == (sent.seq, sent.schema, len(sent.blocks))
    for a, b in zip(sent.blocks, got.blocks, strict=True):
        assert a.statistic == b.statistic
        assert a.values.dtype == b.values.dtype
        assert a.values.tobytes() == b.values.tobytes()
        assert a.steps.tobytes() == b.steps.tobytes()
        assert a.times.tobytes() == b.times.tobytes()
        assert (a.present is None) == (b.present is None)
        assert a.present is None or np.array_equal(a.present, b.present)  # type: ignore[arg-type]


def test_one_statistic_of_800_tensors_costs_little_more_than_its_numbers() -> None:
    steps, times = axis(7)
    one = Block(statistic=0, steps=steps, times=times, values=np.ones((1, 800), "f4"))
    assert len(encode(Batch(seq=0, schema=0, blocks=(one,)))) / 800 <= 4.2


def test_blocks_share_their_axis() -> None:
    steps, times = axis(*range(1000))
    thin = np.ones((1000, 1), "f4")
    two = tuple(Block(statistic=i, steps=steps, times=times, values=thin) for i in range(2))
    assert len(encode(Batch(seq=0, schema=0, blocks=two))) < 1000 * (16 + 4 + 4) + 200


MESSAGES: list[Message] = [
    HELLO,
    Schema(
        seq=0,
        id=0,
        statistics=(Statistic(name="grad_norm", scope="tensor", width=1),),
        tensors=(Tensor(name='a "b" <c>/ü\n', shape=(2, 3), numel=6, kind="weight", fan_in=3, init_std=0.5),),
    ),
    Schema(seq=1, id=1, statistics=()),
    Mark(seq=2, step=5, time=1.5, kind="checkpoint", data={"path": "x.pt", "nested": [1, None, {"a": True}]}),
    Lost(seq=3, from_step=1, to_step=9, frames=9, reason="full"),
    Bye(seq=4, state="failed", time=2.0, error={"type": "ValueError", "message": "no"}),
    Challenge(nonce="n"),
    Welcome(next_seq=4),
    Ack(next_seq=9),
    Heartbeat(time=1.0, step=3, cost={"us_per_step": 12.5}),
    Error(code="auth", message="no"),
    Incident(id="i", kind="exploding", severity="critical", step=4),
    Command(id="c", kind="stop"),
    CommandResult(id="c", ok=True),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_control_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


def test_non_finite_numbers_travel_in_json_as_words() -> None:
    sent = Heartbeat(time=1.0, step=0, cost={"a": math.nan, "b": -math.inf})
    text = encode(sent)
    assert isinstance(text, str)
    assert json.loads(text)["cost"] == {"a": "NaN", "b": "-Infinity"}
    got = decode(text)
    assert isinstance(got, Heartbeat)
    assert math.isnan(got.cost["a"]) and got.cost["b"] == -math.inf


@pytest.mark.parametrize("number", [np.float64(1.5), np.float32(1.5), np.int64(2), np.bool_(True)])
def test_numbers_of_numpy_become_plain_ones(number: np.generic) -> None:
    plain = to_plain({"a": [number]})["a"][0]
    assert type(plain) in (float, int, bool)
    assert plain == number


def test_unknown_fields_are_ignored_so_that_newer_peers_may_add_some() -> None:
    assert decode('{"type":"ack","next_seq":4,"later":[1]}') == Ack(next_seq=4)


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    got = decode('{"type":"error","code":"x","message":"\\ud800"}')
    assert isinstance(got, Error)
    assert got.message == "?"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "not JSON"),
        ("[]", "JSON object"),
        ("{}", '"type"'),
        ('{"type":"nope"}', "unknown message type"),
        ('{"type":"ack"}', "next_seq"),
        ('{"type":"ack","next_seq":"4"}', "next_seq"),
        ('{"type":"ack","next_seq":true}', "next_seq"),
        ('{"type":"ack","next_seq":1e3}', "next_seq"),
        ('{"type":"ack","next_seq":99999999999999999999}', "2\\*\\*53"),
        ('{"type":"heartbeat","time":NaN,"step":0}', "bare NaN"),
        ('{"type":"heartbeat","time":"NaN","step":0}', "not finite"),
        ('{"type":"mark","seq":-1,"step":0,"time":0,"kind":"x"}', "negative"),
        ('{"type":"bye","seq":0,"state":"asleep","time":0}', "state"),
        ("[" * 100_000, "not JSON"),
        (b"", "in the middle"),
        (b"GWB1", "in the middle"),
        (b"XXXX" + bytes(28), "not a batch"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(data: bytes | str, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode(data)


@pytest.mark.parametrize("steps", [(-1.0,), (0.5,), (2.0, 2.0), (3.0, 1.0), (2.0**53,), (math.nan,)])
def test_steps_must_be_whole_and_rise(steps: tuple[float, ...]) -> None:
    s, t = np.array(steps), np.zeros(len(steps))
    block = Block(statistic=0, steps=s, times=t, values=np.ones((len(steps), 1), "f4"))
    with pytest.raises(ProtocolError, match="step numbers"):
        decode(encode(Batch(seq=0, schema=0, blocks=(block,))))


def test_too_many_tensors_get_advice() -> None:
    tensors = tuple(Tensor(name=f"t{i}") for i in range(limits.MAX_TENSORS + 1))
    with pytest.raises(FrameTooLarge, match="include="):
        decode(encode(Schema(seq=0, id=0, statistics=(), tensors=tensors)))


def test_a_statistic_must_be_as_wide_as_the_tensors() -> None:
    wide = Statistic(name="grad_norm", scope="tensor", width=3)
    schema = Schema(seq=0, id=0, statistics=(wide,), tensors=(Tensor(name="a"),))
    with pytest.raises(ProtocolError, match="3 columns for 1 tensors"):
        decode(encode(schema))


def test_an_oversize_message_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameTooLarge):
        decode(bytes(limits.MAX_MESSAGE_BYTES + 1))
