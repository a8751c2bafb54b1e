"""Noticing that a backward has run, and in which order gradients were first written."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import Optimizer

from .catalog import Catalog
from .steps import Steps

__all__ = ["BackwardWatch"]


class BackwardWatch:
    """Hooks on as few parameters as will do: on all until the optimizers are known, then on one of each.

    The hooks hold neither model nor parameter. FSDP2's parameters (DTensors) get none, since FSDP2 calls them inside
    its own communication stream; for those the gradient of the one parameter is compared with the one it had at the
    last step.

    Args:
        catalog: the watched parameters.
        steps: is told which optimizer saw a backward.
        owner: the number of the optimizer that has a column, -1 if none is known.
    """

    def __init__(self, catalog: Catalog, steps: Steps, owner: Callable[[int], int]) -> None:
        self._catalog = catalog
        self._steps = steps
        self._owner = owner
        self._order: dict[int, None] = {}
        self._first: list[Any] = []
        self._sentinels: dict[int, _Sentinel] = {}
        self._passes: Counter[int] = Counter()

    def attach(self) -> None:
        """Hooks all watched parameters, until :meth:`settle` is called."""
        for column, ref in enumerate(self._catalog.refs):
            parameter = ref()
            if parameter is not None and _hookable(parameter):
                self._first.append(_hook(parameter, self._noter(column)))

    def detach(self) -> None:
        """Removes every hook."""
        self.settle()
        for sentinel in self._sentinels.values():
            sentinel.remove()
        self._sentinels.clear()

    def order(self) -> list[int]:
        """Columns in the order in which the first backward wrote their gradients."""
        return list(self._order)

    def settle(self) -> None:
        """All optimizers are known: from now on one hook for each will do."""
        for handle in self._first:
            handle.remove()
        self._first.clear()

    def passes(self, columns: npt.NDArray[np.intp]) -> int:
        """A number that rises with every backward through the models of these columns."""
        if self._catalog.single:
            return self._passes[0]
        return sum(self._passes[model] for model in self._catalog.models_of(columns))

    def stepped(self, number: int, optimizer: Optimizer) -> None:
        """``optimizer`` has stepped: makes sure that its next backward will be noticed."""
        sentinel = self._sentinels.get(number)
        parameter = None if sentinel is None else sentinel.parameter()
        if sentinel is None or parameter is None or parameter.grad is None:
            parameter = self._first_with_grad(optimizer)
            if parameter is None:
                return
            if sentinel is not None:
                sentinel.remove()
            model = self._catalog.model_of(self._catalog.column(parameter))
            sentinel = self._sentinels[number] = _Sentinel(parameter, model, self._marker(number, model))
        sentinel.remember(parameter.grad)

    def hooked(self, number: int) -> bool:
        """Whether a hook tells of every backward of an optimizer's parameters, so that :meth:`poll` has nothing to find."""
        sentinel = self._sentinels.get(number)
        return sentinel is not None and sentinel.hooked

    def poll(self) -> None:
        """Looks at the gradients of parameters that have no hook."""
        for number, sentinel in self._sentinels.items():
            if sentinel.changed():
                self._steps.saw_backward(number)
                self._passes[sentinel.model] += 1

    def _first_with_grad(self, optimizer: Optimizer) -> torch.Tensor | None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and self._catalog.column(parameter) is not None:
                    found: torch.Tensor = parameter
                    return found
        return None

    def _noter(self, column: int) -> Callable[[torch.Tensor], None]:
        order, me, model = self._order, weakref.ref(self), self._catalog.model_of(column)

        def note(_: torch.Tensor) -> None:
            order.setdefault(column)
            watch = me()
            if watch is not None:
                watch._passes[model] += 1
                watch._steps.saw_backward(watch._owner(column))

        return note

    def _marker(self, number: int, model: int) -> Callable[[torch.Tensor], None]:
        me = weakref.ref(self)

        def mark(_: torch.Tensor) -> None:
            watch = me()
            if watch is not None:
                watch._passes[model] += 1
                watch._steps.saw_backward(number)

        return mark


class _Sentinel:
    """One parameter that stands for an optimizer."""

    def __init__(self, parameter: torch.Tensor, model: int, hook: Callable[[torch.Tensor], None]) -> None:
        self.model = model
        self.parameter = weakref.ref(parameter)
        self._handle: Any = _hook(parameter, hook) if _hookable(parameter) else None
        self._grad: weakref.ref[torch.Tensor] | None = None

    @property
    def hooked(self) -> bool:
        """Whether a hook tells, and nothing needs to be compared."""
        return self._handle is not None

    def remember(self, grad: torch.Tensor | None) -> None:
        """The gradient that the step has used."""
        if self._handle is None and grad is not None:
            self._grad = weakref.ref(grad)

    def changed(self) -> bool:
        """Whether there is another gradient than the last time; False where a hook tells."""
        parameter = self.parameter()
        if self._handle is not None or parameter is None or parameter.grad is None:
            return False
        before = None if self._grad is None else self._grad()
        self._grad = weakref.ref(parameter.grad)
        return before is not parameter.grad

    def remove(self) -> None:
        """Takes the hook away."""
        if self._handle is not None:
            self._handle.remove()


def _hook(parameter: Any, hook: Callable[[torch.Tensor], None]) -> Any:
    return parameter.register_post_accumulate_grad_hook(hook)


def _hookable(parameter: torch.Tensor) -> bool:
    return parameter.requires_grad and parameter.is_leaf and not hasattr(parameter, "to_local")
