"""A run, or a comparison of runs, as one HTML file."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from gradwatch.protocol import limits

from .. import comparison, snapshot
from ..errors import Invalid, NotFound
from ..services import Services
from ..snapshot_file import Parts
from ..store import alert_queries, health_queries
from .access import VisibleRun, require_owner, services_of
from .share_bodies import MOST_COMPARED

__all__ = ["router"]

router = APIRouter(tags=["Runs"], dependencies=[Depends(require_owner)])

_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/html": {}}, "description": "One HTML file with data and plotly.js inside."}
}


@router.get(
    "/runs/{run_id}/snapshot", summary="A frozen snapshot of a run", response_class=Response, responses=_FILE
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
    store = services.store

    def make() -> str:
        alerts = store.database.read(lambda conn: alert_queries.list_alerts(conn, run_id=run.id, limit=100))
        health = store.database.read(lambda conn: health_queries.summaries(conn, [run.id]))
        sentence = str(health.get(run.id, {}).get("sentence", ""))
        look = snapshot.look_at(store, run, alerts, sentence, from_step, to_step)
        return snapshot.build(look, _parts(services), _now(services))

    return _file(await run_in_threadpool(make), snapshot.name_of(run))


@router.get(
    "/compare/snapshot",
    summary="A frozen snapshot of a comparison",
    response_class=Response,
    responses=_FILE,
)
async def get_comparison(
    request: Request,
    run: Annotated[
        list[Annotated[str, Query(max_length=512)]],
        Query(description="Two to five runs, one parameter each."),
    ],
    x: Annotated[
        comparison.Axis, Query(description="Over steps, or over time since each run began.")
    ] = "step",
) -> Response:
    """Opens without server and network, and zooms. Shows what a share link to the comparison shows."""
    ids = list(dict.fromkeys(run))
    if not 2 <= len(ids) <= MOST_COMPARED:
        raise Invalid(f"Give two to {MOST_COMPARED} runs.", {"run": f"two to {MOST_COMPARED} runs"})
    services = services_of(request)

    def make() -> tuple[str, str]:
        found = [services.store.run(run_id) for run_id in ids]
        compared = [comparison.compare(services.store, one, x) for one in found if one is not None]
        if len(compared) < len(ids):
            raise NotFound("One of these runs is not there. It may have been deleted.")
        text = comparison.build(compared, x, _parts(services), _now(services))
        return text, comparison.name_of(compared)

    return _file(*await run_in_threadpool(make))


def _parts(services: Services) -> Parts:
    assets = services.assets
    script, style = assets.get("snapshot/snapshot.js"), assets.get("snapshot/snapshot.css")
    assert script is not None and style is not None
    return Parts(plotly=assets.plotly().body, script=script.body, style=style.body)


def _now(services: Services) -> str:
    return datetime.fromtimestamp(services.clock(), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _file(text: str, name: str) -> Response:
    return Response(
        text.encode(),
        media_type="text/html",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )
