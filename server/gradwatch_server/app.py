"""The app, made by a factory: nothing exists before :func:`create_app`, nothing is opened before it starts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import APIRouter, Depends, FastAPI

from gradwatch import __version__

from .assets import Assets, find
from .config import Config
from .errors import StoreError
from .services import open_services
from .web import (
    actions,
    alerts,
    audit,
    bodies,
    channels,
    dismissals,
    entry,
    health,
    incidents,
    ingest,
    live,
    normals,
    pages,
    rules,
    runs,
    shares,
    snapshots,
    static,
    tokens,
    unlock,
)
from .web.access import guard
from .web.edge import Edge
from .web.faults import add_handlers
from .web.render import environment

__all__ = ["create_app"]

_ERRORS: Final[dict[int | str, dict[str, object]]] = {
    "4XX": {"model": bodies.ErrorReply, "description": "Refused, and why."}
}


def create_app(config: Config, *, clock: Callable[[], float] = time.time) -> FastAPI:
    """The whole server as an ASGI app. Starting it opens the database, ending it closes it."""
    assets, templates = Assets(find("static")), environment(find("templates"))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                services = await stack.enter_async_context(open_services(config, templates, assets, clock))
            except StoreError as error:
                app.state.failure = error
                raise
            app.state.services = services
            yield

    app = FastAPI(
        title="gradwatch",
        version=__version__,
        summary="Runs, their numbers, alerts and share links",
        description=(
            "Every request needs a session cookie, `Authorization: Bearer <token>`, or (GET only) the token of a share "
            "link in `X-Gradwatch-Share`. Changes from a page also need `X-Gradwatch-Page`. Numbers that are not finite "
            'are the strings "NaN", "Infinity" and "-Infinity".'
        ),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    add_handlers(app)
    for router in (_api(), entry.router, unlock.router):
        app.include_router(router, prefix="/api/v1", responses=_ERRORS)
    for module in (health, ingest, live, static, pages):
        app.include_router(module.router)
    app.add_middleware(Edge, root_path=config.root_path, access_log=config.access_log)
    return app


def _api() -> APIRouter:
    """Everything that :func:`~.web.access.guard` watches over."""
    api = APIRouter(dependencies=[Depends(guard), Depends(audit.audited)])
    for module in (
        runs,
        normals,
        rules,
        alerts,
        channels,
        shares,
        incidents,
        dismissals,
        actions,
        tokens,
        audit,
        snapshots,
    ):
        api.include_router(module.router)
    return api
