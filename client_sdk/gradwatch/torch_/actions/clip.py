"""Clipping as torch does it, and what is measured on the way.

``clip_grad_norm_`` and ``clip_grad_value_`` *are* torch's functions, looked up when they are called: a watched run hears the
norms that they compute anyway, so its frame costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Parameters", "clip_grad_norm_", "clip_grad_value_", "tensors_of", "total_norm", "whole"]

Parameters: TypeAlias = "Tensor | Iterable[Tensor] | nn.Module"


def clip_grad_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """:func:`torch.nn.utils.clip_grad_norm_`, to the bit; takes a model as well. Gives the total norm before clipping."""
    clip: Any = torch.nn.utils.clip_grad_norm_
    total: Tensor = clip(_plain(parameters), max_norm, norm_type, error_if_nonfinite, foreach)
    return total


def clip_grad_value_(parameters: Parameters, clip_value: float, foreach: bool | None = None) -> None:
    """:func:`torch.nn.utils.clip_grad_value_`, to the bit; takes a model as well."""
    clip: Any = torch.nn.utils.clip_grad_value_
    clip(_plain(parameters), clip_value, foreach)


def total_norm(grads: list[Tensor]) -> Tensor:
    """The L2 norm of all of ``grads`` together, float ``[]``; zero of none. By torch's own function, which a watched run hears,
    where there is one: from 2.6 on."""
    measure: Any = getattr(torch.nn.utils, "get_total_norm", None)
    if measure is not None:
        theirs: Tensor = measure(grads)
        return theirs
    if not grads:
        return torch.tensor(0.0)
    norms = [torch.linalg.vector_norm(grad.detach()) for grad in grads]
    ours: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    return ours


def tensors_of(parameters: Parameters) -> list[Tensor]:
    """The tensors among which gradients are."""
    plain = _plain(parameters)
    return [plain] if isinstance(plain, Tensor) else list(plain)


def whole(total: Tensor) -> Tensor:
    """A total norm as a plain tensor. Of a distributed one each rank holds a part: this is a collective."""
    full: Any = getattr(total, "full_tensor", None)
    return total.detach() if full is None else full().detach()


def _plain(parameters: Parameters) -> Tensor | Iterable[Tensor]:
    return parameters.parameters() if isinstance(parameters, nn.Module) else parameters
