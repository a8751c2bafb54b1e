"""The API of alerts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ..alert_plain import alert_plain
from ..store import alert_queries as sql
from . import alert_bodies as bodies
from .access import CurrentViewer, require_owner, services_of
from .replies import reply

__all__ = ["router"]

router = APIRouter(prefix="/alerts", tags=["Alerts"])


@router.get("", summary="List alerts", response_model=bodies.AlertsReply)
async def list_alerts(
    request: Request,
    viewer: CurrentViewer,
    run: Annotated[
        str | None, Query(max_length=512, description="Only of this run; share links must say it.")
    ] = None,
    open: Annotated[bool | None, Query(description="true: open ones only; false: cleared ones only.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """The newest first. Notes are for owners only."""
    database = services_of(request).store.database
    found = await run_in_threadpool(
        database.read, lambda conn: sql.list_alerts(conn, run_id=run or None, open_only=open, limit=limit)
    )
    seen = [alert for alert in found if viewer.may_see(alert.run_id)]
    return reply({"alerts": [alert_plain(alert, full=viewer.may_edit) for alert in seen]})


@router.post(
    "/{alert_id}/acknowledge",
    summary="Acknowledge an alert",
    response_model=bodies.AlertReply,
    dependencies=[Depends(require_owner)],
)
async def acknowledge_alert(request: Request, alert_id: str, body: bodies.Acknowledge) -> Response:
    """Tells everybody that somebody takes care of it. The note replaces the one before."""
    alert = await services_of(request).alerting.note(alert_id, acknowledged=True, note=body.note.strip())
    return reply({"alert": alert_plain(alert, full=True)})


@router.post(
    "/{alert_id}/mute",
    summary="Mute an alert",
    response_model=bodies.AlertReply,
    dependencies=[Depends(require_owner)],
)
async def mute_alert(request: Request, alert_id: str, body: bodies.Mute) -> Response:
    """No more messages about this alert for a time: neither that it cleared nor that it fires again."""
    services = services_of(request)
    until = services.clock() + body.seconds if body.seconds else None
    alert = await services.alerting.note(alert_id, muted_until=until)
    return reply({"alert": alert_plain(alert, full=True)})
