"""Which optimizers make the steps of a run, and which parameters are whose."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import LBFGS, Optimizer

from ..errors import ConfigError
from .catalog import Catalog
from .scalars import Later, Now, defer

__all__ = ["Optimizers", "takes_closure"]

Mask: TypeAlias = npt.NDArray[np.bool_]


class Optimizers:
    """The known optimizers, numbered in the order given or found. Holds weak references.

    Args:
        catalog: the watched parameters.
        given: which optimizers count; None: every one that holds a watched parameter and steps.

    Raises:
        ConfigError: something given is not an optimizer.
    """

    def __init__(self, catalog: Catalog, given: Sequence[Optimizer] | None) -> None:
        self._catalog = catalog
        self._explicit = given is not None
        self._known: list[weakref.ref[Optimizer]] = []
        self._numbers: dict[int, tuple[weakref.ref[Optimizer], int]] = {}
        """By ``id``; what is at that place now may be another."""
        self._nested: set[int] = set()
        self._foreign: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        self._shapes: dict[int, list[int]] = {}
        self._rates: dict[int, list[Later | Now]] = {}
        self._masks: dict[int, Mask] = {}
        self._free: Mask = np.ones(len(catalog), bool)
        self._owner: npt.NDArray[np.intp] = np.full(len(catalog), -1)
        self.owners: dict[int, tuple[int, int]] = {}
        for optimizer in given or ():
            inner = _inner(optimizer)
            if not isinstance(inner, Optimizer):
                raise ConfigError(f"optimizer= takes torch optimizers, not {type(optimizer).__name__}")
            if self.number(inner) is None:
                self._add(inner)

    def __len__(self) -> int:
        return len(self._known)

    def alive(self) -> list[int]:
        """The numbers of optimizers that still exist."""
        return [number for number, ref in enumerate(self._known) if ref() is not None]

    def number(self, optimizer: Optimizer) -> int | None:
        """Its number, or None if its steps are none of ours."""
        found = self._numbers.get(id(optimizer))
        return found[1] if found is not None and found[0]() is optimizer else None

    def nested(self, number: int) -> bool:
        """Whether it is an optimizer around another one (SAM, Lookahead, ZeroRedundancyOptimizer): both have its number."""
        return number in self._nested

    def find(self, optimizer: Optimizer) -> bool:
        """Takes in an optimizer that steps and is not known; False if it is none of ours."""
        size = sum(len(group["params"]) for group in optimizer.param_groups)
        if (self._explicit and self.alive()) or self._foreign.get(optimizer) == size:
            return False
        if not self._holds_watched(optimizer):
            self._catalog.scan()
            if not self._holds_watched(optimizer):
                self._foreign[optimizer] = size
                return False
        self._add(optimizer)
        return True

    def changed(self, number: int, optimizer: Optimizer) -> bool:
        """Whether its parameter groups have another shape than when :meth:`assign` last looked."""
        return self._shapes.get(number) != _shape(self._known[number]() or optimizer)

    def assign(self) -> None:
        """Finds out again which parameters are in which optimizer and group. The first optimizer that has one owns it."""
        self.owners.clear()
        for number, optimizer in self._each():
            self._shapes[number] = _shape(optimizer)
            self._rates.setdefault(number, [Now(float("nan"))] * len(optimizer.param_groups))
            for group_index, group in enumerate(optimizer.param_groups):
                for parameter in group["params"]:
                    column = self._catalog.column(parameter)
                    if column is not None:
                        self.owners.setdefault(column, (number, group_index))
        owner = np.full(len(self._catalog), -1)
        for column, (number, _) in self.owners.items():
            owner[column] = number
        self._free = owner == -1
        self._owner = owner
        self._masks.clear()

    def owner(self, column: int) -> int:
        """The number of the optimizer that has a column, or -1."""
        return self.owners.get(column, (-1, -1))[0]

    def cover(self) -> bool:
        """Whether every model that trains has an optimizer; if not, one may be yet to come."""
        trained = {self._catalog.model_of(column) for column in self.owners}
        return self._catalog.trainable_models() <= trained

    def columns(self, number: int) -> tuple[Mask, Mask]:
        """Columns that an optimizer owns or nobody does, and of those the ones that nobody owns; bool ``[columns]``."""
        mask = self._masks.get(number)
        if mask is None:
            mask = self._masks[number] = self._free | (self._owner == number)
        return mask, self._free

    def covered(self, optimizer: Optimizer) -> bool:
        """Whether all its parameters are watched."""
        return self._catalog.holds(_parameters(optimizer))

    def read_rates(self, number: int, optimizer: Optimizer) -> None:
        """Takes the learning rates of its groups as they are now."""
        self._rates[number] = [
            defer(group.get("lr")) or Now(float("nan")) for group in optimizer.param_groups
        ]

    def rates(self) -> list[Later | Now]:
        """Learning rates of all groups of all optimizers, as last read."""
        return [rate for number in range(len(self._known)) for rate in self._rates.get(number, ())]

    def groups(self) -> int:
        """How many :meth:`rates` there are."""
        return sum(len(self._rates.get(number, ())) for number in range(len(self._known)))

    def describe(self) -> tuple[dict[str, Any], ...]:
        """Class and hyperparameters of each, as plain JSON."""
        return tuple(
            {
                "class": type(optimizer).__name__,
                "groups": [_plain_group(group) for group in optimizer.param_groups],
            }
            for _, optimizer in self._each()
        )

    def _each(self) -> Iterator[tuple[int, Optimizer]]:
        for number, ref in enumerate(self._known):
            optimizer = ref()
            if optimizer is not None:
                yield number, optimizer

    def _add(self, optimizer: Optimizer) -> None:
        self._foreign.pop(optimizer, None)
        inside = [inner for inner in _inside(optimizer) if _parameters(inner) <= _parameters(optimizer)]
        known = (self.number(inner) for inner in inside if _parameters(inner) == _parameters(optimizer))
        number = next((number for number in known if number is not None), len(self._known))
        if number == len(self._known):
            self._known.append(weakref.ref(optimizer))
        for each in (optimizer, *inside):
            self._numbers[id(each)] = weakref.ref(each), number
        if inside:
            self._nested.add(number)
        self.assign()

    def _holds_watched(self, optimizer: Optimizer) -> bool:
        return any(
            self._catalog.column(parameter) is not None
            for group in optimizer.param_groups
            for parameter in group["params"]
        )


def takes_closure(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this step computes its gradients itself, by a closure. ``args`` as a step hook gets them."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    return callable(closure) or isinstance(optimizer, LBFGS)


def _shape(optimizer: Optimizer) -> list[int]:
    return [len(group["params"]) for group in optimizer.param_groups]


def _inner(optimizer: Any) -> Any:
    """The torch optimizer inside a wrapper such as Accelerate's or Lightning's, whose own steps call no hook."""
    if getattr(getattr(type(optimizer), "step", None), "hooked", False):
        return optimizer
    return next(map(_inner, _inside(optimizer)), optimizer)


def _inside(optimizer: Any) -> list[Optimizer]:
    """The optimizers that it holds as its attributes."""
    return [value for value in getattr(optimizer, "__dict__", {}).values() if isinstance(value, Optimizer)]


def _parameters(optimizer: Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _plain_group(group: dict[str, Any]) -> dict[str, Any]:
    plain = {name: _plain(value) for name, value in group.items() if name not in ("params", "param_names")}
    return {**plain, "params": len(group["params"])}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value)
    return str(value)
