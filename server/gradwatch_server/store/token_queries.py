"""SQL of tokens."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from ..visitors import Token
from .token_tables import tokens

__all__ = ["list_tokens", "revoke_token", "save_token"]


def save_token(conn: Connection, token: Token) -> Token:
    """Adds a token."""
    conn.execute(
        insert(tokens).values(
            id=token.id,
            name=token.name,
            role=token.role,
            key=token.key,
            project=token.project,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )
    return token


def list_tokens(conn: Connection) -> list[Token]:
    """All tokens, newest first; those that don't work any more too."""
    rows = conn.execute(select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id))
    return [Token(**row._mapping) for row in rows]


def revoke_token(conn: Connection, token_id: str, *, now: float) -> Token | None:
    """Ends a token, once; None if there is none."""
    this = tokens.c.id == token_id
    conn.execute(update(tokens).where(this & tokens.c.revoked_at.is_(None)).values(revoked_at=now))
    row = conn.execute(select(tokens).where(this)).one_or_none()
    return None if row is None else Token(**row._mapping)
