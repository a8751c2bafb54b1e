"""Trains a herd and records what the SDK would send for each replica: its own arithmetic, nothing of the SDK."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from gradwatch.protocol import Tensor

from .herds import Herd, length
from .recorder import SAMPLE_EVERY, describe
from .replay import Run


def record(herd: Herd, path: Path, *, seed: int, replicas: int, steps: int) -> Path:
    """The npz file of a herd, made if it is not there."""
    if not path.exists():
        torch.manual_seed(7919 * (seed + 1))
        found = _Training(herd, seed, replicas, length(herd, steps)).run()
        spare = path.with_suffix(".part.npz")
        np.savez_compressed(spare, **found)
        spare.rename(path)
    return path


def runs(path: Path) -> list[Run]:
    """Each replica as a run of its own."""
    with np.load(path) as stored:
        data = {k: stored[k] for k in stored.files if k != "meta"}
        meta = json.loads(stored["meta"].tobytes())
    found = []
    for k in range(data["grad_norm"].shape[1]):
        std = data["init_std"][k].tolist()
        tensors = [
            Tensor(**{**row, "shape": tuple(row["shape"]), "init_std": s})
            for row, s in zip(meta["tensors"], std, strict=True)
        ]
        mine = {
            key: values if key.startswith("at/") or key == "run/lr" else values[:, k]
            for key, values in data.items()
            if key != "init_std"
        }
        found.append(Run(tensors, meta["optimizers"], mine, tuple(meta["phases"])))
    return found


class _Training:
    def __init__(self, herd: Herd, seed: int, replicas: int, steps: int) -> None:
        self.herd, self.k, self.steps = herd, replicas, steps
        self.gen = torch.Generator().manual_seed(seed)
        models = [herd.model() for _ in range(replicas)]
        self.model = models[0]
        self.names = [n for n, p in self.model.named_parameters()]
        trainable = {n for n, p in self.model.named_parameters() if p.requires_grad}
        stacked, self.buffers = stack_module_state(models)
        self.params = {n: p.detach().clone() for n, p in stacked.items()}
        self.free = [n for n in self.names if n in trainable]
        groups = herd.groups or ("",)
        self.optimizers = [
            herd.optimizer([self.params[n] for n in self.free if n.startswith(g)]) for g in groups
        ]
        self.base = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.target = {n: p.clone() for n, p in self.params.items()}
        self.step_of = vmap(grad_and_value(self._loss), in_dims=(0, 0, 0, 0, 0), randomness="different")
        self.last: dict[str, torch.Tensor] = {}
        self.sampled: dict[str, list[np.ndarray]] = {
            k: [] for k in ("update_ratio", "weight_norm", "grad_cosine", "zero_fraction")
        }
        self.at: dict[str, list[int]] = {k: [] for k in self.sampled}

    def _loss(
        self, free: Any, fixed: Any, buffers: Any, target: Any, item: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        def net(params: Any, x: torch.Tensor) -> torch.Tensor:
            return functional_call(self.model, ({**params, **fixed}, buffers), (x,))

        return self.herd.objective(net, {**fixed, **free}, target, *item)

    def run(self) -> dict[str, np.ndarray]:
        norms = np.full((self.steps, self.k, len(self.names)), np.nan, np.float32)
        loss, rates = np.empty((self.steps, self.k)), np.empty(self.steps)
        coefs = np.full((self.steps, self.k), np.nan, np.float32)
        rows = _Named(self.model, self.free, self.herd.groups or ("",), self.herd.thaw[0]).rows()
        std = np.stack([_std(self.params[n]) for n in self.names], 1)
        for step in range(self.steps):
            factor = self.herd.lr_at(step, self.steps)
            for optimizer, base in zip(self.optimizers, self.base, strict=True):
                optimizer.param_groups[0]["lr"] = base * factor
            rates[step] = max(self.base) * factor
            grads, value = self._gradients(step)
            names = list(grads)
            found = torch.stack([grads[n].flatten(1).norm(dim=1) for n in names], 1)
            norms[step][:, [self.names.index(n) for n in names]] = found.numpy()
            loss[step] = value.numpy()
            if self.herd.clip is not None:
                coefs[step] = self._clip(grads, found)
            self._step(step, grads)
        out = {
            "meta": _meta(rows, self.optimizers, self.herd, self.steps),
            "grad_norm": norms,
            "run/loss": loss,
            "run/lr": rates,
            "init_std": std,
        }
        if self.herd.clip is not None:
            out["run/clip_coef"] = coefs
            out["run/clip_limit"] = np.full((self.steps, self.k), self.herd.clip)
        for key, values in self.sampled.items():
            if values:
                out[f"tensor/{key}"] = np.array(values, np.float32)
                out[f"at/{key}"] = np.array(self.at[key], np.int64)
        return out

    def _gradients(self, step: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        herd = self.herd
        frozen = herd.thaw[0] and step < herd.thaw[1] * self.steps
        names = [n for n in self.free if not (frozen and n.startswith(herd.thaw[0]))]
        if herd.target_every and step % herd.target_every == 0:
            self.target = {n: p.clone() for n, p in self.params.items()}
        free = {n: self.params[n] for n in names}
        fixed = {n: p for n, p in self.params.items() if n not in free}
        item = herd.data(self.gen, step, self.k)
        grads, value = self.step_of(free, fixed, self.buffers, self.target, item)
        return grads, value

    def _clip(self, grads: dict[str, torch.Tensor], norms: torch.Tensor) -> np.ndarray:
        coef = (self.herd.clip / (norms.norm(dim=1) + 1e-6)).clamp(max=1.0)
        for g in grads.values():
            g.mul_(coef.view(-1, *([1] * (g.ndim - 1))))
        return coef.numpy()

    def _step(self, step: int, grads: dict[str, torch.Tensor]) -> None:
        for n in self.free:
            self.params[n].grad = grads.get(n)
        sample = step % SAMPLE_EVERY == 0
        before = {n: p.clone() for n, p in self.params.items()} if sample else {}
        for optimizer in self.optimizers:
            optimizer.step()
        if (step + 1) % SAMPLE_EVERY == 0:
            self.last = {n: g.clone() for n, g in grads.items()}
        if sample:
            self._sample(step, grads, before)

    def _sample(self, step: int, grads: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> None:
        width = [self._row(before[n].flatten(1).norm(dim=1)) for n in self.names]
        moved = [self._row((self.params[n] - before[n]).flatten(1).norm(dim=1)) for n in self.names]
        norm = np.stack(width, 1)
        with np.errstate(all="ignore"):
            self._keep("update_ratio", step, np.where(norm > 0, np.stack(moved, 1) / norm, np.nan))
        self._keep("weight_norm", step, norm)
        self._keep(
            "zero_fraction",
            step,
            self._of(grads, lambda n, g: (g == 0).float().flatten(1).mean(1)),
        )
        if self.last:
            self._keep("grad_cosine", step, self._of(grads, self._cosine))

    def _cosine(self, name: str, g: torch.Tensor) -> torch.Tensor:
        old = self.last.get(name)
        if old is None:
            return torch.full((self.k,), math.nan)
        return nn.functional.cosine_similarity(g.flatten(1), old.flatten(1), dim=1, eps=1e-30)

    def _of(
        self, grads: dict[str, torch.Tensor], make: Callable[[str, torch.Tensor], torch.Tensor]
    ) -> np.ndarray:
        gone = np.full(self.k, np.nan, np.float32)
        return np.stack([self._row(make(n, grads[n])) if n in grads else gone for n in self.names], 1)

    def _keep(self, key: str, step: int, row: np.ndarray) -> None:
        self.sampled[key].append(row)
        self.at[key].append(step)

    @staticmethod
    def _row(values: torch.Tensor) -> np.ndarray:
        return values.detach().numpy().astype(np.float32)


class _Named:
    """The tensor table of a stacked model: who owns what is told by name, for the stacked leaves are other objects."""

    def __init__(self, model: nn.Module, free: list[str], groups: tuple[str, ...], thawed: str) -> None:
        self.model, self.free, self.groups, self.thawed = model, set(free), groups, thawed

    def rows(self) -> list[dict[str, Any]]:
        found = describe(self.model, [])
        for row in found:
            owner = [g for g, prefix in enumerate(self.groups) if row["name"].startswith(prefix)]
            row["optimizer"], row["group"] = (owner[0], 0) if row["name"] in self.free else (-1, -1)
            row["trainable"] = row["trainable"] and not (self.thawed and row["name"].startswith(self.thawed))
        return found


def _std(stacked: torch.Tensor) -> np.ndarray:
    flat = stacked.flatten(1)
    return (flat.std(dim=1) if flat.shape[1] > 1 else torch.zeros(len(flat))).numpy()


def _meta(
    rows: list[dict[str, Any]], optimizers: list[torch.optim.Optimizer], herd: Herd, steps: int
) -> np.ndarray:
    about = [
        {
            "class": type(o).__name__,
            **{
                k: v
                for k, v in o.param_groups[0].items()
                if isinstance(v, (int, float, tuple)) and k != "params"
            },
        }
        for o in optimizers
    ]
    phases = [int(share * steps) for share in herd.phases]
    plain = json.dumps({"tensors": rows, "optimizers": about, "phases": phases})
    return np.frombuffer(plain.encode(), np.uint8)
