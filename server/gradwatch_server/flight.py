"""What flight recorders have told: the batches before incidents. They come as marks, but are no marks to anybody else."""

from __future__ import annotations

from typing import Any

from gradwatch.protocol.messages import FLIGHT_MARK

from .store import Store

__all__ = ["batches_of"]


def batches_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    """``{incident, step, rank, ids, count}`` by step and rank, without what is not of that form (it came over the network)."""
    found = []
    for mark in store.marks(run_id):
        rank = mark.data.get("rank")
        batches = mark.data.get("batches") if mark.kind == FLIGHT_MARK else None
        for one in batches if isinstance(batches, list) else ():
            if isinstance(one, dict) and isinstance(one.get("ids"), list) and type(one.get("step")) is int:
                ids, count = one["ids"], one.get("count")
                told = {"incident": str(mark.data.get("incident", "")), "step": one["step"], "ids": ids}
                told["rank"] = rank if type(rank) is int and rank > 0 else 0
                found.append({**told, "count": count if type(count) is int else len(ids)})
    return sorted(found, key=lambda one: (int(one["step"]), int(one["rank"])))
