"""Does the first remedy help? The run is trained again with it, and must learn."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from gradwatch.health import Incident, Remedy

from .cases import Case, Fault, train, without_fault
from .workloads import Mlp, Workload, adam, workloads

if TYPE_CHECKING:
    from .bench import Result


def _from(step: int, fault: Fault, lr: float, base: float) -> Fault:
    """From ``step`` on the LR is ``lr`` whatever the script does."""
    old = fault.lr or (lambda s: 1.0)
    return dataclasses.replace(fault, lr=lambda s: lr / base if s > step else old(s))


def _he(fault: Fault) -> Fault:
    def build(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    return dataclasses.replace(fault, build=build)


def apply(case: Case, incident: Incident, remedy: Remedy) -> Case | None:
    """The case with the remedy in the script; None where a script can't be changed by rule.

    A remedy for a run that has already broken down (a cut LR, a clip limit) is applied as people do: they start again
    with it, so the fault's own onset stays and the remedy is there from its first step.
    """
    work = workloads(case.seed)[case.workload] if isinstance(case.workload, str) else case.workload
    fault, value = case.fault, remedy.value
    if case.make is not None:
        return None
    changes: dict[str, Callable[[], tuple[Workload, Fault]]] = {
        "lr_cut": lambda: (work, _from(fault.onset - 1, fault, value or 0.0, _base_lr(work))),
        "lr_up": lambda: (work, _from(-1, fault, value or 0.0, _base_lr(work))),
        "clip_norm": lambda: (work, dataclasses.replace(fault, clip=value)),
        "clip_raise": lambda: (work, dataclasses.replace(fault, clip=value)),
        "init_he": lambda: (work, _he(fault)),
        "zero_grad": lambda: (work, dataclasses.replace(fault, zero_grad=True)),
        "optimizer_groups": lambda: (work, dataclasses.replace(fault, params=None)),
        "relu": lambda: (_with_relu(work), fault),
    }
    if remedy.key not in changes:
        return None
    new_work, new_fault = changes[remedy.key]()
    name = re.sub(r"\W+", "_", f"again {case.name} {remedy.key}")
    return dataclasses.replace(case, name=name, workload=new_work, fault=new_fault)


def _base_lr(work: Workload) -> float:
    optimizer = work.optimizer(work.model())
    return float(optimizer.param_groups[0]["lr"])


def _with_relu(work: Workload) -> Workload:
    model = work.model()
    if not isinstance(model, Mlp):
        return work
    sizes = [model.layers[0].in_features, *(layer.out_features for layer in model.layers)]
    return dataclasses.replace(work, model=lambda: Mlp(sizes, nn.ReLU, "he"), optimizer=adam(1e-3))


def learns(loss: np.ndarray, start: float, well: np.ndarray | None) -> bool:
    """Whether the last fifty losses are finite and well below the start, or as low as those of the run without the fault."""
    tail = loss[-50:]
    if not np.isfinite(tail).all():
        return False
    reached = float(np.median(tail))
    return reached < 0.7 * start or (well is not None and reached < 1.1 * float(np.median(well[-50:])))


def _start(case: Case, loss: np.ndarray) -> float:
    """The loss of an untrained model: that of the first steps, where a fault from the start does not inflate it."""
    first = float(np.median(loss[:5]))
    if case.onset:
        return first
    return min(first, 2.5) if math.isfinite(loss[0]) else 2.3


def report(results: list[Result], folder: Path) -> None:
    """Prints the share of runs that learn with our first applicable remedy."""
    good, tried, skipped = 0, 0, 0
    for r in results:
        if r.case.healthy or not r.harmful or r.right is None or not r.right.remedies:
            continue
        again = apply(r.case, r.right, r.right.remedies[0])
        if again is None:
            skipped += 1
            continue
        loss = np.array(train(again).run["loss"])
        tried += 1
        ok = learns(loss, _start(r.case, r.run.loss), None if r.case.onset else without_fault(r.case, folder))
        good += ok
        if not ok:
            print(
                f"  did not help: {r.case.name} {r.right.remedies[0].key} {r.right.remedies[0].value}: loss {np.median(loss[-50:]):.3g}"
            )
    print(
        f"\nRemedies: {good}/{tried} learn with our first remedy (bound 80 %); {skipped} are changes of code that no rule can make"
    )
