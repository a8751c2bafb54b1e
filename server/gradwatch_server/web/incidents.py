"""The API of health: the state of runs in a sentence, and the incidents of a run."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from gradwatch.health import CAUSES, DETECTORS, KINDS, REMEDIES, what_if

from ..models import Run
from ..store import health_queries as sql
from .access import CurrentViewer, services_of
from .replies import reply
from .runs import VisibleRun

__all__ = ["router"]

router = APIRouter(tags=["Health"])


class IncidentsReply(BaseModel):
    """Incidents of a run, the newest first, and where it stands now."""

    incidents: list[dict[str, Any]]
    health: dict[str, Any] | None = Field(description="State, sentence, newest judged step and scores.")


class HealthReply(BaseModel):
    """The health of several runs by id; a run that was never judged is left out."""

    health: dict[str, dict[str, Any]]


@router.get("/runs/{run_id}/incidents", summary="Incidents of a run", response_model=IncidentsReply)
async def list_incidents(
    request: Request, run: VisibleRun, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> Response:
    """What the health engine found: verdict, evidence, origin, causes with their remedies."""
    database = services_of(request).store.database

    def read() -> dict[str, Any]:
        found = database.read(lambda conn: sql.list_incidents(conn, run.id, limit=limit))
        health = database.read(lambda conn: sql.summaries(conn, [run.id]))
        return {"incidents": found, "health": health.get(run.id)}

    return reply(await run_in_threadpool(read))


@router.get("/health", summary="Health of runs", response_model=HealthReply)
async def list_health(
    request: Request,
    viewer: CurrentViewer,
    run: Annotated[list[str], Query(max_length=500, description="Ids of runs; may be given several times.")],
) -> Response:
    """State and sentence, for lists."""
    seen = [one for one in run if viewer.may_see(one)]
    database = services_of(request).store.database
    found = await run_in_threadpool(database.read, lambda conn: sql.summaries(conn, seen))
    return reply({"health": found})
