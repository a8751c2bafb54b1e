"""Messages to bytes or text and back: :mod:`.binary` for batches, :mod:`.text` for everything else."""

from __future__ import annotations

from ..errors import FrameTooLarge
from . import limits
from .binary import decode_batch, encode_batch
from .messages import Batch, Message
from .text import KINDS, decode_text, encode_text, from_plain, to_plain

__all__ = ["KINDS", "decode", "encode", "from_plain", "to_plain"]


def encode(message: Message) -> bytes | str:
    """The message as it goes on the wire: bytes for a batch, text for the others.

    Raises:
        FrameTooLarge: above :data:`~.limits.MAX_MESSAGE_BYTES`.
    """
    data = encode_batch(message) if isinstance(message, Batch) else encode_text(message)
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
        raise FrameTooLarge(
            f"a message of {len(data):,} bytes; at most {limits.MAX_MESSAGE_BYTES:,} are taken"
        )
    if isinstance(data, str):
        return decode_text(data)
    return decode_batch(memoryview(data))
