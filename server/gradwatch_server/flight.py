"""What flight recorders have told: the batches before incidents. They come as marks, but are no marks to anybody else."""

from __future__ import annotations

from typing import Any, Final

from .store import Store

__all__ = ["FLIGHT_MARK", "batches_of"]

FLIGHT_MARK: Final = "flight"
"""Kind of the marks that hold batches. They are private: no list of marks and no event shows them."""


def batches_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    """``{incident, step, ids, count}`` by step, without what is not of that form (it came over the network)."""
    found = []
    for mark in store.marks(run_id):
        batches = mark.data.get("batches") if mark.kind == FLIGHT_MARK else None
        for one in batches if isinstance(batches, list) else ():
            if isinstance(one, dict) and isinstance(one.get("ids"), list) and type(one.get("step")) is int:
                ids, count = one["ids"], one.get("count")
                told = {"incident": str(mark.data.get("incident", "")), "step": one["step"], "ids": ids}
                found.append({**told, "count": count if type(count) is int else len(ids)})
    return sorted(found, key=lambda one: int(one["step"]))
