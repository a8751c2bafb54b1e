"""Who has signed in: cookies, page tokens, single-use codes and nonces. Time comes in as an argument.

A cookie is ``<expires>.<session id>.<HMAC>``: nothing is stored, so it outlives a restart, and a new token ends them all.
The page token is an HMAC of the session id: another origin can make a browser send the cookie, but not this.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final

__all__ = ["CODE_SECONDS", "Codes", "Nonces", "SESSION_SECONDS", "Sessions", "check_code_request"]

SESSION_SECONDS: Final = 30 * 86400.0
CODE_SECONDS: Final = 600.0
CODE_SKEW: Final = 300.0
"""How far the clock of whoever asks for a code may be off."""

_MOST_CODES: Final = 1_000
_MOST_NONCES: Final = 10_000
_MOST_ENDED: Final = 10_000


class Sessions:
    """Cookies signed with a key made from the server's own."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(b"gradwatch session|" + key.encode()).digest()
        self._ended: dict[str, float] = {}

    def start(self, now: float, key_id: str = "") -> str:
        """A new cookie value, for whoever showed the key of that name ("" for the server's own)."""
        body = f"{int(now + SESSION_SECONDS)}.{secrets.token_urlsafe(18)}~{key_id}"
        return f"{body}.{self._sign('cookie', body)}"

    def check(self, cookie: str, now: float) -> str | None:
        """The session id in a cookie that is ours, not expired and not ended; None otherwise."""
        body, _, signature = cookie.rpartition(".")
        expires, _, session = body.partition(".")
        if not hmac.compare_digest(self._sign("cookie", body).encode(), signature.encode()):
            return None
        if now >= float(expires) or session in self._ended:
            return None
        return session

    @staticmethod
    def key_of(session: str) -> str:
        """The name of the key that the session was opened with."""
        return session.partition("~")[2]

    def end(self, session: str, now: float) -> None:
        """Signs out. Remembered until the server restarts or the oldest have expired."""
        self._ended = {name: until for name, until in self._ended.items() if until > now}
        if len(self._ended) >= _MOST_ENDED:
            self._ended.pop(next(iter(self._ended)))
        self._ended[session] = now + SESSION_SECONDS

    def page_token(self, session: str) -> str:
        """What a page of this session must send with each change and with the live socket's hello."""
        return self._sign("page", session)

    def is_page_token(self, session: str, given: str) -> bool:
        """Whether ``given`` is the session's page token; constant time."""
        return hmac.compare_digest(self.page_token(session).encode(), given.encode())

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}|{text}".encode(), hashlib.sha256).hexdigest()


class Codes:
    """Single-use sign-in codes; each is good for ten minutes."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[float, str]] = {}

    def mint(self, now: float, key_id: str = "") -> str:
        """A new code, for whoever proved the key of that name. The oldest are dropped when very many are open."""
        self._open = {code: entry for code, entry in self._open.items() if entry[0] > now}
        while len(self._open) >= _MOST_CODES:
            self._open.pop(next(iter(self._open)))
        code = secrets.token_urlsafe(24)
        self._open[code] = now + CODE_SECONDS, key_id
        return code

    def spend(self, code: str, now: float) -> str | None:
        """The name of the key that an open code stands for; None if it isn't open. It isn't afterwards."""
        until, key_id = self._open.pop(code, (0.0, ""))
        return key_id if until > now else None


class Nonces:
    """Takes each nonce once within the time that a request with it would be accepted."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def take(self, nonce: str, now: float) -> bool:
        """Whether it is new. Says no as well when there are too many to remember."""
        if len(self._until) >= _MOST_NONCES:
            self._until = {name: until for name, until in self._until.items() if until > now}
        if nonce in self._until or len(self._until) >= _MOST_NONCES or not 8 <= len(nonce) <= 128:
            return False
        self._until[nonce] = now + 2 * CODE_SKEW
        return True


def check_code_request(
    header: str, key_for: Callable[[str], str | None], nonces: Nonces, now: float
) -> str | None:
    """The name of the key that ``header`` proves, None if it proves none:
    ``Gradwatch <key id>.<time>.<nonce>.<HMAC-SHA256(key, "code|time|nonce")>``."""
    scheme, _, rest = header.partition(" ")
    parts = rest.split(".")
    if scheme.lower() != "gradwatch" or len(parts) != 4:
        return None
    name, time_text, nonce, given = parts
    key = key_for(name)
    if not key or not time_text.isascii() or not time_text.isdigit() or len(time_text) > 12:
        return None
    wanted = hmac.new(bytes.fromhex(key), f"code|{time_text}|{nonce}".encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted.encode(), given.encode()):
        return None
    return name if abs(now - int(time_text)) <= CODE_SKEW and nonces.take(nonce, now) else None
