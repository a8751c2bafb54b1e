"""L2 norms of gradients, in every form a gradient can have, at the least cost in the training thread.

On the CPU the cost is per tensor, not per byte, until tensors are large. Many small gradients are copied into one flat
buffer and summed by segment in float64; larger ones are read in place by ``numpy.vdot``, as long as BLAS does that in this
thread; larger ones still by ``torch._foreach_norm``, as long as float32 sums are good enough; the largest by rows of 4,096, which
is both quicker and more exact. On a device ``torch._foreach_norm`` fills one buffer, which is copied to the host without waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch import _utils as torch_utils

from .catalog import local_part
from .measured import Columns, Floats, Norms
from .scalars import HostCopy

__all__ = ["Measurer", "Ref", "norms_of"]

Ref: TypeAlias = Callable[[], Any]
"""A weak reference to a parameter."""

Numbers: TypeAlias = npt.NDArray[np.floating[Any]]

_SMALL: Final = 4096
"""Gradients of at most so many elements are copied together; measured on 40 to 800 tensors."""

_CHUNK: Final = 16_384
"""BLAS libraries start threads for longer vectors, which would compete with torch's; and float32 sums get imprecise."""

_HUGE: Final = 262_144
"""``torch._foreach_norm`` sums in float32 and is off by 1e-5 at a million elements; above this the norms of
rows are added up."""

_ROW: Final = 4096

_FEW: Final = 128
"""With fewer small gradients than this, ``torch._foreach_norm`` costs less than copying them together."""

_TINY: Final = 1e-28
"""A float32 sum of squares below this may have lost terms to underflow: look again."""

_TINY_NORM: Final = 1e-14
"""The root of it."""

_NUMPY: Final = (torch.float32, torch.float64)
_HALF: Final = (torch.float16, torch.bfloat16)
_flatten: Final[Callable[[list[Tensor]], Tensor]] = torch_utils._flatten_dense_tensors
_PLAIN: Final = (torch.Tensor, torch.nn.Parameter)


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
        at: dict[str, list[int]] = {"small": [], "middle": [], "foreach": [], "huge": [], "odd": []}
        for i, ref in enumerate(refs):
            parameter = ref()
            if parameter is None or parameter.grad is None:
                self._absent.append(ref)
                continue
            at[_form(parameter.grad)].append(len(kept))
            kept.append(i)
        if len(at["small"]) < _FEW:
            for k in at["small"]:
                at["foreach" if _grad(refs[kept[k]]).dtype in _NUMPY else "odd"].append(k)
            at = {form: sorted(positions) for form, positions in at.items()} | {"small": []}
        self._columns = columns[kept]
        self._small_at, self._middle_at, self._foreach_at, self._huge_at, self._odd_at = (
            np.array(positions, np.intp) for positions in at.values()
        )
        self._small, self._middle, self._foreach, self._huge, self._odd = (
            [refs[kept[k]] for k in positions] for positions in at.values()
        )
        sizes = [_grad(ref).numel() for ref in self._small]
        self._total = sum(sizes)
        self._offsets = np.cumsum([0, *sizes[:-1]], dtype=np.intp)
        self._at_once = len(self._foreach) == len(kept) > 0

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
            grads = [ref().grad for ref in self._foreach]
            values = [norm.item() for norm in torch._foreach_norm(grads)]
            if min(values) >= _TINY_NORM and sum(values) < math.inf:
                return Norms(self._columns, values)
            return _known(grads, self._columns, values)
        norms = Norms(self._columns)
        if self._middle:
            _read_views(norms, self._middle_at, [ref().grad.numpy() for ref in self._middle])
        if self._foreach:
            grads = [ref().grad for ref in self._foreach]
            _take_known(norms, self._foreach_at, grads, [norm.item() for norm in torch._foreach_norm(grads)])
        if self._huge:
            _read_huge(norms, self._huge_at, [ref().grad for ref in self._huge])
        if self._small:
            self._read_small(norms)
        if self._odd:
            _read_any(norms, self._odd_at, [_grad(ref) for ref in self._odd])
        return norms

    def _read_small(self, norms: Norms) -> None:
        flat = _flatten([ref().grad for ref in self._small])
        if flat.numel() != self._total:
            raise _Misfit
        numbers: Floats = (flat if flat.dtype in _NUMPY else flat.double()).numpy().astype(np.float64)
        with np.errstate(all="ignore"):
            numbers *= numbers
        squares: list[float] = np.add.reduceat(numbers, self._offsets).tolist()
        norms.set_squares(self._small_at, squares)
        if not math.isfinite(sum(squares)):
            for k, square in enumerate(squares):
                if not math.isfinite(square):
                    norms.set_exact(int(self._small_at[k]), *_exact(_numbers(_grad(self._small[k]))))


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


def _take_known(
    norms: Norms, positions: Columns | range, grads: Sequence[Tensor], values: list[float]
) -> None:
    norms.set_norms(positions, values)
    _look_again(norms, positions, values, _TINY_NORM, lambda k: _numbers(_dense(grads[k])))


def _grad(ref: Ref) -> Tensor:
    grad: Tensor = ref().grad
    return grad


def _form(grad: Tensor) -> str:
    plain = type(grad) in _PLAIN and grad.device.type == "cpu" and grad.layout is torch.strided
    if not plain or not grad.is_floating_point() or not grad.numel() or grad.requires_grad:
        return "odd"
    size = grad.numel()
    if size <= _SMALL:
        return "small"
    if grad.dtype not in _NUMPY:
        return "odd"
    if size <= _CHUNK:
        return "middle"
    if size <= _HUGE:
        return "foreach"
    return "huge" if grad.is_contiguous() else "middle"


def _on_one_device(grads: Sequence[Tensor], device: torch.device) -> bool:
    """Whether max-abs of all of them can be had in one go."""
    return all(
        type(grad) in _PLAIN and grad.device == device and grad.layout is torch.strided and grad.numel()
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
        grad = grad.coalesce().values()
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
    vdot = np.vdot
    squares = [float(vdot(v, v)) if v.size <= _CHUNK else _chunked(v) for v in views]
    norms.set_squares(positions, squares)
    _look_again(norms, positions, squares, _TINY, views.__getitem__)


def _read_huge(norms: Norms, positions: Columns, grads: Sequence[Tensor]) -> None:
    """Gradients that are contiguous and on the CPU."""
    vector_norm, vdot = torch.linalg.vector_norm, np.vdot
    squares: list[float] = []
    for grad in grads:
        flat = grad.view(-1)
        whole = flat.numel() // _ROW * _ROW
        rows = vector_norm(flat[:whole].view(-1, _ROW), dim=1).numpy().astype(np.float64)
        square = float(vdot(rows, rows))
        if whole < flat.numel():
            rest = flat[whole:].numpy()
            square += float(vdot(rest, rest))
        squares.append(square)
    norms.set_squares(positions, squares)
    _look_again(norms, positions, squares, _TINY, lambda k: _numbers(grads[k]))


def _chunked(view: Numbers) -> float:
    """Sum of squares, in chunks that are short enough for BLAS to stay in this thread, added in float64."""
    flat = view.reshape(-1)
    whole = flat.size // _CHUNK * _CHUNK
    rows = flat[:whole].reshape(-1, 1, _CHUNK)
    rest = flat[whole:]
    with np.errstate(all="ignore"):
        squares = np.matmul(rows, rows.transpose(0, 2, 1)).sum(dtype=np.float64)
    return float(squares) + float(np.vdot(rest, rest))


def _look_again(
    norms: Norms,
    positions: Columns | range,
    values: list[float],
    tiny: float,
    view: Callable[[int], Numbers],
) -> None:
    """Exact norms with max-abs and counts for values that overflowed, are not finite, or are below ``tiny``."""
    if math.isfinite(sum(values)) and min(values, default=1.0) >= tiny:
        return
    for k, value in enumerate(values):
        if not tiny <= value < math.inf:
            norms.set_exact(int(positions[k]), *_exact(view(k)))


def _exact(view: Numbers) -> tuple[float, float, int]:
    """L2 norm, max-abs and count of non-finite elements, without overflow or underflow of the squares."""
    magnitudes = np.abs(view).ravel()
    largest = float(magnitudes.max(initial=0.0))
    if largest == 0.0:
        return 0.0, 0.0, 0
    if math.isfinite(largest):
        magnitudes /= magnitudes.dtype.type(largest)
        return largest * math.sqrt(float(np.vdot(magnitudes, magnitudes))), largest, 0
    bad = magnitudes.size - int(np.count_nonzero(np.isfinite(magnitudes)))
    return (math.nan if math.isnan(largest) else math.inf), largest, bad
