"""What people say of incidents: "not a problem", and that it was one after all."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ..alerts.incidents import alert_of
from ..errors import NotFound
from ..models import Run
from ..services import Services
from ..store import dismissal_queries as sql
from ..store.alert_queries import known_alerts
from ..store.health_queries import summaries
from .access import VisibleRun, identify, require_owner, services_of
from .replies import reply

__all__ = ["router"]

router = APIRouter(
    prefix="/runs/{run_id}/incidents/{incident_id}/dismissal",
    tags=["Health"],
    dependencies=[Depends(require_owner)],
)


class Dismissed(BaseModel):
    """Who said it, and when."""

    who: str
    time: float


class DismissalReply(BaseModel):
    """What is now said of the incident."""

    dismissed: Dismissed | None = Field(description="null: it counts as a problem.")


@router.post("", summary="Say that an incident is not a problem", response_model=DismissalReply)
async def dismiss(request: Request, run: VisibleRun, incident_id: str) -> Response:
    """It no longer turns the run red, its alerts count as seen, and `/metrics` counts it as a false alarm of its kind."""
    services = services_of(request)
    who = (await identify(request)).who
    said = {"who": who[:128], "time": services.clock()}
    return await _say(request, run, incident_id, said)


@router.delete("", summary="Take that back", response_model=DismissalReply)
async def take_back(request: Request, run: VisibleRun, incident_id: str) -> Response:
    """The incident counts again."""
    return await _say(request, run, incident_id, None)


async def _say(request: Request, run: Run, incident_id: str, said: dict[str, Any] | None) -> Response:
    services = services_of(request)
    database = services.store.database
    incident = await run_in_threadpool(
        database.read, lambda conn: sql.find_incident(conn, run.id, incident_id)
    )
    if incident is None:
        raise NotFound("There is no such incident. It may have become part of another.")

    await asyncio.wrap_future(database.write(lambda conn: sql.say(conn, run.id, incident_id, said)))
    shown = None if said is None else {"time": said["time"]}
    services.announce("incident", run.id, {**incident, "dismissed": shown}, {"dismissed": said})
    health = await run_in_threadpool(database.read, lambda conn: summaries(conn, [run.id]))
    if run.id in health:
        services.announce("health", run.id, health[run.id])
    await _mark_alerts(services, run.id, incident, seen=said is not None)
    return reply({"dismissed": said})


async def _mark_alerts(services: Services, run_id: str, incident: dict[str, Any], *, seen: bool) -> None:
    """The alerts that rules made of the incident count as seen, or no longer."""
    rules = [rule for rule in services.alerting.rules if rule.condition == "incident"]
    ids = [alert_of(rule, run_id, incident).id for rule in rules]

    database = services.store.database
    for alert_id in await run_in_threadpool(database.read, lambda conn: known_alerts(conn, ids)):
        await services.alerting.note(alert_id, acknowledged=seen)
