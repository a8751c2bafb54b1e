"""The pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from ..errors import Forbidden, LinkEnded, NotFound, PasswordNeeded
from ..models import Run
from ..plain import run_plain
from .access import Identity, identify, services_of
from .help import help_page, help_pages
from .render import base_of, page
from .unlock import unlocked

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


async def owner_of(request: Request) -> Identity:
    """Dependency: an owner's browser."""
    identity = await identify(request)
    if not identity.viewer.may_edit:
        raise Forbidden("This link doesn't show that.")
    return identity


Owner = Annotated[Identity, Depends(owner_of)]


@router.get("/")
async def runs(request: Request, identity: Owner) -> Response:
    """The list of runs."""
    return page(request, "runs.html", identity)


@router.get("/runs/{run_id}")
async def run(request: Request, run_id: str, identity: Owner) -> Response:
    """One run."""
    return _run_page(request, identity, await _find(request, run_id))


@router.get("/s/{token}")
async def shared(request: Request, token: str) -> Response:
    """One run, as the holder of a link sees it, in an owner's browser too."""
    services = services_of(request)
    token = unlocked(request, token.partition(".")[0])
    try:
        share = await run_in_threadpool(services.sharing.share_of, token)
    except PasswordNeeded:
        return page(request, "password.html", None, boot={"link": token.partition(".")[0]}, status=401)
    if share is None:
        raise LinkEnded
    identity = await identify(request, share=token)
    response = _run_page(
        request, identity, await _find(request, share.run_id), {"share": token, "view": share.view}
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    services.sharing.opened(share)
    return response


@router.get("/compare")
async def compare(request: Request, identity: Owner) -> Response:
    """Several runs beside each other."""
    return page(request, "compare.html", identity)


@router.get("/alerts")
async def alerts(request: Request, identity: Owner) -> Response:
    """What fired."""
    return page(request, "alerts.html", identity)


@router.get("/rules")
async def rules(request: Request, identity: Owner) -> Response:
    """What may fire."""
    return page(request, "rules.html", identity)


@router.get("/settings")
async def settings(request: Request, identity: Owner) -> Response:
    """How this server is set up."""
    return page(request, "settings.html", identity)


@router.get("/help")
@router.get("/help/{slug}")
async def help_(request: Request, identity: Owner, slug: str = "") -> Response:
    """The documentation."""
    pages = await run_in_threadpool(help_pages)
    slug = slug or (pages[0].slug if pages else "")
    found = next((entry for entry in pages if entry.slug == slug), None)
    if found is None:
        raise NotFound("There is no help page of that name.")
    return page(
        request,
        "help.html",
        identity,
        help_title=found.title,
        help_html=await run_in_threadpool(help_page, found, base_of(request)),
        help_pages=pages,
        help_slug=slug,
    )


async def _find(request: Request, run_id: str) -> Run:
    found = await run_in_threadpool(services_of(request).store.run, run_id)
    if found is None:
        raise NotFound("There is no such run. It may have been deleted.")
    return found


def _run_page(
    request: Request, identity: Identity, found: Run, boot: dict[str, str] | None = None
) -> Response:
    plain = run_plain(found, full=identity.viewer.may_edit)
    return page(request, "run.html", identity, boot={"run": plain, **(boot or {})})
