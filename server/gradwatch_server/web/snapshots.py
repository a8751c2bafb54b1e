"""A run as one HTML file."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from gradwatch.protocol import limits

from ..snapshot import build, file_name, look_at
from ..store import alert_queries, health_queries
from .access import VisibleRun, require_owner, services_of

__all__ = ["router"]

router = APIRouter(prefix="/runs", tags=["Runs"])


@router.get(
    "/{run_id}/snapshot",
    summary="A frozen snapshot of a run",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}, "description": "One HTML file with data and plotly.js inside."}
    },
    dependencies=[Depends(require_owner)],
)
async def get_snapshot(
    request: Request,
    run: VisibleRun,
    from_step: Annotated[int, Query(alias="from", ge=0, le=limits.MAX_STEP, description="First step.")] = 0,
    to_step: Annotated[
        int | None, Query(alias="to", ge=1, le=limits.MAX_STEP, description="Step to stop before.")
    ] = None,
) -> Response:
    """Opens without server and network, and zooms. Shows what a share link shows: no host, paths, errors or notes."""
    services = services_of(request)
    store, assets = services.store, services.assets
    script, style = assets.get("snapshot/snapshot.js"), assets.get("snapshot/snapshot.css")
    assert script is not None and style is not None
    made = datetime.fromtimestamp(services.clock(), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

    def make() -> bytes:
        alerts = store.database.read(lambda conn: alert_queries.list_alerts(conn, run_id=run.id, limit=100))
        health = store.database.read(lambda conn: health_queries.summaries(conn, [run.id]))
        sentence = str(health.get(run.id, {}).get("sentence", ""))
        look = look_at(store, run, alerts, sentence, from_step, to_step)
        text = build(look, plotly=assets.plotly().body, script=script.body, style=style.body, made=made)
        return text.encode()

    return Response(
        await run_in_threadpool(make),
        media_type="text/html",
        headers={
            "Content-Disposition": f'attachment; filename="{file_name(run)}"',
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )
