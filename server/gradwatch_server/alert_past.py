"""What is stored of a run, for taking its alerts up again and for trying rules on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .models import GroupInfo, RuleState, Run, StoredBlock, TensorInfo
from .store import Store
from .store import alert_queries as sql

__all__ = ["Past", "read_past", "read_rows"]

REPLAY_STEPS: Final = 1_024
"""Rows judged again after a restart, besides those that verdicts depend on: more than one commit can hold back."""

MOST_REPLAYED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Past:
    """What a run that comes back needs: its series, the stored states, and the rows to judge again."""

    run: Run
    tensors: Sequence[TensorInfo]
    groups: Sequence[GroupInfo]
    states: list[RuleState]
    blocks: list[StoredBlock]


def read_past(
    store: Store,
    wanted: Callable[[Run], Mapping[tuple[str, str], int]],
    run_id: str,
    *,
    before: int | None = None,
) -> Past | None:
    """The past of a run, None when there is none. Blocks.

    ``wanted`` names the (statistic, scope) that rules are about and how many rows their verdicts depend on. Rows from step
    ``before`` on are left out: they are at hand.
    """
    run = store.run(run_id)
    if run is None or run.last_step < 0:
        return None
    end = run.last_step + 1 if before is None else before
    known = {(info.name, info.scope): info for info in store.statistics(run_id)}
    blocks = []
    for (statistic, scope), rows in wanted(run).items():
        info = known.get((statistic, scope))
        if info is not None:
            reach = min(rows * max(1, info.cadence) + REPLAY_STEPS, MOST_REPLAYED)
            blocks.append(read_rows(store, run_id, statistic, scope, max(0, end - reach), end))
    states = store.database.read(lambda conn: sql.list_states(conn, run_id))
    return Past(run, store.tensors(run_id), store.groups(run_id), states, blocks)


def read_rows(
    store: Store,
    run_id: str,
    statistic: str,
    scope: str,
    start: int,
    end: int,
    columns: Sequence[int] | None = None,
) -> StoredBlock:
    """Exact values of steps ``start <= step < end`` as a block whose rows are 0, 1, 2, ... of ``columns`` (None: all series
    of the run). Blocks.

    Raises:
        NotFound: the run has no such statistic.
    """
    values = store.values(run_id, statistic, scope, columns, from_step=start, to_step=end, limit=end - start)
    return StoredBlock(
        statistic=statistic,
        scope=scope,
        steps=values.steps,
        times=values.times,
        values=values.values,
        rows=np.arange(values.values.shape[1], dtype=np.int32),
        present=values.present,
    )
