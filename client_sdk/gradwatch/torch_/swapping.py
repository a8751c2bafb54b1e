"""``torch.utils.swap_tensors`` refuses tensors that have a weak reference, and capture holds one to each parameter.

Modules swap where ``torch.__future__.set_swap_module_params_on_conversion`` is set, and always for tensor subclasses: DTensors
(FSDP2), quantised weights. So capture is asked to let go first, and takes hold again after.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

__all__ = ["LetGo", "swaps"]

LetGo = Callable[[Tensor, Tensor], Callable[[], object] | None]
"""``(one, other)`` are about to be swapped: drops every weak reference to them; gives what takes hold of them again."""

_holders: Final[list[LetGo]] = []
_undo: Final[list[Callable[[], None]]] = []


def swaps(let_go: LetGo) -> Callable[[], None]:
    """Calls ``let_go`` before each swap until the returned function is called (which may be done again without harm)."""
    if not _holders:
        _undo.append(_install())
    _holders.append(let_go)

    def stop() -> None:
        if let_go in _holders:
            _holders.remove(let_go)
        while _undo and not _holders:
            _undo.pop()()

    return stop


def _install() -> Callable[[], None]:
    module: Any = torch.utils
    original = module.swap_tensors

    @functools.wraps(original)
    def swap_tensors(t1: Tensor, t2: Tensor) -> None:
        held = [let_go(t1, t2) for let_go in _holders]
        try:
            original(t1, t2)
        finally:
            for take in held:
                if take is not None:
                    take()

    module.swap_tensors = swap_tensors

    def undo() -> None:
        if module.swap_tensors is swap_tensors:
            module.swap_tensors = original

    return undo
