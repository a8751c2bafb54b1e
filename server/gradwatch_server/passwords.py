"""Passwords of share links: Argon2id with the settings that its library recommends."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["hashed", "matches"]

_HASHER = PasswordHasher()


def hashed(password: str) -> str:
    """What is stored of a password. Takes tens of milliseconds, on purpose."""
    return _HASHER.hash(password)


def matches(stored: str, password: str) -> bool:
    """Whether it is the password."""
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
