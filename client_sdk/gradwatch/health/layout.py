"""What is known of a model before its first step: masks and orders over its tensors, and its optimizers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..protocol import Tensor

__all__ = ["ADAPTIVE", "Layout"]

ADAPTIVE: Final = (
    "adam",
    "rmsprop",
    "adagrad",
    "lion",
    "adafactor",
    "lamb",
    "muon",
    "shampoo",
    "sophia",
    "prodigy",
)
"""Optimizers (part of the class name) whose step hardly depends on the scale of the gradient."""

_EXPERT: Final = re.compile(r"(^|[._])(experts?|moe)([._\d]|$)", re.IGNORECASE)
_RECURRENT: Final = re.compile(r"weight_hh|recurrent|\brnn\b|lstm|gru", re.IGNORECASE)


class Layout:
    """Static facts as arrays over the tensors, in the Monitor's order. Not part of the Monitor's state."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        optimizers: Sequence[Mapping[str, Any]] = (),
        profile: str = "default",
    ) -> None:
        self.profile = profile
        self.tensors = tuple(tensors)
        self.optimizers = tuple(dict(o) for o in optimizers)
        n = self.n = len(self.tensors)
        self.names = [t.name for t in self.tensors]
        self.depth = np.array([t.depth for t in self.tensors], dtype=np.float64)
        self.order = np.argsort(self.depth, kind="stable")
        self.root_numel = np.sqrt([max(t.numel, 1) for t in self.tensors])
        self.matrix = np.array([len(t.shape) >= 2 for t in self.tensors], dtype=np.bool_).reshape(n)
        self.vector = np.array([len(t.shape) == 1 for t in self.tensors], dtype=np.bool_).reshape(n)
        self.trainable = np.array([t.trainable for t in self.tensors], dtype=np.bool_).reshape(n)
        self.owned = np.array([t.optimizer >= 0 for t in self.tensors], dtype=np.bool_).reshape(n)
        self.sparse = np.array(
            [t.sparse or t.kind == "embedding" for t in self.tensors], dtype=np.bool_
        ).reshape(n)
        self.expert = np.array([bool(_EXPERT.search(t.name)) for t in self.tensors], dtype=np.bool_).reshape(
            n
        )
        self.recurrent = any(_RECURRENT.search(t.name) for t in self.tensors)
        self.normalised = any(t.kind == "norm" for t in self.tensors)
        self.any_owner = bool(self.owned.any())
        self.orphaned = (self.any_owner or bool(self.optimizers)) and bool(
            (self.trainable & ~self.owned).any()
        )
        self.probe = self._probe()
        self.pairs = self._pairs()

    def _probe(self) -> list[int]:
        """Tensors whose gradient norm over depth shows the backward gain: biases, else matrices; by depth.

        A bias gradient is the sum of the gradient at that layer's output: the cheapest Jacobian probe there is
        (science notes, 2.3).
        """
        order = [int(i) for i in self.order if self.trainable[i] and not self.sparse[i]]
        biases = [i for i in order if self.tensors[i].kind == "bias" and self.vector[i]]
        return biases if len(biases) >= 6 else [i for i in order if self.matrix[i]]

    def _pairs(self) -> list[tuple[int, int]]:
        """(matrix, bias) of the same module, by depth."""
        bias_of = {t.module: i for i, t in enumerate(self.tensors) if t.kind == "bias" and len(t.shape) == 1}
        found = []
        for i in self.order:
            t = self.tensors[int(i)]
            if self.matrix[i] and not self.sparse[i] and t.module in bias_of:
                found.append((int(i), bias_of[t.module]))
        return found

    @property
    def family(self) -> str:
        """ "adaptive", "sgd", or "" when nothing is known of the optimizers."""
        names = [str(o.get("class", o.get("name", o.get("type", "")))).lower() for o in self.optimizers]
        if not any(names):
            return ""
        return "adaptive" if any(word in name for word in ADAPTIVE for name in names) else "sgd"

    def hyper(self, key: str, default: float = math.nan) -> float:
        """A number among the hyperparameters of the first optimizer that has it; ``beta1``, ``beta2`` read ``betas``."""
        for optimizer in self.optimizers:
            for source in (optimizer, *_dicts(optimizer)):
                if key in ("beta1", "beta2") and isinstance(source.get("betas"), (list, tuple)):
                    return float(source["betas"][int(key == "beta2")])
                value = source.get(key)
                if isinstance(value, (int, float)):
                    return float(value)
        return default

    @property
    def adversarial(self) -> bool:
        """Whether losses need not fall: the profile says so, or several optimizers share the tensors (a game)."""
        return (
            self.profile == "adversarial" or len({t.optimizer for t in self.tensors if t.optimizer >= 0}) > 1
        )

    def gains(self) -> list[tuple[int, float]]:
        """(matrix, std x sqrt(fan-in)) where both are known: He gives 1.41, Xavier about 1, torch's Linear 0.58."""
        return [
            (i, t.init_std * math.sqrt(t.fan_in))
            for i, t in enumerate(self.tensors)
            if t.init_std is not None and t.fan_in and self.matrix[i] and t.trainable and not self.sparse[i]
        ]


def _dicts(optimizer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    nested: list[Mapping[str, Any]] = []
    for value in optimizer.values():
        if isinstance(value, Mapping):
            nested.append(value)
        elif isinstance(value, (list, tuple)):
            nested += [item for item in value if isinstance(item, Mapping)]
    return nested
