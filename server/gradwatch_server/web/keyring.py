"""The keys that trainers and people prove themselves with. A token is known by its SHA-256 only."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from gradwatch.protocol import auth

from ..errors import StoreError

__all__ = ["Keyring", "local_token", "stable_id"]


class Keyring:
    """The server's own key. ``insecure_open`` lets in those who know none."""

    def __init__(self, token: str, *, insecure_open: bool = False) -> None:
        self.key = auth.key_of(token)
        self.key_id = auth.key_id(self.key)
        self.insecure_open = insecure_open

    def key_for(self, key_id: str) -> str | None:
        """What :class:`gradwatch.protocol.ServerSession` asks: the key of that name, "" where none is needed."""
        if key_id == self.key_id:
            return self.key
        return "" if self.insecure_open and not key_id else None

    def knows(self, token: str) -> bool:
        """Whether ``token`` is the server's; constant time."""
        return hmac.compare_digest(auth.key_of(token), self.key)


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
            f"{path.parent} cannot be written ({error.strerror}): set GRADWATCH_DIR to a folder of yours"
        ) from None
