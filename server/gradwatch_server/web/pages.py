"""The pages."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from gradwatch.protocol.codec import to_plain

from ..errors import Forbidden, LinkEnded, NotFound, PasswordNeeded
from ..models import Run
from ..plain import run_plain
from ..store.health_queries import summaries
from ..store.store import Store
from ..visitors import Share, Viewer
from .access import Identity, identify, services_of
from .help import help_page, help_pages
from .incidents import found_in
from .render import base_of, page
from .unfurl import LOCKED, Unfurl, is_previewer, unfurl
from .unlock import unlocked

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

MOST_LAYERS: Final = 400
MOST_INCIDENTS: Final = 20
"""Of longer lists the page asks for all by itself."""


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
    return await _run_page(request, identity, await _find(request, run_id))


@router.get("/s/{token}")
async def shared(request: Request, token: str) -> Response:
    """A run or a comparison, as the holder of a link sees it, in an owner's browser too."""
    services = services_of(request)
    token = unlocked(request, token.partition(".")[0])
    try:
        share = await run_in_threadpool(services.sharing.share_of, token)
    except PasswordNeeded:
        link = token.partition(".")[0]
        return page(request, "password.html", None, boot={"link": link}, status=401, unfurl=LOCKED)
    if share is None:
        raise LinkEnded
    identity = await identify(request, share=token)
    response = await _shared_page(request, identity, share, {"share": token, "view": share.view})
    response.headers["Referrer-Policy"] = "no-referrer"
    if not is_previewer(request.headers.get("user-agent", "")):
        services.sharing.opened(share)
    return response


async def _shared_page(request: Request, identity: Identity, share: Share, boot: dict[str, Any]) -> Response:
    store = services_of(request).store

    def read() -> tuple[list[Run], Unfurl]:
        found = [run for run_id in share.runs if (run := store.run(run_id)) is not None]
        if not found:
            raise NotFound("There is no such run. It may have been deleted.")
        return found, unfurl(found, store.database.read(lambda conn: summaries(conn, share.runs)))

    runs, tags = await run_in_threadpool(read)
    if not share.others:
        return await _run_page(request, identity, runs[0], boot, unfurl=tags)
    ids = [run.id for run in runs]
    return page(request, "compare.html", identity, boot={**boot, "runs": ids}, unfurl=tags)


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


async def _run_page(
    request: Request,
    identity: Identity,
    found: Run,
    boot: dict[str, Any] | None = None,
    unfurl: Unfurl | None = None,
) -> Response:
    services = services_of(request)
    # What happens from here on comes by the live socket.
    revision = services.hub.revision
    known = await run_in_threadpool(_known, services.store, found, identity.viewer)
    plain = run_plain(found, full=identity.viewer.may_edit)
    given = {"run": plain, "revision": revision, **known, **(boot or {})}
    return page(request, "run.html", identity, boot=given, unfurl=unfurl, theme=_theme(given.get("view", "")))


def _known(store: Store, run: Run, viewer: Viewer) -> dict[str, Any]:
    """What decides how high the parts of the page are, and its sentence: so that nothing moves when the numbers come.

    ``found`` as ``GET /runs/{id}/incidents``, at most :data:`MOST_INCIDENTS` of them, with ``all`` for none left out; ``segments`` and ``statistics`` as
    ``GET /runs/{id}``; ``layers`` as ``GET /runs/{id}/tensors``, None where there are more than :data:`MOST_LAYERS`.
    """
    found = found_in(store.database, run.id, viewer, MOST_INCIDENTS)
    few = run.tensor_count <= MOST_LAYERS
    layers = {"tensors": store.tensors(run.id), "groups": store.groups(run.id)} if few else None
    known = {
        "found": {**found, "all": len(found["incidents"]) < MOST_INCIDENTS},
        "segments": store.segments(run.id),
        "statistics": store.statistics(run.id),
        "layers": layers,
    }
    plain: dict[str, Any] = to_plain(known)
    return plain


def _theme(view: str) -> str:
    """The theme that a shared view asks for, "" for the browser's own."""
    return next((value for value in parse_qs(view).get("theme", ()) if value in ("light", "dark")), "")
