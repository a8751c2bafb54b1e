"""Torch's clip by norm in the ordinary case, as the few operations that it comes to.

After a backward the processor's caches are cold. Torch sorts the gradients by device and type before each half of the clip and asks
each of them, and each of their norms, for its device; where all of them are alike, that costs more than all that watching adds.
The operations left are those that torch's code does there, in its order, so gradients and result are the same to the bit;
:func:`agrees` tries it against the torch that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

__all__ = ["agrees", "alike", "limit_of", "multiply", "norms_and_total"]

_strided: Final = torch.strided
_TYPES: Final = (torch.float32, torch.float64)
_LIMIT_ALONE: Final = {"max_norm"}
_L2: Final = {"norm_type": 2.0}


def limit_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """``max_norm`` of a call of ``clip_grad_norm_`` that asks for nothing else than the L2 norm; None of any other."""
    given = len(args)
    if given == 2 and (not kwargs or kwargs == _L2):
        limit = args[1]
    elif given == 1 and kwargs.keys() == _LIMIT_ALONE:
        limit = kwargs["max_norm"]
    else:
        return None
    return float(limit) if type(limit) is float or type(limit) is int else None


def alike(parameters: Sequence[Tensor]) -> list[Tensor] | None:
    """The gradients of those that have one, if all are plain dense ones of one type, on the CPU and without a graph, and
    there is one."""
    dtype: torch.dtype | None = None
    grads: list[Tensor] = []
    for parameter in parameters:
        grad = parameter.grad
        if grad is None:
            continue
        if dtype is None:
            dtype = grad.dtype
        if (
            type(grad) is not Tensor
            or grad.dtype is not dtype
            or grad.layout is not _strided
            or not grad.is_cpu
            or grad.requires_grad
        ):
            return None
        grads.append(grad)
    return grads if dtype in _TYPES else None


def norms_and_total(grads: list[Tensor]) -> tuple[Tensor, Tensor]:
    """L2 norm of each, ``[len(grads)]``, and of all together, ``[]``, as torch computes them."""
    norms = torch.stack(torch._foreach_norm(grads, 2.0))
    return norms, torch.linalg.vector_norm(norms, 2.0)


def multiply(grads: list[Tensor], limit: float, total: Tensor) -> None:
    """Multiplies them by ``min(1, limit / (total + 1e-6))``."""
    torch._foreach_mul_(grads, torch.clamp(limit / (total + 1e-6), max=1.0))


def agrees(original: Callable[..., Tensor]) -> bool:
    """Whether ``original``, torch's ``clip_grad_norm_``, gives the same to the bit."""
    try:
        return all(
            _same(original, dtype, factor, limit)
            for dtype in _TYPES
            for factor in (1.0, 0.0, 1e-30, 1e30, float("inf"), float("nan"))
            for limit in (0.5, 1e3)
        )
    except (AttributeError, RuntimeError, TypeError):
        return False


def _same(original: Callable[..., Tensor], dtype: torch.dtype, factor: float, limit: float) -> bool:
    theirs, ours = _parameters(dtype, factor), _parameters(dtype, factor)
    their_total = original(theirs, limit)
    grads = alike(ours)
    if grads is None:
        return False
    _, total = norms_and_total(grads)
    multiply(grads, limit, total)
    if _bytes(their_total) != _bytes(total):
        return False
    return all(_bytes(a.grad) == _bytes(b.grad) for a, b in zip(theirs, ours, strict=True))


def _parameters(dtype: torch.dtype, factor: float) -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.zeros(2, dtype=dtype))]
    for size in (1, 7, 600):
        numbers = torch.linspace(-2.0, 3.0, size, dtype=dtype, device="cpu")
        parameters.append(torch.nn.Parameter(torch.zeros_like(numbers)))
        parameters[-1].grad = numbers.clone()
    last = parameters[-1].grad
    assert last is not None
    last[:3] *= factor
    return parameters


def _bytes(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.numpy().tobytes()
