"""Static files: compressed, and cached for ever under an address that changes with them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from ..assets import Asset
from ..errors import NotFound
from .access import services_of

__all__ = ["router"]

router = APIRouter(prefix="/static", include_in_schema=False)

FOR_EVER = "public, max-age=31536000, immutable"


@router.get("/plotly-{version}.min.js")
async def plotly(request: Request, version: str) -> Response:
    """plotly.js of the installed plotly package."""
    assets = services_of(request).assets
    if version != assets.plotly_version:
        raise NotFound("This version of Plotly is not here any more. Reload the page.")
    return await _serve(request, await run_in_threadpool(assets.plotly), FOR_EVER)


@router.get("/{version}/{name:path}")
async def file(request: Request, version: str, name: str) -> Response:
    """A file of ours. An older version's address gives today's file, uncached."""
    assets = services_of(request).assets
    found = await run_in_threadpool(assets.get, name)
    if found is None:
        raise NotFound("There is no such file.")
    lasts = await run_in_threadpool(assets.lasts, version, name)
    return await _serve(request, found, FOR_EVER if lasts else "no-cache")


async def _serve(request: Request, asset: Asset, caching: str) -> Response:
    body, encoding = await run_in_threadpool(asset.encoded, request.headers.get("accept-encoding", ""))
    headers = {"Cache-Control": caching, "Vary": "Accept-Encoding"}
    if encoding:
        headers["Content-Encoding"] = encoding
    media = asset.media_type + ("; charset=utf-8" if asset.media_type.startswith("text/") else "")
    return Response(body, headers=headers, media_type=media)
