"""The wire: messages, their encoding, and the session state machines. No clock, no socket, no thread.

The server depends on this package; it never depends on the server. ``server/docs/protocol.md`` is its prose.
"""

from .codec import decode, encode
from .messages import (
    PROTOCOL_VERSION,
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
    Message,
    Record,
    Schema,
    Statistic,
    Tensor,
    Welcome,
)
from .session import ClientSession, ServerSession

__all__ = [
    "PROTOCOL_VERSION",
    "Ack",
    "Batch",
    "Block",
    "Bye",
    "Challenge",
    "ClientSession",
    "Error",
    "Heartbeat",
    "Hello",
    "Lost",
    "Mark",
    "Message",
    "Record",
    "Schema",
    "ServerSession",
    "Statistic",
    "Tensor",
    "Welcome",
    "decode",
    "encode",
]
