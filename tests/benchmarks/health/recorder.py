"""A plain training recorder: its own autograd loop and its own arithmetic, nothing of the SDK.

What it writes is what the SDK sends: per-tensor gradient norms before clipping at each step, the sampled statistics every
10 steps, loss, LR, clip coefficient, loss scale and skips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

SAMPLE_EVERY = 10
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)


def describe(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """Rows of the tensor table, in registration order (which is forward order in these models)."""
    owner = {
        id(p): (n, g)
        for n, o in enumerate(optimizers)
        for g, group in enumerate(o.param_groups)
        for p in group["params"]
    }
    rows = []
    for depth, (name, p) in enumerate(model.named_parameters()):
        module, _, leaf = name.rpartition(".")
        parent = model.get_submodule(module)
        kind = (
            "norm"
            if isinstance(parent, _NORMS)
            else "embedding"
            if isinstance(parent, nn.Embedding)
            else leaf
        )
        if kind not in ("norm", "embedding"):
            kind = "bias" if p.ndim == 1 and "bias" in leaf else "weight" if p.ndim >= 2 else "other"
        fan_in = int(p.numel() // p.shape[0]) if p.ndim >= 2 else None
        opt, group = owner.get(id(p), (-1, -1))
        rows.append(
            {
                "name": name,
                "shape": list(p.shape),
                "numel": p.numel(),
                "depth": depth,
                "module": module,
                "kind": kind,
                "fan_in": fan_in,
                "init_std": float(p.detach().std()) if p.numel() > 1 else 0.0,
                "optimizer": opt,
                "group": group,
                "trainable": p.requires_grad,
            }
        )
    return rows


class Recorder:
    """Records one run. Call :meth:`before` after backward and before clipping, :meth:`step` to clip and step."""

    def __init__(
        self, model: nn.Module, optimizers: list[torch.optim.Optimizer], clip: float | None = None
    ) -> None:
        self.model, self.optimizers, self.clip = model, optimizers, clip
        self.names = [n for n, _ in model.named_parameters()]
        self.params = [p for _, p in model.named_parameters()]
        self.tensors = describe(model, optimizers)
        self.norms: list[np.ndarray] = []
        self.run: dict[str, list[float]] = {
            k: []
            for k in ("loss", "lr", "clip_coef", "clip_limit", "skipped", "loss_scale", "input_nonfinite")
        }
        self.sampled: dict[str, dict[int, np.ndarray]] = {
            k: {}
            for k in (
                "update_ratio",
                "weight_norm",
                "grad_cosine",
                "zero_fraction",
                "adam_ratio",
                "weight_nonfinite",
                "saturated_fraction",
            )
        }
        self.val: list[tuple[int, float]] = []
        self._called: list[str] = []
        self._hooks = [
            module.register_forward_pre_hook(self._note(name))
            for name, module in model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        self._last: list[torch.Tensor | None] | None = None
        self._saturated: Callable[[], np.ndarray] | None = None

    def _note(self, name: str) -> Callable[[nn.Module, object], None]:
        return lambda module, given: self._called.append(name)

    def _order(self) -> None:
        """Depth is the order of the first forward pass; parameters of modules never called keep their place."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        rank = {name: n for n, name in reversed(list(enumerate(self._called)))}
        last, places = -1, []
        for tensor in self.tensors:
            # A module that is not called itself (attention's fused path) stays behind the one registered before it.
            last = rank.get(tensor["module"], last)
            places.append(last)
        by_call = sorted(range(len(self.tensors)), key=lambda i: (places[i], i))
        for depth, i in enumerate(by_call):
            self.tensors[i]["depth"] = depth

    @property
    def now(self) -> int:
        return len(self.norms)

    def step(
        self,
        loss: float,
        *,
        skip: bool = False,
        scale: float = math.nan,
        bad_input: bool = False,
        do: Callable[[], None] | None = None,
    ) -> None:
        """Measures, clips, steps. Gradients must be unscaled by now."""
        if self._hooks:
            self._order()
        grads = [p.grad for p in self.params]
        norms = np.full(len(grads), np.nan)
        there = [n for n, g in enumerate(grads) if g is not None]
        if there:
            found = torch.stack(torch._foreach_norm([grads[n] for n in there], 2)).numpy()
            norms[there] = found
        total = math.sqrt(float(np.nansum(norms**2))) if np.isfinite(norms[there]).all() else math.nan
        coef = math.nan
        if self.clip is not None:
            coef = min(self.clip / (total + 1e-6), 1.0)
            nn.utils.clip_grad_norm_(self.params, self.clip)
        finite = bool(np.isfinite(norms[there]).all())
        sample = self.now % SAMPLE_EVERY == 0
        before = self._sample(grads, finite) if sample else None
        if not finite:
            self.sampled["weight_nonfinite"][self.now] = np.array(
                [float((~torch.isfinite(p.detach())).sum()) for p in self.params]
            )
        if not skip:
            if do is not None:
                do()
            else:
                for optimizer in self.optimizers:
                    optimizer.step()
        if before is not None:
            self._update(before, sample)
        self._last = (
            [None if g is None else g.clone() for g in grads] if (self.now + 1) % SAMPLE_EVERY == 0 else None
        )
        self.norms.append(norms.astype(np.float32))
        row = {
            "loss": loss,
            "lr": max(g["lr"] for o in self.optimizers for g in o.param_groups),
            "clip_coef": coef,
            "clip_limit": self.clip if self.clip is not None else math.nan,
            "skipped": float(skip),
            "loss_scale": scale,
            "input_nonfinite": float(bad_input),
        }
        for key, value in row.items():
            self.run[key].append(value)

    def _sample(self, grads: list[torch.Tensor | None], finite: bool) -> list[torch.Tensor]:
        with torch.no_grad():
            zero = [math.nan if g is None else float((g == 0).float().mean()) for g in grads]
            self.sampled["zero_fraction"][self.now] = np.array(zero, np.float32)
            if self._last is not None and finite:
                pairs = [
                    math.nan
                    if g is None or o is None
                    else float(torch.dot(g.flatten(), o.flatten()) / (g.norm() * o.norm() + 1e-30))
                    for g, o in zip(grads, self._last, strict=True)
                ]
                self.sampled["grad_cosine"][self.now] = np.array(pairs, np.float32)
            if self._saturated is not None:
                self.sampled["saturated_fraction"][self.now] = self._saturated()
            self._adam(grads)
            return [p.detach().clone() for p in self.params]

    def _adam(self, grads: list[torch.Tensor | None]) -> None:
        state = {}
        for optimizer in self.optimizers:
            state.update(optimizer.state)
        ratios = []
        for p, g in zip(self.params, grads, strict=True):
            v = state.get(p, {}).get("exp_avg_sq")
            ratios.append(
                math.nan if v is None or g is None else float((g**2 / v.clamp_min(1e-16)).mean().sqrt())
            )
        if not all(math.isnan(r) for r in ratios):
            self.sampled["adam_ratio"][self.now] = np.array(ratios, np.float32)

    def _update(self, before: list[torch.Tensor], sample: bool) -> None:
        with torch.no_grad():
            old = [float(b.norm()) for b in before]
            moved = [float((p.detach() - b).norm()) for p, b in zip(self.params, before, strict=True)]
        ratio = [m / o if o > 0 else math.nan for m, o in zip(moved, old, strict=True)]
        self.sampled["update_ratio"][self.now] = np.array(ratio, np.float32)
        self.sampled["weight_norm"][self.now] = np.array(old, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays for one npz file."""
        out: dict[str, np.ndarray] = {"grad_norm": np.array(self.norms, np.float32)}
        for key, values in self.run.items():
            column = np.array(values, np.float64)
            if key == "loss" or not np.isnan(column).all():
                out[f"run/{key}"] = column
        for key, found in self.sampled.items():
            if found:
                out[f"at/{key}"] = np.array(sorted(found), np.int64)
                out[f"tensor/{key}"] = np.array([found[s] for s in sorted(found)], np.float32)
        if self.val:
            out["val"] = np.array(self.val, np.float64)
        return out
