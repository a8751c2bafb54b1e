"""All exceptions of the client package.

::

    GradwatchError
    ├── ConfigError (also ValueError)       bad arguments or environment; raised before the first step only
    ├── ProtocolError                       bytes that are not a gradwatch message
    │   ├── FrameTooLarge
    │   └── VersionMismatch
    ├── ConnectionRefused                   the server said no: the message says why and what to do
    ├── SpoolError                          a spool file that cannot be written or read
    └── GradwatchStop                       the stop that the user asked for: the only one that reaches the training loop
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ConnectionRefused",
    "FrameTooLarge",
    "GradwatchError",
    "GradwatchStop",
    "ProtocolError",
    "SpoolError",
    "VersionMismatch",
]


class GradwatchError(Exception):
    """Base class of every error that gradwatch raises."""


class ConfigError(GradwatchError, ValueError):
    """An argument or environment variable that cannot be used; the sentence says what to do."""


class ProtocolError(GradwatchError):
    """Data that is not a valid gradwatch message.

    ``code`` is a short stable word, sent to the peer in an :class:`~gradwatch.protocol.messages.Error`.
    """

    code = "malformed"


class FrameTooLarge(ProtocolError):
    """A message above one of the limits of :mod:`gradwatch.protocol.limits`."""

    code = "too_large"


class VersionMismatch(ProtocolError):
    """The two sides share no version of the protocol."""

    code = "version"


class ConnectionRefused(GradwatchError):
    """The server answered with a fatal error. ``code`` is the server's word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SpoolError(GradwatchError):
    """A spool file that cannot be opened, written or read."""


class GradwatchStop(GradwatchError):
    """Training should end, because a condition that the script itself set is met. Passes every :class:`~.shield.Shield`."""
