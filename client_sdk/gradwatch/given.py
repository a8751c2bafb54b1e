"""What ``watch`` was given, and how to read it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .logged import read_number

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["check_pace", "models_in", "patterns", "reader", "strangers"]


def models_in(model: Any) -> list[nn.Module]:
    """The models among what ``watch`` was given; what is none is refused later, with a sentence."""
    given = (
        model.values() if isinstance(model, Mapping) else model if isinstance(model, Sequence) else [model]
    )
    return [one for one in given if hasattr(one, "named_parameters")]


def strangers(models: Iterable[nn.Module], optimizers: Iterable[Optimizer]) -> str:
    """What is said where no optimizer that was given holds a parameter of the models; "" where one does."""
    groups = [group for optimizer in optimizers for group in getattr(optimizer, "param_groups", ())]
    held = {id(parameter) for group in groups for parameter in group["params"]}
    ours = {id(parameter) for model in models for parameter in model.parameters()}
    if not held or held & ours:
        return ""
    return "the given optimizer holds no parameter of the given model: make it from the parameters of this very model"


def patterns(given: str | Iterable[str], argument: str) -> tuple[str, ...]:
    """Patterns over names of tensors; one may be given by itself.

    Raises:
        ConfigError: they are no texts.
    """
    found = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if not all(isinstance(one, str) for one in found):
        raise ConfigError(
            f"{argument}= takes patterns over names of tensors, such as {argument}=['blocks.*.weight'], not {given!r}"
        )
    return found


def check_pace(every: Any, budget: Any) -> None:
    """Whether steps can be measured that often, and at that cost.

    Raises:
        ConfigError: they cannot.
    """
    if isinstance(every, bool) or not isinstance(every, Integral) or int(every) < 1:
        raise ConfigError(f"every= must be a whole number of steps from 1 on, not {every!r}")
    if isinstance(budget, bool) or not isinstance(budget, Real) or not float(budget) >= 0:
        raise ConfigError(f"budget= must be a share of the step time, such as 0.01, not {budget!r}")


def reader() -> Callable[[Any], float | Callable[[], float] | None]:
    """Tensors need torch to be read without a sync; where it is not imported there are none."""
    if "torch" not in sys.modules:
        return read_number
    from .torch_.scalars import defer

    return defer
