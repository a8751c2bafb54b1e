"""All exceptions of the server, and what each means to the outside: one table for API, pages and sockets.

::

    gradwatch.errors.GradwatchError
    ├── ServerError                 has a ``status`` (HTTP) and a ``code`` (a stable word)
    │   ├── NotSignedIn             401: neither cookie, token nor link
    │   ├── PasswordNeeded          401: the share link has a password, and it wasn't given yet
    │   ├── LinkEnded               410: the share link has expired, was revoked, or never was
    │   ├── Forbidden               403: signed in, but not allowed this
    │   ├── NotFound                404: no such run, rule, alert, share or page
    │   ├── Conflict                409: it changed meanwhile, or exists already
    │   ├── TooLarge                413: a request body above the limit
    │   ├── Invalid                 422: a field that cannot be used; ``fields`` names it
    │   ├── TooMany                 429: a limit on rate or number
    │   ├── StoreError              503: the database cannot be opened, read or written
    │   ├── RunKeyRefused           409: another client owns the run
    │   └── StreamFenced            409: a newer stream of the same rank has taken over
    │       └── StreamReopened      409: another connection goes on with the same stream
    └── ProtocolError, ConnectionRefused (the client package's)    400, 401 and close codes on the ingest socket
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gradwatch.errors import ConfigError, ConnectionRefused, FrameTooLarge, GradwatchError, ProtocolError

__all__ = [
    "Conflict",
    "Fault",
    "Forbidden",
    "Invalid",
    "LinkEnded",
    "NotFound",
    "NotSignedIn",
    "PasswordNeeded",
    "RunKeyRefused",
    "ServerError",
    "StoreError",
    "StreamFenced",
    "StreamReopened",
    "TooLarge",
    "TooMany",
    "fault_of",
]


class ServerError(GradwatchError):
    """Base class: its message is a sentence for the person who asked."""

    status: int = 500
    code: str = "internal"


class NotSignedIn(ServerError):
    """Nothing in the request says who asks."""

    status, code = 401, "sign_in"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "This dashboard is private. Open it with: gradwatch open")


class LinkEnded(ServerError):
    """A share token that opens nothing (any more)."""

    status, code = 410, "link_ended"

    def __init__(self) -> None:
        super().__init__("This link has expired or was withdrawn. Ask whoever sent it for a new one.")


class PasswordNeeded(ServerError):
    """A share link that opens with a password, which wasn't given yet, or was wrong."""

    status, code = 401, "password"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "This link opens with a password. Ask whoever sent it.")


class Forbidden(ServerError):
    """Known, but not allowed."""

    status, code = 403, "forbidden"


class NotFound(ServerError):
    """Nothing here. Also said of a run that a share link doesn't cover, so that a link reveals no other run."""

    status, code = 404, "not_found"


class Conflict(ServerError):
    """The thing changed meanwhile, or exists already."""

    status, code = 409, "conflict"


class TooLarge(ServerError):
    """A request body above the limit."""

    status, code = 413, "too_large"


class Invalid(ServerError):
    """A value that cannot be used. ``fields`` maps the names of fields to a sentence each, for forms."""

    status, code = 422, "invalid"

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})


class TooMany(ServerError):
    """A limit on rate or number."""

    status, code = 429, "too_many"


class StoreError(ServerError):
    """The database cannot be opened, read or written; the sentence says why and what to do."""

    status, code = 503, "store"


class RunKeyRefused(ServerError):
    """A client claims a run that another one owns."""

    status, code = 409, "run_taken"


class StreamFenced(ServerError):
    """A newer stream of the same rank has taken over, so this one must stop."""

    status, code = 409, "fenced"


class StreamReopened(StreamFenced):
    """Another connection goes on with the same stream: after a broken connection, or because a copy of its spool is being
    delivered. Whoever is cut off may come back: what it sends again changes nothing."""

    status, code = 409, "reopened"


@dataclass(frozen=True, slots=True)
class Fault:
    """How an error looks from outside. ``close`` is the WebSocket close code, ``fatal`` tells a trainer not to retry."""

    status: int
    code: str
    close: int
    fatal: bool
    message: str
    fields: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """The JSON body of the API."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.fields:
            error["fields"] = self.fields
        return {"error": error}


# The first row that matches counts: (exception, HTTP status, close code, fatal for a trainer). A status of None is the
# exception's own. 4401 and 4403 tell a page that asking again is of no use.
_TABLE: Final[tuple[tuple[type[Exception], int | None, int, bool], ...]] = (
    (FrameTooLarge, 413, 1009, True),
    (ProtocolError, 400, 1002, True),
    (ConnectionRefused, 401, 1008, True),
    (ConfigError, 400, 1008, True),
    (NotSignedIn, None, 4401, True),
    (PasswordNeeded, None, 4403, True),
    (LinkEnded, None, 4403, True),
    (Forbidden, None, 4403, True),
    (StoreError, None, 1013, False),
    (TooMany, None, 1013, False),
    (StreamReopened, None, 1013, False),
    (ServerError, None, 1008, True),
)


def fault_of(error: Exception) -> Fault:
    """What to tell the outside about ``error``. One that is not in the table says nothing of itself."""
    for kind, status, close, fatal in _TABLE:
        if isinstance(error, kind):
            return Fault(
                status=status or int(getattr(error, "status", 500)),
                code=str(getattr(error, "code", "invalid")),
                close=close,
                fatal=fatal,
                message=str(error),
                fields=dict(getattr(error, "fields", {})),
            )
    return Fault(500, "internal", 1011, False, "The server made a mistake; its log says which.", {})
