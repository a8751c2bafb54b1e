"""Statistics that are taken now and then, from weights, gradients and Adam's state.

Taken of every tensor at once: the exact norm of the weights, and *samples* of at most 1,024 elements, in runs of four evenly
apart, the same ones each time (all elements of a smaller tensor; :mod:`~.gathered`). Samples are only copied in the training thread; the arithmetic
is done when the frame is resolved. With ``w`` the weights before the step, ``w'`` after it, ``g`` the gradient that the
optimizer uses and ``g-`` that of the step before:

=================  ==================================================================================================
``weight_norm``    ``||w||``, exact
``update_ratio``   ``||w' - w|| / ||w||``; absent where ``w`` is all zero
``grad_cosine``    ``g.g- / (||g|| ||g-||)``; absent where one of them is zero
``sign_flips``     share of elements with ``g g- < 0``
``zero_fraction``  share of elements with ``g == 0``; of a bias or a norm's shift, the share of dead units
``adam_ratio``     ``sqrt(mean(g^2 / max(v, eps^2)))`` with Adam's second moment ``v`` before the step, corrected for its
                   start; above 2.3 it has fallen behind (StableAdamW, arXiv:2304.13013)
``grad_histogram`` how many elements of ``g``, freed from the loss scale, lie in each power of two: see
                   :mod:`gradwatch.protocol.histogram`
=================  ==================================================================================================

A ratio of norms from ``n`` of many elements has a relative standard error of about ``sqrt((k - 1) / 4n)``, where ``k`` is
the kurtosis: 2 % for a normal distribution. A share ``s`` has one of ``sqrt(s (1 - s) / n)``, absolute: at most 1.6 %;
so have the shares of a histogram's cells and any sum of them. Of trained models the root mean square error over large tensors
was 2 to 15 % for ``update_ratio`` (most where few rows carry the step), 0.01 to 0.06 for ``grad_cosine``, and 3 to 28 % for
``adam_ratio``, whose terms have a heavy tail.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from ..protocol.histogram import columns_of, count
from .catalog import Catalog
from .gathered import ELEMENTS, Gathered, gather
from .measured import Columns, Floats, Norms
from .norms import Measurer, Ref
from .scalars import Later, Now, defer

__all__ = ["HISTOGRAM", "HISTOGRAM_CADENCE", "SAMPLED", "Cadence", "Sample", "Sampler"]

SAMPLED: Final = ("weight_norm", "update_ratio", "grad_cosine", "sign_flips", "zero_fraction", "adam_ratio")

_EVERY: Final = 10
"""Steps between samples where the budget allows."""

_HISTOGRAM_EVERY: Final = 5
"""Samples for a histogram: 48 numbers of 4 bytes then cost 3.84 bytes per tensor and step, less than a norm does."""

HISTOGRAM: Final = "grad_histogram"
HISTOGRAM_CADENCE: Final = _EVERY * _HISTOGRAM_EVERY

_LONGEST: Final = 10 * 2**12

_WAITING: Final = 64 * 1024**2 // (5 * 4 * ELEMENTS)
"""Columns whose samples fit into 64 MiB: five copies in float32 of each."""

Rows: TypeAlias = dict[str, tuple[Columns, Floats]]


class Cadence:
    """Every how many steps to sample, so that watching costs at most ``budget`` of the step time.

    What is measured at every step comes first; samples get what it leaves, or a quarter of the budget where it leaves less.

    Args:
        budget: share of the step time, such as 0.01; 0 for never.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self._cost = 0.0
        self.every = _EVERY
        self.closely_until = 0
        """Before this step every one is due, whatever it costs (unless the budget is 0)."""

    @property
    def thinned(self) -> float:
        """How many times rarer than wanted."""
        return self.every / _EVERY

    def due(self, step: int) -> bool:
        """Whether to sample at this step."""
        return self.budget > 0 and (step % self.every == 0 or step < self.closely_until)

    def histogram(self, step: int) -> bool:
        """Whether a sample of this step gives histograms, too."""
        every = 1 if step < self.closely_until else self.every
        return step % (every * _HISTOGRAM_EVERY) == 0

    def eve(self, step: int) -> bool:
        """Whether the next step is due, and the gradient of this one will be wanted."""
        return self.due(step + 1)

    def wants(self, step: int) -> bool:
        """Whether there is anything to do at this step."""
        return self.budget > 0 and ((step + 1) % self.every <= 1 or step < self.closely_until)

    def quiet_until(self, step: int) -> int:
        """After a step at which there is nothing to do: the next one at which there may be, unless it comes to look closely."""
        return step + self.every - 1 - step % self.every if self.budget > 0 else step + _EVERY

    def account(self, cost: float, step_time: float, fixed: float = 0.0) -> None:
        """A sample has cost so many seconds in the training thread, where a step takes ``step_time``, of which ``fixed``
        are for what is measured at every step."""
        self._cost = cost if not self._cost else 0.7 * self._cost + 0.3 * cost
        whole = self.budget * step_time
        allowed = whole if math.isinf(whole) else max(whole - fixed, whole / 4)
        self.every = _EVERY
        while self._cost > allowed * self.every and self.every < _LONGEST:
            self.every *= 2


@dataclass(eq=False)
class Sample:
    """What was copied at one step of one optimizer; lists have an entry per device."""

    weights: Norms
    before: list[Gathered]
    grads: list[Gathered]
    previous: list[Gathered]
    second: list[Gathered]
    floors: dict[int, tuple[float, float, Later | Now]]
    """By column: Adam's epsilon, its beta2, and how many steps its second moment has seen."""
    scale: Later | Now | None
    histogram: bool = False
    after: list[Gathered] = field(default_factory=list)
    used: bool = False

    def ready(self) -> bool:
        """Whether :meth:`rows` would return at once."""
        parts: list[Any] = [
            self.weights,
            *self.before,
            *self.grads,
            *self.previous,
            *self.second,
            *self.after,
        ]
        parts += [steps for _, _, steps in self.floors.values()]
        return all(part.ready() for part in parts) and (self.scale is None or self.scale.ready())

    def rows(self) -> Rows:
        """The statistics: name to columns and values."""
        self.used = True
        rows: Rows = {"weight_norm": (self.weights.columns, self.weights.values()[0])}
        grads = _join(self.grads)
        _add(rows, "update_ratio", _pairs(_join(self.before), _join(self.after)), _update_ratio)
        pairs = _pairs(grads, _join(self.previous))
        _add(rows, "grad_cosine", pairs, _cosine)
        _add(rows, "sign_flips", pairs, lambda g, p: float(np.mean(g * p < 0)))
        _add(
            rows,
            "zero_fraction",
            {column: (g, g) for column, g in grads.items()},
            lambda g, _: float(np.mean(g == 0)),
        )
        scale = 1.0 if self.scale is None else self.scale()
        if self.histogram and self.grads:
            columns = np.concatenate([part.columns for part in self.grads])
            cells = [count(part.values() / scale, part.sizes) for part in self.grads]
            rows[HISTOGRAM] = (columns_of("histogram", columns), np.concatenate(cells).reshape(-1))
        if self.second:
            unscaled = {column: g / scale for column, g in grads.items()}
            _add(rows, "adam_ratio", _pairs(unscaled, self._second_moments()), _adam_ratio)
        return rows

    def _second_moments(self) -> dict[int, Floats]:
        """Adam's v, divided by ``1 - beta2^t`` and not below epsilon squared."""
        corrected = {}
        for column, v in _join(self.second).items():
            epsilon, beta2, steps = self.floors[column]
            seen = -math.expm1(max(steps(), 1.0) * math.log(beta2)) if 0 < beta2 < 1 else 1.0
            corrected[column] = np.maximum(v / seen, epsilon**2)
        return corrected


class Sampler:
    """Copies samples at the steps that its :class:`Cadence` chooses.

    Not more than one sample waits to be resolved, so that a slow consumer costs no memory; while it looks closely not more
    than 64 MiB of them.
    """

    def __init__(self, catalog: Catalog, cadence: Cadence) -> None:
        self._catalog = catalog
        self.cadence = cadence
        self._previous: dict[int, tuple[int, list[Gathered]]] = {}
        self.open: dict[int, Sample] = {}
        self._last: dict[int, list[weakref.ref[Sample]]] = {}
        self._measurers: dict[int, Measurer] = {}

    def clear(self) -> None:
        """The columns have changed."""
        self._previous.clear()
        self.open.clear()
        self._measurers.clear()

    def before(self, step: int, number: int, optimizer: Optimizer, columns: Columns) -> Sample | None:
        """Called before an optimizer steps; gives the sample that :meth:`after` completes, if one is due."""
        self.open.pop(number, None)
        last = self._last.get(number, [])
        last[:] = [ref for ref in last if (sample := ref()) is not None and not sample.used]
        room = _WAITING // max(len(columns), 1) if step < self.cadence.closely_until else 0
        due, eve = self.cadence.due(step), self.cadence.eve(step)
        if not (due or eve) or len(last) > room:
            return None
        parameters = [self._catalog.refs[column]() for column in columns]
        grads = gather(columns, [None if p is None else p.grad for p in parameters])
        previous = self._previous.pop(number, None)
        if eve:
            self._previous[number] = (step, grads)
        if not due:
            return None
        second, floors = _second_moments(self._catalog, optimizer)
        scale = getattr(optimizer, "grad_scale", None)
        sample = self.open[number] = Sample(
            weights=self._weights(number, columns).measure(),
            before=gather(columns, parameters),
            grads=grads,
            previous=previous[1] if previous is not None and previous[0] == step - 1 else [],
            second=gather(np.array(list(second), np.intp), list(second.values())),
            floors=floors,
            scale=None if scale is None else defer(scale),
            histogram=self.cadence.histogram(step),
        )
        self._last.setdefault(number, []).append(weakref.ref(sample))
        return sample

    def after(self, number: int) -> bool:
        """Called when it has stepped; whether that completed a sample."""
        sample = self.open.pop(number, None)
        if sample is not None:
            columns = (
                np.concatenate([part.columns for part in sample.before])
                if sample.before
                else np.array([], np.intp)
            )
            sample.after = gather(columns, [self._catalog.refs[column]() for column in columns])
        return sample is not None

    def _weights(self, number: int, columns: Columns) -> Measurer:
        measurer = self._measurers.get(number)
        if measurer is None:
            refs = [_AsGradient(self._catalog.refs[column]) for column in columns]
            measurer = self._measurers[number] = Measurer(refs, columns)
        return measurer


class _AsGradient:
    """Lets a :class:`Measurer` read a parameter itself where it reads gradients."""

    def __init__(self, ref: Ref) -> None:
        self._ref = ref

    def __call__(self) -> _AsGradient:
        return self

    @property
    def grad(self) -> Tensor | None:
        """The parameter."""
        parameter = self._ref()
        return None if parameter is None else parameter.detach()


def _second_moments(
    catalog: Catalog, optimizer: Optimizer
) -> tuple[dict[int, Tensor], dict[int, tuple[float, float, Later | Now]]]:
    """Adam's ``exp_avg_sq`` by column, with epsilon, beta2 and the number of steps it has seen."""
    moments: dict[int, Tensor] = {}
    floors: dict[int, tuple[float, float, Later | Now]] = {}
    column_of, states = catalog.column, optimizer.state
    for group in optimizer.param_groups:
        if "betas" not in group or "eps" not in group:
            continue
        epsilon, beta2 = group["eps"], group["betas"][1]
        if not isinstance(epsilon, (int, float)) or not isinstance(beta2, (int, float)):
            continue
        steps: Later | Now | None = None
        for parameter in group["params"]:
            state = states.get(parameter, {})
            column = column_of(parameter) if state else None
            second = state.get("exp_avg_sq")
            # Others than torch's keep it by row, or of a part of the parameter: that is no second moment of each element.
            if column is None or not isinstance(second, Tensor) or second.shape != parameter.shape:
                continue
            step = state.get("step")
            if steps is None or not isinstance(step, Tensor) or step.is_cpu:
                steps = defer(step)
            if steps is not None:
                moments[column] = second
                floors[column] = (epsilon, beta2, steps)
    return moments, floors


def _join(parts: list[Gathered]) -> dict[int, Floats]:
    joined: dict[int, Floats] = {}
    for part in parts:
        joined.update(part.per_column())
    return joined


def _pairs(a: dict[int, Floats], b: dict[int, Floats]) -> dict[int, tuple[Floats, Floats]]:
    return {column: (values, b[column]) for column, values in a.items() if column in b}


def _add(
    rows: Rows,
    name: str,
    pairs: dict[int, tuple[Floats, Floats]],
    of: Callable[[Floats, Floats], float | None],
) -> None:
    with np.errstate(all="ignore"):
        values = {column: of(a, b) for column, (a, b) in pairs.items()}
    there = {column: value for column, value in values.items() if value is not None}
    if there:
        rows[name] = (np.array(list(there), np.intp), np.array(list(there.values()), np.float64))


def _update_ratio(before: Floats, after: Floats) -> float | None:
    norm = np.linalg.norm(before)
    return float(np.linalg.norm(after - before) / norm) if norm else None


def _cosine(a: Floats, b: Floats) -> float | None:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.dot(a, b) / norms) if norms else None


def _adam_ratio(grad: Floats, second: Floats) -> float | None:
    return float(np.sqrt(np.mean(grad**2 / second)))
