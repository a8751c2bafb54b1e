"""Whether the server lives, whether it can work, and how it does."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from gradwatch import __version__

from ..errors import StoreError
from .access import require_owner, services_of
from .prometheus import metrics_text
from .replies import reply_exact

__all__ = ["router"]

router = APIRouter(tags=["Server"])

READY_SECONDS = 5.0


@router.get("/healthz", summary="Is it alive?")
async def healthz(request: Request) -> Response:
    """Always, as long as it answers."""
    return reply_exact({"status": "ok", "version": __version__, "instance": services_of(request).instance})


@router.get("/readyz", summary="Can it work?")
async def readyz(request: Request) -> Response:
    """503 when the database can't be written, or when it is shutting down."""
    services = services_of(request)
    if services.closing:
        raise StoreError("The server is shutting down.")
    written = asyncio.wrap_future(services.store.database.write(lambda conn: None))
    try:
        await asyncio.wait_for(written, READY_SECONDS)
    except asyncio.TimeoutError:
        raise StoreError(f"The database has not answered for {READY_SECONDS:.0f} seconds.") from None
    return reply_exact({"status": "ready"})


@router.get("/metrics", summary="Prometheus metrics", dependencies=[Depends(require_owner)])
async def metrics(request: Request) -> Response:
    """In Prometheus' text format. Scrape it with the server's token as bearer token."""
    services = services_of(request)
    text = await run_in_threadpool(metrics_text, services)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
