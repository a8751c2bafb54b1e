"""Which steps of a run stand within an incident, so that what is usual is told from the others."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gradwatch.health import KINDS

from .store import Store
from .store.dismissal_queries import dismissed_in
from .store.health_queries import list_incidents

__all__ = ["LEAST_STEPS", "SPREADING", "troubled"]

SPREADING: Final = frozenset(kind.key for kind in KINDS.values() if kind.spreads)
"""Kinds of what takes hold of a whole model; others leave most of its numbers as they are."""

LEAST_STEPS: Final = 16
"""With fewer steps outside of such incidents nothing is known of what is usual."""


def troubled(
    store: Store, run_id: str, first: npt.NDArray[Any], after: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.bool_]:
    """Whether the stretches from ``first`` to before ``after`` (one step each when left out) touch an incident of
    :data:`SPREADING` that is graver than mere information and that nobody called no problem."""
    ends = first + 1 if after is None else after
    incidents, said = store.database.read(
        lambda conn: (list_incidents(conn, run_id), dismissed_in(conn, run_id))
    )
    found = np.zeros(len(first), np.bool_)
    for one in incidents:
        if one["kind"] in SPREADING and one["severity"] != "info" and one["id"] not in said:
            last = np.inf if one["closed_step"] is None else one["closed_step"]
            found |= (ends > one["first_step"]) & (first <= last)
    return found
