"""A training with its truth: what goes wrong and when, how it is trained and recorded, and whether it does harm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .recorder import Recorder
from .workloads import Workload, workloads

BLOW = ("exploding", "diverging")
"""What a run that blows up may be told as."""


@dataclass(kw_only=True)
class Fault:
    """What goes wrong. Each hook is optional; ``onset`` is the step from which it holds."""

    onset: int = 0
    build: Callable[[nn.Module], nn.Module | None] | None = None
    lr: Callable[[int], float] | None = None
    inputs: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    loss: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    weights: Callable[[int, nn.Module], None] | None = None
    grads: Callable[[int, nn.Module], None] | None = None
    zero_grad: bool = True
    clip: float | None = None
    params: Callable[[nn.Module], list[nn.Parameter]] | None = None
    saturation: bool = False


@dataclass(kw_only=True)
class Case:
    """One training with its truth. ``kinds`` empty: healthy. ``layer`` is the tensor or module prefix of the origin."""

    name: str
    workload: str | Workload
    steps: int
    seed: int = 0
    fault: Fault = field(default_factory=Fault)
    kinds: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    layer: str = ""
    where: str = ""
    tune: bool = True
    make: Callable[[Case], Recorder] | None = None
    tags: tuple[str, ...] = ()
    twin: str = ""
    """Name of the same workload without the fault, to measure harm against; "" for a workload without a name."""

    @property
    def onset(self) -> int:
        return self.fault.onset

    @property
    def healthy(self) -> bool:
        return not self.kinds


def train(case: Case) -> Recorder:
    """Runs a case on one thread, with every random number from its seed."""
    if case.make is not None:
        return case.make(case)
    work = workloads(case.seed)[case.workload] if isinstance(case.workload, str) else case.workload
    fault = case.fault
    torch.manual_seed(1000 + case.seed)
    gen = torch.Generator().manual_seed(case.seed)
    model = work.model()
    if fault.build is not None:
        model = fault.build(model) or model
    if fault.params is not None:
        kept = fault.params(model)
        optimizer = work.optimizer(_Only(kept))
    else:
        optimizer = work.optimizer(model)
    base = [g["lr"] for g in optimizer.param_groups]
    clip = fault.clip if fault.clip is not None else work.clip
    rec = Recorder(model, [optimizer], clip)
    if fault.saturation:
        _watch_saturation(rec, model)
    for step in range(case.steps):
        factor = work.lr_at(step, case.steps) * (fault.lr(step) if fault.lr is not None else 1.0)
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor
        x, y = work.batch(gen, step)
        if fault.inputs is not None:
            x = fault.inputs(step, x)
        if fault.weights is not None:
            fault.weights(step, model)
        if fault.zero_grad:
            optimizer.zero_grad(set_to_none=True)
        loss = work.loss(model(x), y)
        if fault.loss is not None:
            loss = fault.loss(step, loss)
        loss.backward()
        if fault.grads is not None:
            fault.grads(step, model)
        rec.step(float(loss.detach()), bad_input=x.is_floating_point() and not bool(torch.isfinite(x).all()))
        if _broken(rec):
            break
    return rec


class _Only(nn.Module):
    """Just some parameters, for an optimizer that forgets the others."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__()
        self.kept = nn.ParameterList(params)


def _broken(rec: Recorder) -> bool:
    """Whether the last 30 losses were not finite: nothing new will come."""
    return len(rec.run["loss"]) > 30 and not any(math.isfinite(v) for v in rec.run["loss"][-30:])


def _watch_saturation(rec: Recorder, model: nn.Module) -> None:
    share: dict[str, float] = {}
    names = {}
    for n, name in enumerate(rec.names):
        names.setdefault(name.rpartition(".")[0], n)

    def hook(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def store(module: nn.Module, given: object, out: torch.Tensor) -> None:
            share[name] = float((torch.tanh(out.detach()).abs() > 0.98).float().mean())

        return store

    for name, module in model.named_modules():
        if (
            isinstance(module, nn.Linear)
            and "layers" in name
            and not name.endswith(str(len(model.layers) - 1))
        ):
            module.register_forward_hook(hook(name))

    def read() -> np.ndarray:
        row = np.full(len(rec.names), np.nan, np.float32)
        for name, value in share.items():
            row[names[name]] = value
        return row

    rec._saturated = read


def harm_begins(case: Case, loss: np.ndarray) -> int:
    """The step from which delays count: the onset, or, for a ramp, the first step at which it does harm."""
    if "ramp" not in case.tags:
        return case.onset
    before = float(np.median(loss[max(case.onset - 50, 0) : case.onset]))
    limit = max(1.5 * before, before + 0.05 * float(np.median(loss[:20])))
    for step in range(case.onset, len(loss) - 10):
        if not float(np.median(loss[step : step + 10])) < limit:
            return step
    return case.onset


def record(case: Case, folder: Path) -> Path:
    """The npz file of a case, made if it is not there."""
    path = folder / (case.name.replace("/", "__") + f"__{case.steps}.npz")
    if not path.exists():
        rec = train(case)
        extra = {"tensors": rec.tensors, "optimizers": [_hyper(o) for o in rec.optimizers]}
        spare = path.with_suffix(".part.npz")
        np.savez_compressed(spare, meta=np.frombuffer(json.dumps(extra).encode(), np.uint8), **rec.arrays())
        spare.rename(path)
    return path


def _hyper(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    group = {
        k: v
        for k, v in optimizer.param_groups[0].items()
        if k != "params" and isinstance(v, (int, float, tuple))
    }
    return {"class": type(optimizer).__name__, **group}


def without_fault(case: Case, folder: Path) -> np.ndarray | None:
    """The loss of the same training without the fault, None for one whose workload has no name."""
    name = case.workload if isinstance(case.workload, str) else case.twin
    if not name:
        return None
    twin = Case(name=f"twin/{name}-{case.seed}", workload=case.workload, steps=case.steps, seed=case.seed)
    with np.load(record(twin, folder)) as stored:
        return np.array(stored["run/loss"])


def harmful(case: Case, loss: np.ndarray, folder: Path) -> bool:
    """Whether the fault is really there (science notes, 1.5): the loss is clearly worse for it, or not finite.

    Faults that begin later are measured against the run's own past, those from the start against the healthy run.
    Disconnected and dead parts, and storms of skips, are faults whatever the loss says, and so is what is tagged "counts".
    """
    if case.healthy:
        return False
    if case.kinds[0] in ("disconnected", "loss_scale", "saturated") or case.kinds == ("dead",):
        return True
    if "counts" in case.tags:
        return True
    if not np.isfinite(loss[case.onset :]).all():
        return True
    scale = float(np.median(loss[:20]))
    if case.onset == 0:
        well = None if case.kinds[0] == "vanishing" else without_fault(case, folder)
        if well is None:
            return float(np.median(loss[-50:])) > 0.6 * scale
        return float(np.median(loss[-50:])) > float(np.median(well[-50:])) + 0.1 * float(np.median(well[:20]))
    before = float(np.median(loss[max(case.onset - 50, 0) : case.onset]))
    worst = max(
        float(np.median(loss[a : a + 100]))
        for a in range(case.onset + 5, max(len(loss) - 99, case.onset + 6), 20)
    )
    return worst > max(2 * before, before + 0.05 * scale)
