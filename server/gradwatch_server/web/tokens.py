"""The API of tokens: named ways in, each for a role, shown once. For owners only."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from gradwatch.protocol import auth
from gradwatch.protocol.codec import to_plain

from ..errors import Invalid, NotFound, TooMany
from ..store import token_queries as sql
from ..visitors import Token
from .access import require_manager, services_of
from .replies import reply

__all__ = ["router"]

router = APIRouter(prefix="/tokens", tags=["Tokens"], dependencies=[Depends(require_manager)])

MOST_TOKENS = 1_000


class TokenIn(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=128, description="Who or what it is for.")
    role: Literal["owner", "member", "trainer"] = Field(
        description="owner: everything; member: see and edit, but no tokens; trainer: send runs only."
    )
    project: str = Field(
        default="*", min_length=1, max_length=512, description="For a trainer: projects it may send to."
    )
    expires_in: float | None = Field(
        default=None, gt=0, le=10 * 366 * 86400, description="Seconds; null: never."
    )


class TokenOut(BaseModel):
    """A token, without anything that would open something."""

    id: str
    name: str
    role: str
    project: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class TokenMade(BaseModel):
    """A new token. ``secret`` can't be read again."""

    token: TokenOut
    secret: str


class TokensReply(BaseModel):
    """All tokens, newest first; expired and revoked ones too."""

    tokens: list[TokenOut]


@router.get("", summary="List tokens", response_model=TokensReply)
async def list_tokens(request: Request) -> Response:
    """Their secrets can't be read again."""
    database = services_of(request).store.database
    found = await run_in_threadpool(database.read, sql.list_tokens)
    return reply({"tokens": [_plain(token) for token in found]})


@router.post("", summary="Make a token", response_model=TokenMade, status_code=201)
async def make_token(request: Request, body: TokenIn) -> Response:
    """The secret goes to whoever gets the token: `GRADWATCH_TOKEN` for a trainer, the sign-in page for a person."""
    services = services_of(request)
    if not body.name.isprintable() or not body.project.isprintable():
        raise Invalid("Name and project can't contain line breaks or control characters.")
    if body.project != "*" and body.role != "trainer":
        raise Invalid("Only a trainer's token can be for certain projects.", {"project": "only for trainers"})
    known = await run_in_threadpool(services.store.database.read, sql.list_tokens)
    now = services.clock()
    if sum(token.works(now) for token in known) >= MOST_TOKENS:
        raise TooMany(f"There are {MOST_TOKENS:,} tokens already. Revoke some that are no longer needed.")
    secret = secrets.token_urlsafe(32)
    key = auth.key_of(secret)
    token = Token(
        id=auth.key_id(key),
        name=body.name.strip() or "token",
        role=body.role,
        key=key,
        project=body.project,
        created_at=now,
        expires_at=None if body.expires_in is None else now + body.expires_in,
    )
    await asyncio.wrap_future(services.store.database.write(lambda conn: sql.save_token(conn, token)))
    services.keyring.put(token)
    return reply({"token": _plain(token), "secret": secret}, 201)


@router.delete("/{token_id}", summary="Revoke a token", status_code=204)
async def revoke_token(request: Request, token_id: str) -> Response:
    """It opens nothing from now on. Its sessions end, and trainers that came with it are cut off."""
    services = services_of(request)
    write = services.store.database.write(lambda conn: sql.revoke_token(conn, token_id, now=services.clock()))
    token = await asyncio.wrap_future(write)
    if token is None:
        raise NotFound("There is no such token.")
    services.keyring.put(token)
    services.trainers.fence_key(token.id)
    services.hub.recheck()
    return Response(status_code=204)


def _plain(token: Token) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(token)
    del plain["key"]
    return plain
