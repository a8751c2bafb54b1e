"""The API of health: the state of runs in a sentence, and the incidents of a run."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from gradwatch.health import DETECTORS, KINDS, what_if

from ..errors import Invalid
from ..flight import batches_of
from ..store import health_queries as sql
from ..store.database import Database
from ..store.dismissal_queries import dismissed_in
from ..troubled import LEAST_STEPS, SPREADING, troubled
from ..visitors import Viewer
from .access import CurrentViewer, VisibleRun, services_of
from .replies import reply

__all__ = ["found_in", "router"]

router = APIRouter(tags=["Health"])


class NormalOut(BaseModel):
    """From what it is told what is normal for a run."""

    spreading: list[str] = Field(
        description="Kinds of incidents that take hold of a whole model: nothing of their steps counts."
    )
    least_steps: int = Field(description="With fewer other steps nothing is known.")


class IncidentsReply(BaseModel):
    """Incidents of a run, the newest first, and where it stands now."""

    incidents: list[dict[str, Any]] = Field(
        description="With `dismissed: {time, who}` where somebody said that it is not a problem; a link is not told who."
    )
    kinds: dict[str, str] = Field(description="What each kind of incident is called.")
    normal: NormalOut
    health: dict[str, Any] | None = Field(description="State, sentence, newest judged step and scores.")


class HealthReply(BaseModel):
    """The health of several runs by id; a run that was never judged is left out."""

    health: dict[str, dict[str, Any]]


@router.get("/runs/{run_id}/incidents", summary="Incidents of a run", response_model=IncidentsReply)
async def list_incidents(
    request: Request,
    run: VisibleRun,
    viewer: CurrentViewer,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """What the health engine found: verdict, evidence, origin, causes with their remedies."""
    database = services_of(request).store.database
    return reply(await run_in_threadpool(found_in, database, run.id, viewer, limit))


def found_in(database: Database, run_id: str, viewer: Viewer, limit: int) -> dict[str, Any]:
    """The fields of :class:`IncidentsReply`, the newest ``limit`` incidents of them.

    The engine stores incidents before what it says of them: read the other way round, they are as new as that at least.
    """
    health = database.read(lambda conn: sql.summaries(conn, [run_id]))
    found = database.read(lambda conn: sql.list_incidents(conn, run_id, limit=limit))
    said = database.read(lambda conn: dismissed_in(conn, run_id))
    return {
        "incidents": [opinion(one, said.get(one["id"]), viewer) for one in found],
        "kinds": {kind.key: kind.label for kind in KINDS.values()},
        "normal": {"spreading": sorted(SPREADING), "least_steps": LEAST_STEPS},
        "health": health.get(run_id),
    }


def opinion(incident: dict[str, Any], said: dict[str, Any] | None, viewer: Viewer) -> dict[str, Any]:
    """The incident with what people say of it, as far as the viewer may know who."""
    if said is None:
        return incident
    return {**incident, "dismissed": said if viewer.may_edit else {"time": said["time"]}}


class BatchOut(BaseModel):
    """The samples that one step saw on one rank, told when an incident opened."""

    incident: str = Field(description="Id of the incident.")
    step: int
    rank: int = Field(description="The process of a distributed run that saw them, 0 elsewhere.")
    ids: list[Any] = Field(
        description="As the script named them; the first 4,096, divided by the number of ranks."
    )
    count: int = Field(description="How many there were.")


class BatchesReply(BaseModel):
    """Batches by step and rank."""

    batches: list[BatchOut]


@router.get("/runs/{run_id}/batches", summary="Batches before incidents", response_model=BatchesReply)
async def list_batches(
    request: Request,
    run: VisibleRun,
    incident: Annotated[str, Query(description="Only those told for this incident.")] = "",
    from_: Annotated[int, Query(alias="from", ge=0, le=2**53)] = 0,
    to: Annotated[int, Query(ge=0, le=2**53)] = 2**53,
) -> Response:
    """Ids of the samples in the 50 steps before each incident opened, where the script gives them (`run.batch(ids=...)`).
    They are private: a share link does not get them."""
    store = services_of(request).store
    found = await run_in_threadpool(batches_of, store, run.id)
    chosen = [one for one in found if from_ <= one["step"] < to and incident in ("", one["incident"])]
    return reply({"batches": chosen})


class KindOut(BaseModel):
    """A kind of incident, and the detectors that find it."""

    key: str
    label: str
    sentence: str
    help: str
    detectors: list[str]


class KindsReply(BaseModel):
    """Every kind of incident there is."""

    kinds: list[KindOut]


class WhatIfReply(BaseModel):
    """What clipping by norm at ``max_norm`` would have done."""

    max_norm: float
    suggested: float = Field(description="1.5 times the 95th percentile outside of incidents.")
    share: float = Field(description="Share of the steps looked at that it would have clipped, 0 to 1.")
    steps: list[int] = Field(description="The steps themselves, at most 1,000.")
    looked_at: int
    code: str


MOST_WHAT_IF = 20_000


@router.get("/health/kinds", summary="Kinds of incidents", response_model=KindsReply)
async def list_kinds() -> Response:
    """The table that detectors, help pages and labels are made from."""
    kinds = [
        {
            "key": kind.key,
            "label": kind.label,
            "sentence": kind.sentence,
            "help": kind.help,
            "detectors": [row.key for row in DETECTORS if row.kind == kind.key],
        }
        for kind in KINDS.values()
    ]
    return reply({"kinds": kinds})


@router.get("/runs/{run_id}/what-if", summary="What clipping would have done", response_model=WhatIfReply)
async def get_what_if(
    request: Request,
    run: VisibleRun,
    max_norm: Annotated[float | None, Query(gt=0, description="Clip by norm at this value.")] = None,
    percentile: Annotated[float | None, Query(ge=0, le=100, description="Or at this percentile.")] = None,
    from_: Annotated[int | None, Query(alias="from", ge=0, le=2**53)] = None,
    to: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> Response:
    """The share of steps that a limit would have clipped, from the stored pre-clip norms of at most 20,000 steps."""
    store = services_of(request).store
    end = run.last_step + 1 if to is None else to
    start = max(0, end - MOST_WHAT_IF) if from_ is None else from_

    def read() -> dict[str, Any]:
        values = store.values(
            run.id, "global_grad_norm", "run", from_step=start, to_step=end, limit=MOST_WHAT_IF
        )
        try:
            usual = ~troubled(store, run.id, values.steps)
            found = what_if(
                values.steps, values.values[:, 0], max_norm=max_norm, percentile=percentile, usual=usual
            )
        except ValueError as error:
            raise Invalid(str(error)) from None
        return {
            "max_norm": found.max_norm,
            "suggested": found.suggested,
            "share": found.share,
            "steps": list(found.steps[:1000]),
            "looked_at": len(values.steps),
            "code": f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={found.max_norm:.3g})",
        }

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
