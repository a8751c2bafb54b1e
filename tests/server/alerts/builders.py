"""Runs, tensors and blocks for tests of the rule engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwatch_server.alerts.engine import Engine, Outcome
from gradwatch_server.models import Rule, Run, StoredBlock, TensorInfo


def a_run(id: str = "run1", project: str = "digits", name: str = "baseline", **fields: Any) -> Run:
    """A running run."""
    values: dict[str, Any] = {
        "state": "running",
        "created_at": 0.0,
        "last_time": 0.0,
        "last_seen": 0.0,
        **fields,
    }
    return Run(id=id, project=project, name=name, **values)


def tensors(*names: str) -> list[TensorInfo]:
    """Tensors of these names, in this order."""
    return [
        TensorInfo(
            index=index,
            name=name,
            shape=(4,),
            numel=4,
            dtype="float32",
            depth=index,
            module="",
            kind="weight",
        )
        for index, name in enumerate(names)
    ]


def block(
    statistic: str,
    values: Any,
    *,
    first: int = 0,
    scope: str = "tensor",
    rows: Sequence[int] | None = None,
    present: Any = None,
    dtype: Any = np.float32,
) -> StoredBlock:
    """Values ``[n, width]`` (or ``[n]`` for a run-level statistic) at steps from ``first`` on, a second apart."""
    table = np.asarray(values, dtype)
    if table.ndim == 1:
        table, scope = table[:, None], "run"
    steps = np.arange(first, first + len(table), dtype=np.float64)
    columns = np.arange(table.shape[1]) if rows is None else np.asarray(rows)
    there = None if present is None else np.asarray(present, np.bool_)
    return StoredBlock(
        statistic=statistic,
        scope=scope,
        steps=steps,
        times=1000.0 + steps,
        values=table,
        rows=columns.astype(np.int32),
        present=there,
    )


def a_rule(**fields: Any) -> Rule:
    """Above 10, cleared by the first fine value, unless said otherwise."""
    values: dict[str, Any] = {
        "id": "rule1",
        "name": "a rule",
        "statistic": "global_grad_norm",
        "threshold": 10.0,
    }
    return Rule(**{**values, "recover_steps": 1, **fields})


def fired(outcome: Outcome) -> list[tuple[str, int]]:
    """(series, step) of what fired."""
    return [(t.series, t.step) for t in outcome.transitions if t.new == "firing"]


def observe(engine: Engine, values: Any, *, first: int = 0, **fields: Any) -> Outcome:
    """One block of ``grad_norm`` of four layers, or of ``global_grad_norm`` when it has one dimension."""
    names = ("blocks.0.attn.weight", "blocks.0.mlp.weight", "blocks.1.attn.weight", "head.weight")
    statistic = "global_grad_norm" if np.ndim(values) == 1 else "grad_norm"
    return engine.observe(a_run(), tensors(*names), [block(statistic, values, first=first, **fields)])
