"""Share links with a password: giving it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from ..errors import Forbidden, TooMany
from .access import same_origin, services_of
from .bodies import _In
from .entry import is_secure

__all__ = ["router", "unlocked"]

router = APIRouter(tags=["Share links"])


class Unlock(_In):
    """The token of a link, and its password."""

    token: str = Field(max_length=128)
    password: str = Field(max_length=256)


@router.post("/unlock", summary="Give the password of a share link", status_code=204)
async def unlock(request: Request, body: Unlock) -> Response:
    """Sets a cookie with which the link opens in this browser. Ten wrong passwords of an address in ten minutes, or thirty of a
    link, and no more are tried."""
    services = services_of(request)
    if not same_origin(request):
        raise Forbidden("This request comes from a page of another address.")
    right = services.addresses.try_password(request, services.clock())
    try:
        _, proven = await run_in_threadpool(services.sharing.unlock, body.token, body.password)
    except TooMany:
        services.metrics.refuse("passwords")
        raise
    right()
    response = Response(status_code=204)
    response.set_cookie(
        _cookie(services.instance, body.token),
        proven.partition(".")[2],
        max_age=86_400,
        httponly=True,
        samesite="lax",
        secure=is_secure(request),
        path="/",
    )
    return response


def unlocked(request: Request, token: str) -> str:
    """The token with the proof that this browser holds, if it holds one."""
    proof = request.cookies.get(_cookie(services_of(request).instance, token), "")
    return f"{token}.{proof}" if proof else token


def _cookie(instance: str, token: str) -> str:
    return f"gradwatch_{instance}_{token[:8]}"
