"""What is normal for each tensor of a run: the range that its gradient norm had before a step."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from gradwatch.protocol import limits

from ..errors import NotFound
from ..troubled import LEAST_STEPS
from .access import VisibleRun, services_of
from .replies import cells, reply_exact

__all__ = ["normal_range", "router"]

STEPS: Final = 256
MOST_CELLS: Final = 640_000
"""Of very wide runs fewer steps are looked at, so that the answer stays quick."""

UNITS: Final = 3.0
LEAST_SCALE: Final = 0.25
"""In octaves, as the heat map has it: a steady layer may still move by a factor of 2 ** 0.75."""

MAD_TO_SIGMA: Final = 1.4826

Floats = npt.NDArray[np.float64]

router = APIRouter(prefix="/runs", tags=["Runs"])


class NormalsReply(BaseModel):
    """By index of the tensor; null where too little is known."""

    steps: int = Field(description="How many steps were looked at.")
    low: list[float | None]
    middle: list[float | None]
    high: list[float | None]


def normal_range(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Low end, middle and high end of what is usual, ``[tensors]``, for norms ``[steps, tensors]``: the median of their
    logarithms and three robust deviations (1.4826 x median absolute deviation) to each side. NaN with fewer than
    :data:`.LEAST_STEPS` positive finite values."""
    usable = np.isfinite(values) & (values > 0)
    logs = np.full(values.shape, np.nan)
    np.log2(values, out=logs, where=usable)
    known = usable.sum(axis=0) >= LEAST_STEPS
    middle = np.full(values.shape[1], np.nan)
    scale = middle.copy()
    if known.any():
        middle[known] = np.nanmedian(logs[:, known], axis=0)
        scale[known] = MAD_TO_SIGMA * np.nanmedian(np.abs(logs[:, known] - middle[known]), axis=0)
    reach = UNITS * np.maximum(scale, LEAST_SCALE)
    return np.exp2(middle - reach), np.exp2(middle), np.exp2(middle + reach)


@router.get("/{run_id}/normals", summary="What is normal for each tensor", response_model=NormalsReply)
async def get_normals(
    request: Request,
    run: VisibleRun,
    before: Annotated[
        int | None, Query(ge=0, le=limits.MAX_STEP, description="The step before which to look.")
    ] = None,
) -> Response:
    """From the 256 steps before a step (the newest when left out): median and robust range of each gradient norm."""
    store = services_of(request).store
    end = run.last_step + 1 if before is None else before
    steps = max(LEAST_STEPS, min(STEPS, MOST_CELLS // max(1, run.tensor_count)))

    def read() -> Response:
        try:
            values = np.asarray(
                store.values(run.id, "grad_norm", "tensor", None, max(0, end - steps), end, steps).values,
                np.float64,
            )
        except NotFound:
            values = np.zeros((0, 0))
        named = zip(("low", "middle", "high"), normal_range(values), strict=True)
        return reply_exact(
            {"steps": len(values), **{name: cells(line, np.isfinite(line)) for name, line in named}}
        )

    return await run_in_threadpool(read)
