"""Mutual proof of a shared token, without sending it.

Both sides know ``key = SHA-256(token)``; the server stores only that. The client sends ``key_id`` (eight characters of
``SHA-256(key)``) and a nonce; the server answers with its own nonce and ``HMAC(key, "server" | both nonces)``; the client
checks it, and only then says Hello with ``HMAC(key, "client" | both nonces)``. A stranger on the port learns nothing.
"""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["check", "key_id", "key_of", "proof"]


def key_of(token: str) -> str:
    """The shared key of a token, as hex. This is what a server stores."""
    return hashlib.sha256(token.encode()).hexdigest()


def key_id(key: str) -> str:
    """A short public name of a key, to find it among several."""
    return hashlib.sha256(bytes.fromhex(key)).hexdigest()[:8]


def proof(key: str, side: str, client_nonce: str, server_nonce: str) -> str:
    """HMAC-SHA-256 over the side's name and both nonces, as hex."""
    text = f"gradwatch/1|{side}|{client_nonce}|{server_nonce}"
    return hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()


def check(key: str, side: str, client_nonce: str, server_nonce: str, given: str) -> bool:
    """Whether ``given`` is the proof that ``side`` should have sent; constant time."""
    return hmac.compare_digest(proof(key, side, client_nonce, server_nonce), given)
