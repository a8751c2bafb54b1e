"""L2 norms of gradients, in every form a gradient can have, at the least cost in the training thread.

On the CPU the cost is per tensor, not per byte, until tensors are large. Many small gradients are joined in one flat
buffer and summed by segment in float64; larger ones are read in place by BLAS, the largest row by row (:mod:`~.squares`):
quicker than ``torch._foreach_norm`` at every size, and at least as exact. On a device ``torch._foreach_norm`` fills one
buffer, which is copied to the host without waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch import _utils as torch_utils

from .catalog import local_part
from .measured import Columns, Floats, Norms
from .scalars import HostCopy
from .squares import TINY, WHOLE, Numbers, exact, sum_of_squares, tiny_norm, usual, vdot

__all__ = ["PLAIN", "Measurer", "Ref", "flatten", "norms_of"]

Ref: TypeAlias = Callable[[], Any]
"""A weak reference to a parameter."""

_SMALL: Final = 1024
"""Gradients of at most so many elements are copied together: after a backward that takes about 1 us and 1.3 ns per element, and
reading one where it is takes 2.5 us."""

_SMALL_HALF: Final = 4096
"""Of half precision, which cannot be read where it is."""

_FEW: Final = 64
"""With fewer small gradients than this, reading each where it is costs less than copying them together."""

_TINY_NORM: Final = math.sqrt(TINY)

_NUMPY: Final = (torch.float32, torch.float64)
_HALF: Final = (torch.float16, torch.bfloat16)
_ALONE: Final = {torch.float32: "whole", torch.float64: "long"} | dict.fromkeys(_HALF, "half")
flatten: Final[Callable[[list[Tensor]], Tensor]] = torch_utils._flatten_dense_tensors
PLAIN: Final = (torch.Tensor, torch.nn.Parameter)


class Measurer:
    """Measures the gradients of a fixed list of parameters, again and again.

    How each gradient is read (the *plan*) is decided once and kept while it fits: a gradient that appears, goes, moves to
    a device or turns sparse makes reading fail, and then a new plan is made.

    Args:
        refs: the parameters.
        columns: their columns, ``[len(refs)]``.
    """

    def __init__(self, refs: Sequence[Ref], columns: Columns) -> None:
        self._refs = refs
        self._columns = columns
        self._plan: _Plan | None = None
        self.lost = False
        """Whether one of the parameters no longer exists."""

    def measure(self) -> Norms:
        """Norms of the gradients that are there now; ``columns`` of the result says which."""
        norms = self.again()
        if norms is not None:
            return norms
        self.lost = any(ref() is None for ref in self._refs)
        self._plan = _Plan(self._refs, self._columns)
        return self._plan.run()

    def again(self) -> Norms | None:
        """As :meth:`measure` if the gradients have the form that they had the last time, else None."""
        if self._plan is not None:
            try:
                return self._plan.run()
            except _STALE:
                self._plan = None
        return None


class _Misfit(Exception):
    """The gradients no longer look as the plan assumed."""


_STALE: Final = (_Misfit, AttributeError, TypeError, RuntimeError)


class _Plan:
    """How to read each of the gradients that were there when it was made."""

    def __init__(self, refs: Sequence[Ref], columns: Columns) -> None:
        self._absent: list[Ref] = []
        kept: list[int] = []
        at: dict[str, list[int]] = {form: [] for form in ("vectors", "small", "whole", "long", "half", "odd")}
        for i, ref in enumerate(refs):
            parameter = ref()
            if parameter is None or parameter.grad is None:
                self._absent.append(ref)
                continue
            at[_form(parameter.grad)].append(len(kept))
            kept.append(i)
        if len(at["vectors"]) + len(at["small"]) < _FEW:
            for k in at["vectors"] + at["small"]:
                at[_ALONE.get(_grad(refs[kept[k]]).dtype, "odd")].append(k)
            at = {form: sorted(positions) for form, positions in at.items()} | {"vectors": [], "small": []}
        self._columns = columns[kept]
        self._vectors, self._small, self._whole, self._long, self._half, self._odd = (
            [refs[kept[k]] for k in positions] for positions in at.values()
        )
        self._joined = self._vectors + self._small
        self._joined_at = np.array(at["vectors"] + at["small"], np.intp)
        self._whole_at, self._long_at, self._half_at, self._odd_at = (
            np.array(at[form], np.intp) for form in ("whole", "long", "half", "odd")
        )
        self._wide = torch.empty(WHOLE if self._half else 0)
        sizes = [_grad(ref).numel() for ref in self._joined]
        self._total = sum(sizes)
        self._offsets = np.cumsum([0, *sizes[:-1]], dtype=np.intp)
        self._at_once = len(self._whole) == len(kept) > 0

    def run(self) -> Norms:
        """The norms.

        Raises:
            _Misfit, AttributeError, TypeError, RuntimeError: the gradients have changed their form.
        """
        for ref in self._absent:
            parameter = ref()
            if parameter is not None and parameter.grad is not None:
                raise _Misfit
        if self._at_once:
            squares = _read(self._whole)
            norms = Norms(self._columns, squares, squared=True)
            if not (
                min(squares) >= TINY and sum(squares) < math.inf
            ):  # as usual(), which is one function more
                _look_again(norms, range(len(squares)), squares, TINY, _views(self._whole))
            return norms
        norms = Norms(self._columns)
        if self._whole:
            _take(norms, self._whole_at, _read(self._whole), _views(self._whole))
        if self._long:
            views = [ref().grad.numpy() for ref in self._long]
            if any(view.dtype.char not in "fd" for view in views):
                raise _Misfit
            _read_views(norms, self._long_at, views)
        if self._half:
            _take(norms, self._half_at, _read_half(self._half, self._wide), _views(self._half))
        if self._joined:
            self._read_joined(norms)
        if self._odd:
            _read_any(norms, self._odd_at, [_grad(ref) for ref in self._odd])
        return norms

    def _read_joined(self, norms: Norms) -> None:
        # torch.cat takes vectors as they are; a view of each first would cost more than the copying.
        grads = [ref().grad for ref in self._vectors]
        if self._small:
            grads.append(flatten([ref().grad for ref in self._small]))
        flat = torch.cat(grads)
        if flat.numel() != self._total:
            raise _Misfit
        numbers: Floats = (flat if flat.dtype in _NUMPY else flat.double()).numpy().astype(np.float64)
        with np.errstate(all="ignore"):
            numbers *= numbers
        squares: list[float] = np.add.reduceat(numbers, self._offsets).tolist()
        norms.set_squares(self._joined_at, squares)
        if not math.isfinite(sum(squares)):
            for k, square in enumerate(squares):
                if not math.isfinite(square):
                    norms.set_exact(int(self._joined_at[k]), *exact(_numbers(_grad(self._joined[k]))))


def _read(refs: Sequence[Ref]) -> list[float]:
    """Sums of squares of gradients in float32 that need no rows; a TypeError if one has another type by now."""
    dot, number = vdot, np.float32.__float__
    return [number(dot(view := ref().grad.numpy(), view)) for ref in refs]


def _read_half(refs: Sequence[Ref], wide: Tensor) -> list[float]:
    """Sums of squares of gradients in half precision: widened piece by piece into ``wide``, which stays in the caches, where a
    whole copy would be written to fresh memory and read back."""
    squares = []
    for ref in refs:
        grad = ref().grad
        if grad.dtype not in _HALF:
            raise _Misfit
        total, flat = 0.0, grad.reshape(-1)
        for piece in flat.split(len(wide)) if len(flat) > len(wide) else (flat,):
            numbers = wide[: len(piece)].copy_(piece).numpy()
            total += float(vdot(numbers, numbers))
        squares.append(total)
    return squares


def _views(refs: Sequence[Ref]) -> Callable[[int], Numbers]:
    return lambda k: _numbers(_grad(refs[k]))


def norms_of(grads: Sequence[Tensor], columns: Columns, known: Tensor | None = None) -> Norms:
    """Norms of any gradients. ``known [len(grads)]`` are their L2 norms where somebody has computed them
    already, none of them rounded to half precision."""
    serves = known is not None and type(known) is torch.Tensor and known.dtype in _NUMPY
    if known is not None and serves and known.is_cpu:
        # After a backward the caches are cold, and each function called here costs ten times what it does in a loop.
        return _known(grads, columns, known.tolist())
    norms = Norms(columns)
    positions = np.arange(len(columns))
    if known is not None and serves and _on_one_device(grads, known.device):
        largest = torch.stack(torch._foreach_norm(list(grads), math.inf))
        norms.set_device(positions, HostCopy(torch.stack([known.detach().float(), largest.float()])))
    else:
        _read_any(norms, positions, grads)
    return norms


def _known(grads: Sequence[Tensor], columns: Columns, values: list[float]) -> Norms:
    norms = Norms(columns, values)
    if not (min(values, default=1.0) >= _TINY_NORM and sum(values) < math.inf):
        _look_again(norms, range(len(values)), values, _TINY_NORM, lambda k: _numbers(_dense(grads[k])))
    return norms


def _grad(ref: Ref) -> Tensor:
    grad: Tensor = ref().grad
    return grad


def _form(grad: Tensor) -> str:
    plain = type(grad) in PLAIN and grad.device.type == "cpu" and grad.layout is torch.strided
    if not plain or not grad.is_floating_point() or not grad.numel() or grad.requires_grad or grad.is_neg():
        return "odd"
    size, readable = grad.numel(), grad.dtype in _NUMPY
    if size <= (_SMALL if readable else _SMALL_HALF):
        return "vectors" if grad.dim() == 1 else "small"
    if not readable:
        return "half" if grad.dtype in _HALF else "odd"
    return "whole" if size <= WHOLE and grad.dtype is torch.float32 else "long"


def _on_one_device(grads: Sequence[Tensor], device: torch.device) -> bool:
    """Whether max-abs of all of them can be had in one go."""
    return all(
        type(grad) in PLAIN and grad.device == device and grad.layout is torch.strided and grad.numel()
        for grad in grads
    )


def _read_any(norms: Norms, positions: Columns, grads: Sequence[Tensor]) -> None:
    """Gradients of any layout, type and device."""
    devices: dict[torch.device, list[int]] = {}
    dense = [_dense(grad) for grad in grads]
    for k, grad in enumerate(dense):
        if not grad.numel():
            norms.set_exact(int(positions[k]), 0.0, 0.0, 0)
        else:
            devices.setdefault(grad.device, []).append(k)
    for device, ks in devices.items():
        if device.type == "cpu":
            _read_views(norms, positions[ks], [_numbers(dense[k]) for k in ks])
        else:
            norms.set_device(positions[ks], HostCopy(_device_rows([dense[k] for k in ks])))


def _dense(grad: Tensor) -> Tensor:
    """The numbers that this process holds of a gradient, as a plain dense real tensor."""
    grad = local_part(grad.detach())
    wait = getattr(grad, "wait", None)
    if wait is not None:
        grad = wait()
    if grad.layout is not torch.strided:
        grad = (grad.coalesce() if grad.layout is torch.sparse_coo else grad).values()
    grad = grad.resolve_conj().resolve_neg()
    return torch.view_as_real(grad) if grad.is_complex() else grad


def _numbers(grad: Tensor) -> Numbers:
    return np.asarray((grad if grad.dtype in _NUMPY else grad.float()).numpy())


def _device_rows(grads: Sequence[Tensor]) -> Tensor:
    """L2 norm and max-abs, float32 ``[2, len(grads)]``, without a synchronisation.

    Half precision is summed in float32, so that the squares do not overflow. Finite float32 gradients above 1.8e19
    overflow the L2 norm to Inf; their max-abs shows that they are finite.
    """
    l2: list[Tensor] = [torch.empty(0)] * len(grads)
    largest: list[Tensor] = list(l2)
    by_type: dict[torch.dtype, list[int]] = {}
    for k, grad in enumerate(grads):
        by_type.setdefault(grad.dtype, []).append(k)
    for dtype, ks in by_type.items():
        group = [grads[k] for k in ks]
        wide = torch.float32 if dtype in _HALF else None
        for k, two, inf in zip(
            ks, torch._foreach_norm(group, 2, dtype=wide), torch._foreach_norm(group, math.inf), strict=True
        ):
            l2[k], largest[k] = two.float(), inf.float()
    return torch.stack([torch.stack(l2), torch.stack(largest)])


def _read_views(norms: Norms, positions: Columns, views: Sequence[Numbers]) -> None:
    with np.errstate(all="ignore"):
        squares = [sum_of_squares(view) for view in views]
    _take(norms, positions, squares, views.__getitem__)


def _take(norms: Norms, positions: Columns, squares: list[float], view: Callable[[int], Numbers]) -> None:
    norms.set_squares(positions, squares)
    if not usual(squares):
        _look_again(norms, positions, squares, TINY, view)


def _look_again(
    norms: Norms,
    positions: Columns | range,
    values: list[float],
    tiny: float,
    view: Callable[[int], Numbers],
) -> None:
    """Exact norms for values that overflowed, are not finite (these with max-abs and counts), or are below ``tiny``."""
    for k, value in enumerate(values):
        if value < tiny:
            norms.set_exact(int(positions[k]), tiny_norm(view(k)), 0.0, 0)
        elif not value < math.inf:
            norms.set_exact(int(positions[k]), *exact(view(k)))
