"""The audit list of a run: what the script did by itself, what its author changed, and whether it helped."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from gradwatch.health import changes, effect_of
from gradwatch.health.effects import AFTER, BEFORE

from ..errors import NotFound
from ..models import RunMark
from ..store import Store
from .access import VisibleRun, services_of
from .replies import reply

__all__ = ["router"]

MOST_STEPS: Final = 20_000
"""So many steps, up to the newest, are searched for changes by the author."""

AUTHORS: Final = {
    "lr": "the learning rate was changed",
    "clip_limit": "the limit of clipping was changed",
}
"""The series of the run that its author changes, and how the list says so."""

router = APIRouter(tags=["Actions"])


class ActionOut(BaseModel):
    """One thing that was done, and what came of it."""

    step: int
    time: float | None
    action: str = Field(
        description="clip, clip_freeze, skip, lr_cut, lr_recover, stop; lr and clip_limit for a change by the author."
    )
    by: str = Field(description='"script" for what a guard did, "author" for a change that was seen.')
    reason: str
    old: float | None
    new: float | None
    bounds: dict[str, float]
    effect: dict[str, Any] = Field(
        description="Verdict, sentence, and norm and loss before, expected and after."
    )


class ActionsReply(BaseModel):
    """Actions of a run, the newest first."""

    actions: list[ActionOut]


@router.get("/runs/{run_id}/actions", summary="Actions of a run", response_model=ActionsReply)
async def list_actions(
    request: Request, run: VisibleRun, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> Response:
    """What was done to training, by the script's own guard or by its author, and whether it helped."""
    store, newest = services_of(request).store, run.last_step or 0

    def read() -> dict[str, Any]:
        found = [_of_mark(mark) for mark in store.marks(run.id) if mark.kind == "action"]
        mine = {action["step"] for action in found}
        seen = [one for series in AUTHORS for one in _changes_of(series, store, run.id, newest)]
        found += [one for one in seen if not any(abs(one["step"] - step) <= 1 for step in mine)]
        found.sort(key=lambda one: one["step"], reverse=True)
        chosen = found[:limit]
        for one in chosen:
            one["effect"] = _effect(store, run.id, one["step"])
        return {"actions": chosen}

    return reply(await run_in_threadpool(read))


def _of_mark(mark: RunMark) -> dict[str, Any]:
    data = mark.data
    return {
        "step": mark.step,
        "time": mark.time,
        "action": str(data.get("action", "")),
        "by": "script",
        "reason": str(data.get("reason", "")),
        "old": data.get("old"),
        "new": data.get("new"),
        "bounds": data.get("bounds") or {},
    }


def _changes_of(series: str, store: Store, run_id: str, newest: int) -> list[dict[str, Any]]:
    steps, values = _values(store, run_id, series, max(0, newest - MOST_STEPS), newest + 1)
    return [
        {
            "step": step,
            "time": None,
            "action": series,
            "by": "author",
            "reason": AUTHORS[series],
            "old": old,
            "new": new,
            "bounds": {},
        }
        for step, old, new in changes(steps, values)
    ]


def _effect(store: Store, run_id: str, step: int) -> dict[str, Any]:
    window = max(0, step - BEFORE), step + AFTER + 1
    norm = _values(store, run_id, "global_grad_norm", *window)
    return dataclasses.asdict(effect_of(step, norm, _values(store, run_id, "loss", *window)))


def _values(
    store: Store, run_id: str, statistic: str, first: int, end: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Steps and values of the first column of a statistic of the run; empty where it has none."""
    try:
        found = store.values(run_id, statistic, "run", [0], first, end, MOST_STEPS + 1)
    except NotFound:
        return np.zeros(0), np.zeros(0)
    return np.asarray(found.steps, np.float64), np.asarray(found.values, np.float64)[:, 0]
