"""Stored bytes give back every bit; damaged ones are noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradwatch_server.errors import StoreError
from gradwatch_server.store.block_codec import (
    Stub,
    chunk_steps,
    decode_buckets,
    decode_chunk,
    encode_buckets,
    encode_chunk,
    encode_stub,
    stub_of,
    verify,
)
from gradwatch_server.store.pyramid import coarsen, fold
from gradwatch_server.store.tail import Piece, pack, unpack


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    n, width = draw(st.integers(1, 20)), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    steps = np.cumsum(draw(hnp.arrays(np.int64, n, elements=st.integers(1, 40)))).astype(np.float64)
    times = draw(hnp.arrays(np.float64, n, elements=st.floats(-1e12, 1e12)))
    values = draw(hnp.arrays(dtype, (n, width), elements=st.floats(width=np.dtype(dtype).itemsize * 8)))
    present = draw(st.none() | hnp.arrays(np.bool_, (n, width)))
    return Piece(draw(st.integers(0, 2**32 - 1)), steps, times, values, present)


def same(one: Piece, other: Piece) -> None:
    assert one.series == other.series
    assert one.values.dtype == other.values.dtype
    np.testing.assert_array_equal(one.steps, other.steps)
    assert one.times.tobytes() == np.ascontiguousarray(other.times).tobytes()
    assert one.values.tobytes() == np.ascontiguousarray(other.values).tobytes()
    assert (one.present is None) == (other.present is None)
    if one.present is not None:
        np.testing.assert_array_equal(one.present, other.present)


@settings(deadline=None)
@given(pieces())
def test_chunks_give_back_every_bit(piece: Piece) -> None:
    same(piece, decode_chunk(encode_chunk(piece), piece.series))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_norms_of_any_noise_give_back_every_bit(scale: float, sign: int) -> None:
    random = np.random.default_rng(1)
    values = sign * np.exp(scale * random.standard_normal((256, 40))).astype(np.float32)
    values[3, 5], values[7, 5], values[9, 6], values[11] = np.nan, -np.inf, 0.0, -0.0
    steps = np.arange(256.0)
    piece = Piece(0, steps, steps, values)
    same(piece, decode_chunk(encode_chunk(piece), 0))


def test_a_norm_with_a_tenth_of_noise_takes_less_than_three_bytes() -> None:
    values = np.exp(0.1 * np.random.default_rng(1).standard_normal((256, 400))).astype(np.float32)
    steps = np.arange(256.0)
    assert len(encode_chunk(Piece(0, steps, steps, values))) < 2.95 * values.size


@settings(deadline=None)
@given(pieces(), st.booleans())
def test_every_chunk_says_which_steps_it_is_of(piece: Piece, derived: bool) -> None:
    rows = piece.values.shape[1]
    body = encode_stub(Stub(piece.steps, rows, derived))
    stub = stub_of(body)
    assert stub is not None and (stub.rows, stub.derived) == (rows, derived)
    assert stub_of(encode_chunk(piece)) is None
    for one in (body, encode_chunk(piece)):
        np.testing.assert_array_equal(chunk_steps(one), piece.steps)
        verify(one)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(pieces(), max_size=4, unique_by=lambda piece: piece.series))
def test_the_tail_gives_back_every_bit(sent: list[Piece]) -> None:
    body = pack(sent)
    for one, other in zip(sent, unpack(body), strict=True):
        same(one, other)
    for piece in sent:
        (found,) = unpack(body, {piece.series})
        same(piece, found)


def test_pieces_of_the_same_steps_share_them_in_the_tail() -> None:
    steps, values = np.arange(100.0), np.zeros((100, 1))
    alone = len(pack([Piece(0, steps, steps, values)]))
    both = len(pack([Piece(0, steps, steps, values), Piece(1, steps, steps, values)]))
    assert both - alone < 1000


@settings(deadline=None)
@given(pieces(), st.booleans())
def test_buckets_give_back_every_bit(piece: Piece, packed: bool) -> None:
    buckets = fold(4, piece.steps, piece.times, piece.values, piece.present)
    found = decode_buckets(encode_buckets(buckets, packed=packed), 4, buckets.first)
    for name in ("low", "high", "last", "steps", "ends", "times"):
        assert getattr(found, name).tobytes() == np.ascontiguousarray(getattr(buckets, name)).tobytes()
    np.testing.assert_array_equal(found.full_counts(), buckets.full_counts())
    np.testing.assert_array_equal(found.flags(), buckets.flags())


@settings(deadline=None)
@given(pieces(), st.integers(1, 19))
def test_folding_in_two_goes_is_folding_at_once(piece: Piece, cut: int) -> None:
    at_once = fold(16, piece.steps, piece.times, piece.values, piece.present)
    edge = piece.steps[min(cut, len(piece.steps) - 1)]
    halves = [half for half in (piece.between(0, edge), piece.between(edge, 2**53)) if half is not None]
    parts = [fold(4, half.steps, half.times, half.values, half.present) for half in halves]
    twice = coarsen(parts, 16)
    assert twice.first == at_once.first
    for name in ("low", "high", "last", "steps", "ends", "times"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(at_once, name))
    np.testing.assert_array_equal(twice.full_counts(), at_once.full_counts())


@pytest.mark.parametrize("damage", [b"", b"\2\1", b"\2\1\0\4" + bytes(100), b"\3\1\0\4" + bytes(12)])
def test_damage_is_told_in_a_sentence(damage: bytes) -> None:
    with pytest.raises(StoreError, match="gradwatch doctor"):
        decode_chunk(damage, 0)


@pytest.mark.parametrize("kind", ["chunk", "packed", "plain"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_flipped_bit_is_noticed(kind: str, dtype: type) -> None:
    steps = np.arange(256.0)
    values = np.random.default_rng(0).random((256, 3)).astype(dtype)
    piece = Piece(0, steps, steps, values if kind == "chunk" else values.astype(np.float32))
    buckets = fold(1, steps, steps, piece.values)
    sound = encode_chunk(piece) if kind == "chunk" else encode_buckets(buckets, packed=kind == "packed")
    verify(sound)
    for at in range(30, len(sound), 97):
        body = bytearray(sound)
        body[at] ^= 4
        with pytest.raises(StoreError, match="damaged"):
            verify(bytes(body))
