"""Histograms of one tensor: the one nearest to a step. They are sampled, so that most steps have none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlalchemy import Connection

from gradwatch.protocol.histogram import columns_of

from ..models import Histogram, Segment
from .block_queries import SeriesKey
from .series import CHUNK_STEPS, newest_step, read_values

__all__ = ["HISTOGRAM", "SCOPE", "nearest_histogram"]

HISTOGRAM: Final = "grad_histogram"
SCOPE: Final = "histogram"

_WIDER: Final = 4
"""The neighbourhood that is searched grows by this, so that what is read stays near to what is found."""


def nearest_histogram(
    conn: Connection,
    key: SeriesKey,
    segments: Sequence[Segment],
    tensor: int,
    step: int | None,
    segment: int | None = None,
) -> Histogram | None:
    """The histogram of run-wide ``tensor`` whose step is nearest to ``step``, the earlier of two; by default the newest. None
    if there is none. The segments are joined, or one is chosen."""
    columns = columns_of(SCOPE, np.array([tensor], np.int64)).tolist()
    newest = newest_step(conn, key, segments, segment)
    step = newest if step is None else min(step, newest)
    reach = CHUNK_STEPS
    while True:
        low, high = max(0, step - reach), step + reach + 1
        found = read_values(conn, key, segments, columns, low, high, high - low, segment)
        there = found.present[:, 0]
        if there.any():
            steps = found.steps[there]
            at = int(np.abs(steps - step).argmin())
            return Histogram(
                step=int(steps[at]), time=float(found.times[there][at]), counts=found.values[there][at]
            )
        if low == 0 and high > newest:
            return None
        reach *= _WIDER
