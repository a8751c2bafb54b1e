"""Capture: watches the optimizers of some models and hands out a frame for every step."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ..frames import PendingFrame
from ..protocol import Statistic, Tensor
from . import forked, patches
from .backward import BackwardWatch
from .catalog import Catalog
from .costs import Costs
from .data_wait import DataWait
from .draft import Draft, statistics
from .flat import Flat
from .optimizers import Optimizers, takes_closure
from .preclip import Preclip
from .reading import Reader
from .sampled import Cadence, Sampler
from .scalars import Now, defer
from .scaling import SKIPS, Scaling, scale_of
from .step_hooks import after_steps, before_steps
from .stepping import Stepping
from .steps import Steps
from .swapping import swaps

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from ..shield import Shield

__all__ = ["Capture"]


class Capture:
    """Measures the gradients of ``models`` at every step of their optimizers.

    Nothing of the models, the optimizers or their numbers is changed, and nothing is kept alive: weak references only.
    Every entry from the training loop goes through ``shield``.

    Args:
        models: what to watch.
        optimizers: which optimizers make steps; None: every optimizer that holds a watched parameter and steps.
        include, exclude: globs on parameter names.
        every: measure gradients at every so many steps.
        start_step: index of the first step.
        budget: share of the step time that sampled statistics may cost.
        shield: guards training against our own errors.
        on_frame: gets each step's frame, in the training thread.
        on_schema: gets the declaration of tensors and statistics, before the frames that use it.
        clock: Unix time in seconds.
        timer: seconds, for durations.

    Raises:
        ConfigError: there is nothing to watch, or too much.
    """

    def __init__(
        self,
        models: Sequence[nn.Module] | Mapping[str, nn.Module],
        *,
        optimizers: Sequence[Optimizer] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        every: int = 1,
        start_step: int = 0,
        budget: float = 0.01,
        shield: Shield,
        on_frame: Callable[[PendingFrame], None],
        on_schema: Callable[[tuple[Tensor, ...], tuple[Statistic, ...]], None],
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._catalog = Catalog(models, include, exclude)
        self._optimizers = Optimizers(self._catalog, optimizers)
        self._steps = Steps(start_step)
        self._backward = BackwardWatch(self._catalog, self._steps, self._optimizers.owner)
        self._preclip = Preclip(self._catalog, self._backward)
        self._every = every
        self._shield = shield
        self._on_frame = on_frame
        self._on_schema = on_schema
        self._clock = clock
        self._timer = timer
        self._generation = forked.generation()
        self._attached = False
        self._cuda = False
        self._undo: list[Callable[[], None]] = []
        self._schemas = 0
        self._current = False
        self._declared = False
        self._reader = Reader(self._catalog, self._optimizers, self._preclip)
        self._draft: Draft | None = None
        self._flat: Flat | None = None
        """For the steps to come, as long as they are ordinary ones."""
        self._settled = optimizers is not None
        self._scaling: Scaling | None = None
        self._stepping = Stepping()
        self._costs = Costs()
        self._sampler = Sampler(self._catalog, Cadence(budget))
        self.data_wait = DataWait()
        """Seconds that the script has waited for data, None while it has used no loader."""

    @property
    def next_step(self) -> int:
        """Index of the coming attempted optimizer step."""
        return self._steps.next_step

    def attach(self) -> None:
        """Puts the hooks in place and declares what is watched."""
        if self._attached:
            return
        self._attached = True
        self._declare()
        self._backward.attach()
        self._undo = [
            before_steps(self._shield.wrap(self._before_step, "measuring gradients")),
            after_steps(self._shield.wrap(self._after_step, "finishing a step")),
            patches.listen(self._listener()),
            swaps(self._shield.wrap(self._let_go, "letting go of a tensor")),
            self._backward.detach,
            self.data_wait.attach(),
        ]

    def detach(self) -> None:
        """Hands out the last frame and takes every hook and patch away. May be called again."""
        self._attached, self._flat = False, None
        while self._undo:
            self._undo.pop()()
        self._emit()
        self._preclip.clear()

    def scalar_step(self) -> int:
        """The step that a scalar logged now belongs to (see :class:`~.steps.Steps`)."""
        if threading.get_ident() == self._preclip.thread:
            self._backward.poll()
        return self._steps.scalar_step()

    def look_closely(self, steps: int) -> None:
        """Takes sampled statistics at each of the coming ``steps``; from any thread."""
        self._sampler.cadence.closely_until = self.next_step + steps

    def describe_optimizers(self) -> tuple[dict[str, Any], ...]:
        """Class and hyperparameters of the optimizers known so far, as plain JSON."""
        return self._optimizers.describe()

    def cost(self) -> dict[str, float]:
        """What watching costs in the training thread, over the last 128 steps: ``us_per_step``, ``share_of_step``;
        ``thinned``, how many times rarer than wanted the sampled statistics are taken to stay in the budget; and
        ``budget`` itself."""
        cadence = self._sampler.cadence
        return {**self._costs.summary(), "thinned": cadence.thinned, "budget": cadence.budget}

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (len(args) > 1 or kwargs) and takes_closure(optimizer, args, kwargs):
            self._stepping.enter_late(optimizer, self._steps.current)
            return
        if (self._flat is not None and self._flat.take(optimizer)) or self._inert():
            return
        begun = self._timer()
        number = self._number(optimizer)
        if number is not None and self._stepping.enter(number, optimizer):
            step = self._take_step(number, optimizer, skipped=False)
            if self._sampler.cadence.wants(step):
                self._sample(number, optimizer)
            self._costs.spent += self._timer() - begun

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stepping = self._stepping
        if not (stepping.now or stepping.late) or self._inert():
            return
        begun = self._timer()
        number = None
        if stepping.leave(optimizer):
            number = self._optimizers.number(optimizer)
        elif stepping.leave_late(optimizer, self._steps.current):
            number = self._number(optimizer)
            if number is not None:
                self._take_step(number, optimizer, skipped=False)
        if number is not None:
            if self._sampler.open:
                self._end_sample(number)
            self._end_step(number, optimizer)
            self._costs.spent += self._timer() - begun

    def _on_norms(
        self,
        grads: Sequence[torch.Tensor],
        norms: torch.Tensor | None,
        clipping: bool,
        parameters: Sequence[torch.Tensor] | None,
    ) -> None:
        if not self._inert():
            begun = self._timer()
            self._preclip.add(grads, norms, clipping=clipping, parameters=parameters)
            self._costs.spent += self._timer() - begun

    def _on_clip(
        self,
        parameters: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor],
        norms: torch.Tensor,
        limit: float,
        total: torch.Tensor,
    ) -> None:
        if not self._inert():
            begun = self._timer()
            self._preclip.add_clipped(parameters, grads, norms, limit, total)
            self._costs.spent += self._timer() - begun

    def _on_unscale(self, scaler: GradScaler, optimizer: Optimizer) -> None:
        scale = scale_of(scaler)
        if self._preclip.entries and scale is not None and not self._inert():
            self._preclip.unscale(self._catalog.mask(optimizer), scale)

    def _on_scaler_step(self, scaler: GradScaler, optimizer: Optimizer) -> None:
        if self._inert() or self._number(optimizer) is None:
            return
        self._scaling, self._flat = Scaling(weakref.ref(optimizer), scale_of(scaler)), None

    def _on_scaler_stepped(self, optimizer: Optimizer) -> None:
        """A step that was skipped has called none of our hooks."""
        scaling = self._scaling
        if scaling is None or scaling.optimizer() is not optimizer:
            return
        number = None if self._inert() or scaling.seen else self._number(optimizer)
        if number is not None:
            self._take_step(number, optimizer, skipped=True)
            self._end_step(number, optimizer)
        self._scaling = None

    def _let_go(self, one: torch.Tensor, other: torch.Tensor) -> Callable[[], None]:
        """Two tensors will be swapped, which must have no weak references."""
        self._flat, self._current = None, False
        self._reader.forget()
        self._preclip.clear()
        self._sampler.clear()
        self._backward.let_go()
        return self._catalog.let_go(one, other)

    def _listener(self) -> patches.Listener:
        wrap = self._shield.wrap
        return patches.Listener(
            on_norms=wrap(self._on_norms, "measuring before clipping"),
            on_clip_norm=wrap(self._preclip.clipped_by_norm, "noting a clip by norm"),
            on_clip=wrap(self._on_clip, "noting a clip by norm"),
            on_clip_value=wrap(self._preclip.clipped_by_value, "noting a clip by value"),
            on_unscale=wrap(self._on_unscale, "noting an unscale"),
            on_scaler_step=wrap(self._on_scaler_step, "noting a scaled step"),
            on_scaler_stepped=wrap(self._on_scaler_stepped, "finishing a scaled step"),
        )

    def _inert(self) -> bool:
        """Nothing is measured in a forked child, nor while a CUDA graph is captured (what a hook does would go in it)."""
        if not self._attached or forked.in_child(self._generation):
            return True
        return self._cuda and torch.cuda.is_current_stream_capturing()

    def _number(self, optimizer: Optimizer) -> int | None:
        """The optimizer's number, or None if it is none of ours; declares what is new."""
        number = self._optimizers.number(optimizer)
        if number is None:
            if not self._optimizers.find(optimizer):
                return None
            known = self._current and self._optimizers.covered(optimizer)
            (self._reassign if known else self._redeclare)()
            return self._optimizers.number(optimizer)
        if not self._current or self._optimizers.changed(number, optimizer):
            self._redeclare()
        return number

    def _redeclare(self) -> None:
        """Looks at models and optimizers again. An open step goes on if the tensors are the same."""
        self._current = True
        if self._draft is not None and not self._declared:
            self._declare()
        before = self._catalog.parameters()
        if self._catalog.scan():
            self._emit()
            self._preclip.move([None if p is None else self._catalog.column(p) for p in before])
        self._optimizers.assign()
        self._reassign()
        self._declare()

    def _reassign(self) -> None:
        """Other columns belong to other optimizers. Declared with the frame: a model may have an optimizer for each tensor."""
        self._reader.clear(self._draft)
        self._sampler.clear()
        self._flat = None
        self._declared = False

    def _declare(self) -> None:
        self._declared = True
        depths = self._catalog.depths(self._backward.order())
        tensors = self._catalog.tensors(depths, self._optimizers.owners)
        self._cuda = any(p is not None and p.is_cuda for p in self._catalog.parameters())
        self._schemas += 1
        self._on_schema(tensors, statistics(len(tensors), self._optimizers.groups(), self._every))
        if self._draft is not None:
            self._draft.schema = self._schemas

    def _take_step(self, number: int, optimizer: Optimizer, *, skipped: bool) -> int:
        """Measures what ``optimizer`` is about to use (or has just used, or will not use); gives the step."""
        draft = self._open(number)
        self._preclip.thread = threading.get_ident()
        self._optimizers.read_rates(number, optimizer)
        scaling = self._scaling
        if scaling is not None and scaling.concerns(optimizer):
            scaling.note(optimizer, draft.numbers, skipped=skipped)
        elif SKIPS and (skip := SKIPS.pop(optimizer, None)) is not None:
            draft.numbers["skipped"] = skip
        if draft.step % self._every == 0:
            grad_scale = getattr(optimizer, "grad_scale", None)
            self._reader.measure(draft, number, None if grad_scale is None else defer(grad_scale))
            self._current = self._current and not self._reader.lost
        elif self._preclip.entries:
            self._preclip.take(self._optimizers.columns(number)[0])
        return draft.step

    def _open(self, number: int) -> Draft:
        if self._steps.begins_new(number):
            if self._draft is not None:
                self._settled = self._settled or self._optimizers.cover()
                if self._settled:
                    self._backward.settle()
                self._emit()
            self._reader.begin()
            draft = Draft(self._steps.begin(number), self._clock(), self._schemas, len(self._catalog))
            step_time = self._costs.lap(self._timer())
            if step_time is not None:
                draft.numbers["step_time"] = Now(step_time)
            self._draft = draft
            return draft
        self._steps.begin(number)
        assert self._draft is not None
        return self._draft

    def _sample(self, number: int, optimizer: Optimizer) -> None:
        """Copies what the sampled statistics need, if it is their turn."""
        assert self._draft is not None
        begun = self._timer()
        columns = np.flatnonzero(self._optimizers.columns(number)[0])
        sample = self._sampler.before(self._draft.step, number, optimizer, columns)
        if sample is not None:
            self._draft.samples.append(sample)
        self._costs.sampling += self._timer() - begun

    def _end_sample(self, number: int) -> None:
        begun = self._timer()
        if self._sampler.after(number):
            self._costs.sampling += self._timer() - begun
            self._sampler.cadence.account(self._costs.sampling, self._costs.step_time, self._costs.fixed)

    def _end_step(self, number: int, optimizer: Optimizer) -> None:
        self._steps.taken()
        self._backward.stepped(number, optimizer)
        if self._settled and self._steps.complete(self._optimizers.alive()):
            self._emit()
            if self._flat is None:
                self._flat = self._flat_way(number, optimizer)

    def _flat_way(self, number: int, optimizer: Optimizer) -> Flat | None:
        """How the next steps can be taken if they are like this one and ordinary, else None."""
        ordinary = self._scaling is None and self._every == 1 and self._current and not self._cuda
        alone = len(self._optimizers) == 1 and not self._optimizers.nested(number)
        if not ordinary or not alone or not self._backward.hooked(number):
            return None
        return Flat(
            optimizer,
            number,
            measurer=self._reader.measurer(number),
            preclip=self._preclip,
            steps=self._steps,
            costs=self._costs,
            cadence=self._sampler.cadence,
            schema=self._schemas,
            width=len(self._catalog),
            on_frame=self._on_frame,
            clock=self._clock,
            timer=self._timer,
        )

    def _emit(self) -> None:
        if self._draft is not None and not self._declared:
            self._declare()
        draft, self._draft = self._draft, None
        if draft is not None:
            self._steps.close()
            draft.lr = self._optimizers.rates()
            self._on_frame(draft)
