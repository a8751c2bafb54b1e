"""Signing in and out."""

from __future__ import annotations

from collections import deque

from fastapi import APIRouter, Request, Response

from ..errors import Forbidden, NotSignedIn, TooMany
from ..services import Services
from . import bodies
from .access import check_page, cookie_name, identify, same_origin, services_of
from .replies import reply_exact
from .sessions import SESSION_SECONDS, check_code_request

__all__ = ["router"]

router = APIRouter(tags=["Signing in"])


@router.post("/codes", summary="Get a single-use sign-in code", response_model=bodies.CodeReply)
async def make_code(request: Request) -> Response:
    """For whoever proves to know the server's token:
    `Authorization: Gradwatch <key id>.<unix time>.<nonce>.<HMAC-SHA256(key, "code|time|nonce")>`."""
    services = services_of(request)
    header = request.headers.get("authorization", "")
    keyring = services.keyring
    name = check_code_request(header, keyring.key_for, services.nonces, services.clock())
    grant = None if name is None else keyring.grant(name)
    if grant is None or grant.role == "trainer":
        raise NotSignedIn("This request doesn't prove that it knows a token that opens the dashboard.")
    return reply_exact({"code": services.codes.mint(services.clock(), grant.id)})


@router.post("/session", summary="Sign in with a code", status_code=204)
async def start_session(request: Request, body: bodies.SessionStart) -> Response:
    """Spends a single-use code (or checks the server's token) and sets the session cookie."""
    services = services_of(request)
    now = services.clock()
    if not same_origin(request):
        raise Forbidden("This request comes from a page of another address.")
    if body.code:
        key_id = services.codes.spend(body.code, now)
        if key_id is None:
            raise NotSignedIn(
                "This link was used already or is older than 10 minutes. Get a new one: gradwatch open"
            )
    else:
        right = services.addresses.try_password(request, now)
        key_id = _check_token(services, body.token, now)
        right()
    response = Response(status_code=204)
    response.set_cookie(
        cookie_name(services.instance),
        services.sessions.start(now, key_id),
        max_age=int(SESSION_SECONDS),
        httponly=True,
        samesite="lax",
        secure=is_secure(request),
        path="/",
    )
    return response


@router.post("/session/end", summary="Sign out", status_code=204)
async def end_session(request: Request) -> Response:
    """Ends this browser's session."""
    services = services_of(request)
    identity = await identify(request)
    if not identity.viewer.may_edit:
        raise Forbidden("This link is for looking only.")
    check_page(request, identity)
    if identity.session:
        services.sessions.end(identity.session, services.clock())
    response = Response(status_code=204)
    response.delete_cookie(cookie_name(services.instance), path="/")
    return response


def is_secure(request: Request) -> bool:
    """Whether the browser spoke TLS, to us or to a proxy in front."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


def _check_token(services: Services, token: str, now: float) -> str:
    """The name of the key of a token that opens the dashboard. After very many wrong ones all are refused for a while."""
    wrong: deque[float] = services.wrong_tokens
    while wrong and wrong[0] < now - 60:
        wrong.popleft()
    if len(wrong) >= services.limits.sign_ins_per_minute:
        services.metrics.refuse("passwords")
        raise TooMany("Too many wrong tokens. Wait a minute.")
    grant = services.keyring.grant_of(token) if token else None
    if grant is None:
        wrong.append(now)
        raise NotSignedIn("This token is not right.")
    if grant.role == "trainer":
        raise Forbidden("This token is for training scripts; it doesn't open the dashboard.")
    return grant.id
