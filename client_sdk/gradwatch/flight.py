"""The flight recorder: which samples the last steps saw, kept here and told only when an incident opens."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from .masks import plain
from .protocol.messages import Incident

__all__ = ["AFTER", "BEFORE", "Flight"]

BEFORE: Final = 50
AFTER: Final = 50
"""Steps that are told of, up to the one where an incident opens; and steps that are measured in full after it."""

_KEPT: Final = 512
"""Batches kept: an incident is heard of some steps after it opened, the more the faster the steps are."""

_MOST_IDS: Final = 4_096
"""Ids of one step that are told, of all ranks together as far as each may tell :data:`_LEAST_IDS`."""

_LEAST_IDS: Final = 64
_MARK_BYTES: Final = 256 * 1024


class Flight:
    """A ring of batches. :meth:`note` is called in the training thread and costs one append; the rest in the sender's."""

    def __init__(self, rank: int = 0, ranks: int = 1) -> None:
        self._rank = rank
        self._most = max(_MOST_IDS // max(ranks, 1), _LEAST_IDS)
        self._ring: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
        self._told: set[str] = set()

    def note(self, step: int, ids: Any) -> None:
        """``step`` sees the samples ``ids``. Kept as they are: what is changed in place later is told as it is then."""
        self._ring.append((step, ids))

    def opened(self, incident: Incident) -> bool:
        """Whether this is the first that is heard of an incident that is more than a remark."""
        first = incident.open and incident.severity != "info" and incident.id not in self._told
        if first:
            self._told.add(incident.id)
        return first

    def marks(self, incident: Incident) -> Iterator[dict[str, Any]]:
        """What to tell of the batches before ``incident`` opened: ``{incident, rank, batches: [{step, ids, count}]}``, one or
        several of at most about 256 KiB. ``ids`` are the first 4,096 of ``count``, divided by the number of ranks; those of one
        step's micro-batches are joined."""
        steps: dict[int, list[Any]] = {}
        for step, ids in list(self._ring):
            steps.setdefault(step, []).append(ids)
        opened = int(incident.data.get("opened_step", incident.step))
        chosen = [step for step in steps if step <= opened][-BEFORE:] or list(steps)[-BEFORE:]
        if incident.step in steps and incident.step not in chosen:
            chosen.insert(0, incident.step)
        batches: list[dict[str, Any]] = []
        size = 0
        for step in chosen:
            ids = [one for batch in steps[step] for one in _flat(batch)]
            told = {"step": step, "ids": [_short(one) for one in ids[: self._most]], "count": len(ids)}
            length = len(json.dumps(told))
            if batches and size + length > _MARK_BYTES:
                yield {"incident": incident.id, "rank": self._rank, "batches": batches}
                batches, size = [], 0
            batches.append(told)
            size += length
        if batches:
            yield {"incident": incident.id, "rank": self._rank, "batches": batches}


def _flat(ids: Any) -> list[Any]:
    """The ids of one batch: a list, tensor or array of them, or a single one."""
    tolist = getattr(ids, "tolist", None)
    value = tolist() if callable(tolist) else ids
    return list(value) if isinstance(value, (list, tuple, set, frozenset, range)) else [value]


def _short(one: Any) -> Any:
    """An id as JSON."""
    value = plain(one)
    return value[:200] if isinstance(value, str) else value
