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
    last step. So it is where a script writes gradients itself (``torch.autograd.grad``, ``torch.func``) and no hook is called.

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
        self.let_go()

    def let_go(self) -> None:
        """Drops all weak references to parameters and gradients; the next steps bring new ones."""
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
            sentinel = self._sentinels[number] = _Sentinel(
                parameter, model, self._steps, number, self._passes
            )
            sentinel.heard = self._passes[model] > 0
        sentinel.remember(parameter.grad)

    def hooked(self, number: int) -> bool:
        """Whether a hook tells of every backward of an optimizer's parameters, so that :meth:`poll` has nothing to find."""
        sentinel = self._sentinels.get(number)
        return sentinel is not None and not sentinel.deaf

    def poll(self) -> None:
        """Looks at the gradients of parameters whose hook tells nothing. Only in the thread that trains them: to read one while
        a backward writes it ends the process."""
        for number, sentinel in self._sentinels.items():
            if sentinel.deaf and sentinel.changed():
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

        def note(parameter: torch.Tensor) -> None:
            order.setdefault(column)
            watch = me()
            if watch is not None and parameter.grad is not None:
                watch._passes[model] += 1
                watch._steps.saw_backward(watch._owner(column))

        return note


class _Sentinel:
    """One parameter that stands for an optimizer.

    Args:
        parameter: which.
        model: the number of its model.
        steps: is told of each backward.
        number: of the optimizer.
        passes: counts backwards by model.
    """

    def __init__(
        self, parameter: torch.Tensor, model: int, steps: Steps, number: int, passes: Counter[int]
    ) -> None:
        self.model = model
        self.parameter = weakref.ref(parameter)
        self.heard = False
        """Whether its hook was called since the last step that was remembered."""
        self._handle: Any = (
            _hook(parameter, _marker(weakref.ref(self), steps, number, passes))
            if _hookable(parameter)
            else None
        )
        self.deaf = self._handle is None
        """Whether no hook tells of backwards, so that gradients are compared."""
        self._grad: weakref.ref[torch.Tensor] | None = None

    def remember(self, grad: torch.Tensor | None) -> None:
        """The gradient that a step has used. If no hook was called before that step, none will be."""
        self.deaf, self.heard = not self.heard, False
        self._grad = weakref.ref(grad) if self.deaf and grad is not None else None

    def changed(self) -> bool:
        """Whether there is another gradient than the last time."""
        parameter = self.parameter()
        if parameter is None or parameter.grad is None:
            return False
        before = None if self._grad is None else self._grad()
        self._grad = weakref.ref(parameter.grad)
        return before is not parameter.grad

    def remove(self) -> None:
        """Takes the hook away."""
        if self._handle is not None:
            self._handle.remove()


def _marker(
    sentinel: weakref.ref[_Sentinel], steps: Steps, number: int, passes: Counter[int]
) -> Callable[[torch.Tensor], None]:
    def mark(parameter: torch.Tensor) -> None:
        me = sentinel()
        # Without a gradient an optimizer has used it already, in a hook of the script's own that came before.
        if me is not None and parameter.grad is not None:
            me.heard = True
            passes[me.model] += 1
            steps.saw_backward(number)

    return mark


def _hook(parameter: Any, hook: Callable[[torch.Tensor], None]) -> Any:
    return parameter.register_post_accumulate_grad_hook(hook)


def _hookable(parameter: torch.Tensor) -> bool:
    return parameter.requires_grad and parameter.is_leaf and not hasattr(parameter, "to_local")
