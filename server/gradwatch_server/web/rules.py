"""The API of alert rules."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from ..alerts.kinds import COMMON, PARAMETERS, RULE_KINDS
from ..alerts.sentences import rule_sentence
from ..backtesting import suggest, try_on_healthy, try_rule
from ..errors import NotFound
from ..store.notify_queries import list_channels
from . import alert_bodies as bodies
from .access import require_owner, services_of
from .replies import reply

__all__ = ["router"]

router = APIRouter(prefix="/rules", tags=["Alert rules"], dependencies=[Depends(require_owner)])

MOST_SHOWN = 100
READ_ONLY = frozenset({"id", "source", "created_at", "updated_at", "version", "sentence", "state"})
"""Fields that a rule has in answers: sent back, they mean nothing."""

RuleBody = Annotated[dict[str, Any], Body(json_schema_extra=bodies.RULE_SCHEMA)]


@router.get("", summary="List rules", response_model=bodies.RulesReply)
async def list_rules(request: Request) -> Response:
    """All rules, oldest first, each with the state of its worst series."""
    alerting = services_of(request).alerting
    return reply({"rules": [alerting.rule_plain(rule) for rule in alerting.rules]})


@router.get("/kinds", summary="What rules can wait for", response_model=bodies.KindsReply)
async def list_kinds(request: Request) -> Response:
    """The tables that rule forms are made of."""
    found = await run_in_threadpool(services_of(request).store.database.read, list_channels)
    channels = [{"id": channel.id, "name": channel.name} for channel in found]
    return reply({"kinds": RULE_KINDS, "parameters": PARAMETERS, "common": COMMON, "channels": channels})


@router.post("", summary="Make a rule", response_model=bodies.RuleReply, status_code=201)
async def add_rule(request: Request, body: RuleBody) -> Response:
    """It judges from the next step on. Fields that are left out take their defaults."""
    alerting = services_of(request).alerting
    rule = await alerting.add_rule(_writable(body))
    return reply({"rule": alerting.rule_plain(rule)}, 201)


@router.post("/preview", summary="Try a rule on a run", response_model=bodies.PreviewReply)
async def preview_rule(request: Request, body: bodies.PreviewIn) -> Response:
    """When it would have fired in what is stored of the run. Changes nothing."""
    services = services_of(request)
    rule = services.alerting.draft(_writable(body.rule))
    run = await run_in_threadpool(services.store.run, body.run)
    if run is None:
        raise NotFound("There is no such run. It may have been deleted.")
    trial = await run_in_threadpool(try_rule, services.store, run, rule)
    suggested = await run_in_threadpool(suggest, services.store, run, rule)
    others = None
    if body.others:
        tried, fired = await run_in_threadpool(try_on_healthy, services.store, run, rule)
        others = {"runs": tried, "fired": fired}
    return reply(
        {
            "fired": trial.firings[:MOST_SHOWN],
            "count": len(trial.firings),
            "series": trial.series,
            "from_step": trial.from_step,
            "to_step": trial.to_step,
            "complete": trial.complete,
            "sentence": rule_sentence(rule),
            "suggested": suggested,
            "others": others,
        }
    )


@router.put("/{rule_id}", summary="Change a rule", response_model=bodies.RuleReply)
async def edit_rule(request: Request, rule_id: str, body: RuleBody) -> Response:
    """Fields that are left out stay. All its series start again as normal, and its open alerts close as "rule edited"."""
    alerting = services_of(request).alerting
    rule = await alerting.edit_rule(rule_id, _writable(body))
    return reply({"rule": alerting.rule_plain(rule)})


@router.delete("/{rule_id}", summary="Remove a rule", status_code=204)
async def remove_rule(request: Request, rule_id: str) -> Response:
    """Its open alerts close as "rule removed"; past ones stay."""
    await services_of(request).alerting.remove_rule(rule_id)
    return Response(status_code=204)


def _writable(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in READ_ONLY}
