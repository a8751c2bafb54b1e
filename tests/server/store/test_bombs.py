"""A block that unpacks to more than any of ours is refused before memory is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from gradwatch_server.store.planes import MOST_PLAIN, expand, shuffle, unshuffle


def frame(claimed: int) -> bytes:
    """A zstd frame that claims to hold so many bytes: its header alone, with the size in eight bytes."""
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + claimed.to_bytes(8, "little") + b"\x01\x00\x00"


def test_a_claim_to_hold_more_than_fits_is_refused() -> None:
    assert zstandard.frame_content_size(frame(2**40)) == 2**40
    for bomb in (frame(2**40), frame(MOST_PLAIN + 1)):
        with pytest.raises(zstandard.ZstdError, match="more than"):
            expand(bomb)


def test_a_frame_that_keeps_its_size_to_itself_is_refused() -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False)
    with pytest.raises(zstandard.ZstdError, match="unknown size"):
        expand(packer.compress(bytes(100)))


def test_our_own_blocks_say_their_size() -> None:
    values = np.arange(1000, dtype=np.float32)
    assert np.array_equal(unshuffle(shuffle(values), "<f4"), values)
