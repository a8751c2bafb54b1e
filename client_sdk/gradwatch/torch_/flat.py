"""The ordinary step in one go: one known optimizer, no scaler, nothing new. Whatever else goes the long way.

After a backward the processor's caches are cold, and every function and object that is touched costs ten times what it does in a
loop: what matters here is to touch few. The frames are those that the long way would make.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from torch.optim import Optimizer

from ..frames import Frame, PendingFrame
from . import forked
from .costs import Costs
from .draft import Clip, Draft
from .measured import Norms
from .norms import Measurer
from .preclip import Preclip
from .sampled import Cadence
from .scalars import Now
from .scaling import SKIPS
from .steps import Steps

__all__ = ["Flat"]


@dataclass(eq=False, slots=True)
class _Ordinary:
    """What one ordinary step has given. Is a :class:`~gradwatch.frames.PendingFrame`."""

    step: int
    time: float
    step_time: float | None
    norms: Norms
    clips: list[Clip]
    rates: list[float]
    schema: int
    width: int

    def ready(self) -> bool:
        """True: all is on the host."""
        return True

    def resolve(self) -> Frame:
        """The frame."""
        return Draft(
            step=self.step,
            time=self.time,
            schema=self.schema,
            width=self.width,
            parts=[self.norms],
            clips=self.clips,
            numbers={} if self.step_time is None else {"step_time": Now(self.step_time)},
            lr=[Now(rate) for rate in self.rates],
        ).resolve()


class Flat:
    """Takes the steps of one optimizer as long as they are ordinary.

    Made after a step that went the long way, and thrown away as soon as anything changes that it was made for: columns,
    optimizers, hooks, a scaler.

    Args:
        optimizer: the only one; its closures are none of ours.
        number: its number.
        measurer: reads all columns that are to be read at its steps, which are on the CPU.
        schema, width: of the frames.
        on_frame: gets each step's frame.
        clock: Unix time.
        timer: seconds, for durations.
    """

    __slots__ = (
        "_cadence", "_clock", "_costs", "_forks", "_generation", "_measurer", "_number", "_on_frame", "_optimizer", "_preclip",
        "_quiet_until", "_schema", "_sizes", "_skips", "_steps", "_thread", "_timer", "_width",
    )  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        number: int,
        *,
        measurer: Measurer,
        preclip: Preclip,
        steps: Steps,
        costs: Costs,
        cadence: Cadence,
        schema: int,
        width: int,
        on_frame: Callable[[PendingFrame], None],
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._sizes = [len(group["params"]) for group in optimizer.param_groups]
        self._forks = forked.FORKS
        self._generation = forked.generation()
        self._thread = get_ident()
        self._skips: Mapping[Any, Any] = SKIPS.data  # type: ignore[attr-defined]  # its len() is a function in Python
        self._quiet_until = 0
        self._number = number
        self._measurer = measurer
        self._preclip = preclip
        self._steps = steps
        self._costs = costs
        self._cadence = cadence
        self._schema = schema
        self._width = width
        self._on_frame = on_frame
        self._clock = clock
        self._timer = timer

    def take(self, optimizer: Optimizer) -> bool:
        """Measures what ``optimizer`` is about to use and hands out the frame. False, and nothing is done, if anything about
        this step is out of the ordinary."""
        begun = self._timer()
        steps = self._steps
        step = steps.current + 1
        groups = optimizer.param_groups
        if (
            self._optimizer() is not optimizer
            or not steps.closed
            or self._skips
            or self._forks[0] != self._generation
            or get_ident() != self._thread
            or not steps.backward
            or getattr(optimizer, "grad_scale", None) is not None
            or len(groups) != len(self._sizes)
            or (not self._quiet_until > step >= self._cadence.closely_until and self._sampling(step))
        ):
            return False
        rates: list[float] = []
        for group, size in zip(groups, self._sizes, strict=True):
            rate = group.get("lr")
            if type(rate) is not float or len(group["params"]) != size:
                return False
            rates.append(rate)
        clips: list[Clip] = []
        if self._preclip.entries:
            entry = self._preclip.take_whole()
            if entry is None:
                return False
            norms, clips = entry.norms, entry.clips
        else:
            measured = self._measurer.again()
            if measured is None:
                return False
            norms = measured
        steps.pass_by(self._number)
        costs = self._costs
        step_time = costs.lap(begun)
        self._on_frame(
            _Ordinary(step, self._clock(), step_time, norms, clips, rates, self._schema, self._width)
        )
        costs.spent += self._timer() - begun
        return True

    def _sampling(self, step: int) -> bool:
        """Whether samples are wanted at this step; if not, notes how long they will not be."""
        wanted = self._cadence.wants(step)
        self._quiet_until = 0 if wanted else self._cadence.quiet_until(step)
        return wanted
