"""The API of runs and their numbers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from gradwatch.protocol import histogram, limits
from gradwatch.protocol.messages import FLIGHT_MARK

from ..errors import Invalid
from ..models import Run, RunMark, RunState
from ..plain import run_plain
from ..privacy import sift_mark
from ..store.health_queries import summaries
from ..store.store import RunStorage
from . import bodies
from .access import CurrentViewer, VisibleRun, require_owner, services_of
from .queries import MOST_CELLS, MOST_POINTS, row_list, series_query
from .replies import cells, reply, reply_exact
from .view_codec import encode_view

__all__ = ["router"]

router = APIRouter(prefix="/runs", tags=["Runs"])

MOST_VALUES = 2_000_000
"""Most exact values in one reply."""

Statistic = Annotated[str, Query(description="Such as `grad_norm`, `global_grad_norm`, `loss`.")]
Scope = Annotated[Literal["tensor", "group", "run"], Query(description="What a row is.")]
Rows = Annotated[str | None, Query(description="Run-wide row numbers, `0,1,2`; all when left out.")]
From = Annotated[int, Query(alias="from", ge=0, le=limits.MAX_STEP, description="First step.")]
To = Annotated[int | None, Query(alias="to", ge=0, le=limits.MAX_STEP, description="Step to stop before.")]


@router.get("", summary="List runs", response_model=bodies.RunsReply)
async def list_runs(
    request: Request,
    viewer: CurrentViewer,
    project: Annotated[str | None, Query(description="Only this project.")] = None,
    state: Annotated[RunState | None, Query(description="Only in this state.")] = None,
    q: Annotated[
        str,
        Query(
            max_length=500,
            description="Words in name, id, tag, project or who started it; `who:ann` for the latter only.",
        ),
    ] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """The newest first. A share link gets its own run only."""
    services = services_of(request)
    only = None if viewer.runs is None else sorted(viewer.runs)
    store = services.store

    def read() -> dict[str, Any]:
        found = store.page(
            project=project, state=state, text=q, limit=limit, offset=offset, ids=only, by_who=viewer.may_edit
        )
        sizes = store.sizes()
        listed = {
            "runs": [run_plain(run, full=viewer.may_edit, listed=True) for run in found.runs],
            "total": found.total,
            "revision": found.revision,
            "bytes": {run.id: sizes.get(run.id, 0) for run in found.runs},
        }
        ids = [run.id for run in found.runs]
        listed["health"] = store.database.read(lambda conn: summaries(conn, ids))
        if viewer.may_edit:
            listed["database"] = {"bytes": store.size(), "max_bytes": services.config.max_size}
        return listed

    return reply(await run_in_threadpool(read))


@router.get("/{run_id}", summary="One run", response_model=bodies.RunDetailReply)
async def get_run(request: Request, run: VisibleRun, viewer: CurrentViewer) -> Response:
    """The run, its segments, and the statistics that can be asked for."""
    services = services_of(request)
    store = services.store

    def read() -> dict[str, Any]:
        return {
            "run": run_plain(run, full=viewer.may_edit),
            "segments": store.segments(run.id),
            "statistics": store.statistics(run.id),
            "tensor_count": run.tensor_count,
            "storage": _storage_plain(store.storage(run)),
            "revision": services.hub.revision,
        }

    return reply(await run_in_threadpool(read))


def _storage_plain(storage: RunStorage) -> dict[str, Any]:
    price = storage.price
    return {
        "bytes": storage.nbytes,
        "thinned_before": storage.thinned_before,
        "bytes_per_day": None if price is None else round(price.everything),
        "sentence": "" if price is None else price.sentence(),
    }


@router.patch(
    "/{run_id}",
    summary="Rename, tag or annotate a run",
    response_model=bodies.RunOut,
    dependencies=[Depends(require_owner)],
)
async def patch_run(request: Request, run: VisibleRun, body: bodies.RunPatch) -> Response:
    """What is left out stays as it is."""
    services = services_of(request)
    changed = body.model_dump(exclude_none=True)
    if not changed:
        raise Invalid("Give a name, tags or notes to change.")
    if "tags" in changed:
        changed["tags"] = tuple(dict.fromkeys(changed["tags"]))
    updated: Run = await asyncio.wrap_future(services.store.update_run(run.id, **changed))
    services.announce.run(updated)
    return reply_exact(run_plain(updated, full=True))


@router.delete("/{run_id}", summary="Delete a run", status_code=204, dependencies=[Depends(require_owner)])
async def delete_run(request: Request, run: VisibleRun) -> Response:
    """The run and all its numbers, for good. A trainer that still sends it is told to stop."""
    services = services_of(request)
    services.trainers.fence_run(run.id)
    await asyncio.wrap_future(services.store.delete_run(run.id))
    services.alerting.run_deleted(run.id)
    services.health.run_deleted(run.id)
    services.announce("run_deleted", run.id, {"id": run.id})
    return Response(status_code=204)


@router.get("/{run_id}/tensors", summary="Tensors and groups of a run", response_model=bodies.TensorsReply)
async def get_tensors(request: Request, run: VisibleRun) -> Response:
    """Their indexes are the rows of series with scope `tensor` and `group`."""
    store = services_of(request).store

    def read() -> Response:
        return reply_exact({"tensors": store.tensors(run.id), "groups": store.groups(run.id)})

    return await run_in_threadpool(read)


@router.get(
    "/{run_id}/series",
    summary="A statistic over steps, as buckets",
    response_model=bodies.SeriesReply,
    responses={
        200: {
            "content": {"application/octet-stream": {}},
            "description": "The binary form, or JSON if asked.",
        }
    },
)
async def get_series(
    request: Request,
    run: VisibleRun,
    statistic: Statistic,
    scope: Scope = "tensor",
    rows: Rows = None,
    from_step: From = 0,
    to_step: To = None,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS, description="Most buckets wanted.")] = 1000,
    segment: Annotated[int | None, Query(ge=0, description="One segment; joined when left out.")] = None,
    format: Annotated[
        Literal["binary", "json"], Query(description="Binary is described under /help.")
    ] = "binary",
) -> Response:
    """Buckets keep the extremes, the newest value and whether NaN, Inf or zero was seen: no spike is lost at any zoom."""
    query = series_query(
        statistic,
        scope=scope,
        rows=rows,
        from_step=from_step,
        to_step=to_step,
        points=points,
        segment=segment,
    )
    store = services_of(request).store

    def read() -> Response:
        series = store.series(run.id, query)
        if format == "binary":
            return Response(encode_view(series, segment=query.segment), media_type="application/octet-stream")
        if series.last.size > MOST_CELLS // 4:
            raise Invalid(f"At most {MOST_CELLS // 4:,} cells as JSON: ask for fewer rows or points.")
        planes = {name: cells(getattr(series, name)) for name in ("low", "high", "last")}
        return reply_exact(
            {
                "width": series.width,
                "first_bucket": series.first_bucket,
                **planes,
                "flags": series.flags.tolist(),
                "last_step": series.last_step,
                "last_time": series.last_time,
            }
        )

    return await run_in_threadpool(read)


@router.get("/{run_id}/values", summary="Exact values", response_model=bodies.ValuesReply)
async def get_values(
    request: Request,
    run: VisibleRun,
    statistic: Statistic,
    scope: Scope = "tensor",
    rows: Rows = None,
    from_step: From = 0,
    to_step: To = None,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Most steps.")] = 1000,
    segment: Annotated[
        int | None,
        Query(
            ge=0,
            le=2**31 - 1,
            description="One segment, with what a later one replaced; joined when left out.",
        ),
    ] = None,
) -> Response:
    """As they were sent, step by step; null where a tensor had no gradient."""
    chosen = None if rows is None else row_list(rows)
    columns = len(chosen) if chosen is not None else max(1, run.tensor_count if scope == "tensor" else 1)
    if columns * limit > MOST_VALUES:
        raise Invalid(
            f"At most {MOST_VALUES:,} values at once: ask for fewer rows or a smaller limit.",
            {"limit": f"at most {MOST_VALUES // columns:,} for {columns:,} rows"},
        )
    store = services_of(request).store

    def read() -> Response:
        found = store.values(run.id, statistic, scope, chosen, from_step, to_step, limit, segment)
        values = cells(np.asarray(found.values), found.present)
        return reply_exact({"steps": found.steps.tolist(), "times": found.times.tolist(), "values": values})

    return await run_in_threadpool(read)


@router.get(
    "/{run_id}/histogram", summary="A gradient's log2 histogram", response_model=bodies.HistogramReply
)
async def get_histogram(
    request: Request,
    run: VisibleRun,
    tensor: Annotated[int, Query(ge=0, le=2**31 - 1, description="Index of the tensor in the run.")],
    step: Annotated[
        int | None, Query(ge=0, le=limits.MAX_STEP, description="The newest step when left out.")
    ] = None,
    segment: Annotated[
        int | None, Query(ge=0, le=2**31 - 1, description="One segment; joined when left out.")
    ] = None,
) -> Response:
    """At the sampled step nearest to `step`: every 50th step, every 5th around an incident, rarer where the budget is short."""
    store = services_of(request).store
    if tensor >= run.tensor_count:
        raise Invalid(
            f"The run has {run.tensor_count:,} tensors: give an index below that.",
            {"tensor": "no such tensor"},
        )
    found = await run_in_threadpool(store.histogram, run.id, tensor, step, segment)
    counts = np.zeros(histogram.CELLS) if found is None else found.counts
    cell = counts.astype(np.int64).tolist()
    return reply_exact(
        {
            "step": None if found is None else found.step,
            "time": None if found is None else found.time,
            "zero": cell[histogram.ZERO],
            "below": cell[histogram.BELOW],
            "octaves": cell[histogram.BELOW + 1 : histogram.ABOVE],
            "above": cell[histogram.ABOVE],
            "not_finite": cell[histogram.NOT_FINITE],
            "lowest_exponent": histogram.LOWEST_EXPONENT,
        }
    )


@router.get("/{run_id}/marks", summary="Marks on the timeline", response_model=bodies.MarksReply)
async def get_marks(
    request: Request,
    run: VisibleRun,
    viewer: CurrentViewer,
    since: Annotated[int, Query(ge=0, description="Only those with a higher revision.")] = 0,
) -> Response:
    """Checkpoints, notes, phases, restarts. A share link gets no paths, addresses and secrets in them."""
    store = services_of(request).store

    def read() -> list[RunMark]:
        found = [mark for mark in store.marks(run.id, since) if mark.kind != FLIGHT_MARK]
        if viewer.may_edit:
            return found
        return [replace(mark, data=sift_mark(mark.data, run.context)) for mark in found]

    return reply({"marks": await run_in_threadpool(read)})
