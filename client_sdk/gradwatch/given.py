"""What ``watch`` was given, and how to read it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .run import read_number

if TYPE_CHECKING:
    from torch import nn

__all__ = ["models_in", "reader"]


def models_in(model: Any) -> list[nn.Module]:
    """The models among what ``watch`` was given; what is none is refused later, with a sentence."""
    given = (
        model.values() if isinstance(model, Mapping) else model if isinstance(model, Sequence) else [model]
    )
    return [one for one in given if hasattr(one, "named_parameters")]


def reader() -> Callable[[Any], float | Callable[[], float] | None]:
    """Tensors need torch to be read without a sync; where it is not imported there are none."""
    if "torch" not in sys.modules:
        return read_number
    from .torch_.scalars import defer

    return defer
