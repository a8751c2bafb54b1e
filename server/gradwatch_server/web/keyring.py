"""The keys that trainers and people prove themselves with. A token is known by its SHA-256 only."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradwatch.protocol import auth

from ..errors import StoreError
from ..visitors import Token, TokenRole

__all__ = ["Grant", "Keyring", "local_token", "stable_id"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key opens. ``id`` is "" for the server's own key; ``project`` is a glob over projects for a trainer."""

    id: str
    key: str
    role: TokenRole
    project: str = "*"


class Keyring:
    """The server's own key, which may do everything, and the keys of named tokens.

    Args:
        token: the server's own secret.
        clock: seconds since 1970; tokens expire by it.
        insecure_open: lets in those who know none.
    """

    def __init__(self, token: str, clock: Callable[[], float], *, insecure_open: bool = False) -> None:
        self.key = auth.key_of(token)
        self.key_id = auth.key_id(self.key)
        self.insecure_open = insecure_open
        self._clock = clock
        self._own = Grant("", self.key, "owner")
        self._tokens: dict[str, Token] = {}

    def put(self, token: Token) -> None:
        """Adds a token, or its new state."""
        self._tokens[token.id] = token

    def grant(self, key_id: str) -> Grant | None:
        """What the key of that name opens, None if nothing (any more). Both "" and the own key's name are the own key."""
        if key_id in ("", self.key_id):
            return self._own
        token = self._tokens.get(key_id)
        if token is None or not token.works(self._clock()):
            return None
        return Grant(token.id, token.key, token.role, token.project)

    def grant_of(self, secret: str) -> Grant | None:
        """What a token opens; constant time in what it is compared with."""
        key = auth.key_of(secret)
        found = self.grant(auth.key_id(key))
        return found if found is not None and hmac.compare_digest(found.key, key) else None

    def key_for(self, key_id: str) -> str | None:
        """What :class:`gradwatch.protocol.ServerSession` asks: the key of that name, "" where none is needed."""
        if not key_id:
            return "" if self.insecure_open else None
        found = self.grant(key_id)
        return None if found is None else found.key


def local_token(directory: Path) -> str:
    """The token kept in ``directory`` for its user alone, made at the first start."""
    return _kept(directory / "local_token")


def stable_id(directory: Path) -> str:
    """A short random name of this directory's servers: cookies are named by it, so that ports don't mix them up."""
    return _kept(directory / "instance")[:12].lower().replace("-", "0").replace("_", "1")


def _kept(path: Path) -> str:
    """The text in ``path``; random and written first (mode 0600) if there is none. Two starts at once agree on one.

    Raises:
        StoreError: the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        try:
            fresh.write_text(secrets.token_urlsafe(32))
            if not path.exists():
                os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise StoreError(
            f"{path.parent} cannot be written ({error.strerror}): give a folder of yours with --dir or GRADWATCH_DIR"
        ) from None
