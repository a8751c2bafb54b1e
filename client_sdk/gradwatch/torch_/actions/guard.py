"""The guard: hooks around the steps of some optimizers that do what the script asked for, on every rank alike.

The order within a step: the gradients are clipped and judged before anything is measured of them (so that a watched run
sees the norms before clipping), ranks agree, the multiplier is put on the learning rates; the optimizer steps or skips; the
multiplier comes off; what is known by now is judged, and a stop is raised.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from ...errors import ConfigError, GradwatchStop
from ...shield import Shield
from ..optimizers import takes_closure
from ..scalars import Flag, Later, Now, defer
from ..scaling import SKIPS
from ..step_hooks import after_steps, before_steps
from . import agree
from .adaptive import AdaGC, AdaptiveClip
from .clip import total_norm, whole
from .parts import SEVERITIES, CutLR, SkipNonFinite, Stop, StopOn, Trouble
from .rates import Rates
from .record import Action, Budget, Purse
from .rules import NormLevel
from .scaled import steps_by_flag, under_scaler, unscale

__all__ = ["Guard", "Part", "guard"]

Part: TypeAlias = "AdaptiveClip | AdaGC | SkipNonFinite | CutLR | StopOn"


def guard(
    optimizer: Optimizer,
    parts: Part | Iterable[Part],
    *,
    run: RunLike | None = None,
    budget: Budget = Budget(),
    on_action: Callable[[Action], object] = lambda action: None,
) -> Guard:
    """Has ``parts`` act on the steps of ``optimizer`` from now on; no run and no server is needed.

    ::

        gradwatch.guard(optimizer, [gradwatch.AdaptiveClip(), gradwatch.SkipNonFinite()], run=run)

    With a run every action stands on its timeline and in its audit list, its ``log`` tells the parts of loss and metrics,
    and the incidents of its health engine count too. Among several processes every one must call this, in the same way.

    Raises:
        ConfigError: parts that do not go together, an optimizer that cannot be guarded, or ranks that cannot agree.
    """
    several = list(parts) if isinstance(parts, Iterable) else [parts]
    made = Guard(optimizer, several, budget=budget, on_action=on_action)
    if run is not None:
        made.follow(run)
    made.attach()
    return made


class RunLike(Protocol):
    """What a guard needs of a run."""

    def join(self, actor: Any) -> Callable[[], int] | None:
        """Tells ``actor`` what is logged and found; gives what tells the coming step."""

    def acted(self, step: int, data: Mapping[str, Any]) -> None:
        """Notes an action."""


class Guard:
    """See :func:`guard`. ``actions`` holds the last 200 of them."""

    def __init__(
        self,
        optimizer: Optimizer,
        parts: Sequence[Part],
        *,
        budget: Budget = Budget(),
        on_action: Callable[[Action], object] = lambda action: None,
        shield: Shield | None = None,
    ) -> None:
        _check(optimizer, parts)
        agree.check()
        self.actions: deque[Action] = deque(maxlen=200)
        self.on_action = on_action
        self._step_of: Callable[[], int] | None = None
        self._run: RunLike | None = None
        self._shield = Shield(_tell) if shield is None else shield
        self._optimizer = weakref.ref(optimizer)
        self._clips = [part for part in parts if isinstance(part, (AdaptiveClip, AdaGC))]
        self._skips = any(isinstance(part, SkipNonFinite) for part in parts)
        self._cut = next((part for part in parts if isinstance(part, CutLR)), None)
        self._stops = [part for part in parts if isinstance(part, StopOn)]
        self._level = NormLevel()
        self._purse = Purse(budget)
        self._waiting: deque[tuple[int, Later | Now]] = deque(maxlen=64)
        self._heard: deque[Trouble] = deque(maxlen=64)
        self._values: deque[tuple[str, Later | Now]] = deque(maxlen=4096)
        self._open_incidents: dict[str, str] = {}
        """Severity by id."""
        self._told_kinds: deque[tuple[str, str]] = deque(maxlen=64)
        """Id and kind of the last incidents, open or not: what a later one may name as its cause."""
        self._rates = Rates()
        self._steps = 0
        self._step = 0
        self._skipping = False
        self._trouble = ""
        self._stop: Stop | None = None
        self._undo: list[Callable[[], None]] = []
        for clip in self._clips:
            if isinstance(clip, AdaptiveClip):
                clip.on_action = self._record

    # --- what comes from outside --------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Puts the hooks in place, in front of those that measure."""
        self._undo = [
            before_steps(self._guarded(self._before, "acting before a step"), first=True),
            after_steps(self._guarded(self._after, "acting after a step")),
        ]
        optimizer = self._optimizer()
        if optimizer is not None and self._skips:
            drop = optimizer.register_step_pre_hook(self._guarded(self._drop, "skipping a step"))
            self._undo.append(drop.remove)

    def _guarded(self, hook: Callable[..., None], where: str) -> Any:
        """Shielded, but not among ranks: one that goes on without the others would leave them waiting."""
        disable: Any = torch.compiler.disable
        return disable(hook if agree.together() else self._shield.wrap(hook, where))

    def remove(self) -> None:
        """Takes the hooks away; learning rates are those of the script. May be called again."""
        self._rates.restore()
        while self._undo:
            self._undo.pop()()

    def follow(self, run: RunLike) -> None:
        """Listens to ``run`` and tells it of every action."""
        self._run = run
        self._step_of = run.join(self)

    def log(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Values that parts listen to, such as ``loss`` or a metric. A run's ``log`` passes its own on."""
        for name, value in {**(values or {}), **more}.items():
            if isinstance(value, Mapping):
                self.log({f"{name}/{key}": item for key, item in value.items()})
            else:
                self.value(str(name), value)

    def value(self, name: str, value: Any) -> None:
        """One value; what is on a device is read once it has arrived."""
        number = defer(value)
        if number is not None and (self._stops or self._cut is not None):
            self._values.append((name, number))

    def incident(
        self, id: str, kind: str, severity: str, reason: str, *, open: bool, cause: str = ""
    ) -> None:
        """What the health engine has found; may come from any thread, and is looked at after the next step.

        An incident is heard when it opens and whenever it gets worse. ``cause`` is the id of the one that led to it.
        """
        before = self._open_incidents.get(id)
        if before is None:
            self._told_kinds.append((id, kind))
        if not open:
            self._open_incidents.pop(id, None)
            return
        self._open_incidents[id] = severity
        if before is None or SEVERITIES.index(severity) > SEVERITIES.index(before):
            led = next((k for i, k in self._told_kinds if i == cause), "")
            self._heard.append(Trouble(kind=kind, severity=severity, reason=reason, local=False, cause=led))

    # --- a step -------------------------------------------------------------------------------------------------------

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if optimizer is not self._optimizer():
            return
        if takes_closure(optimizer, args, kwargs):
            raise ConfigError("actions cannot act on a step that computes its gradients itself, by a closure")
        self._rates.restore()
        self._step = self._steps if self._step_of is None else self._step_of()
        self._steps += 1
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        unscale(optimizer, parameters)
        total = self._clip(parameters) if parameters else torch.tensor(0.0)
        self._decide(optimizer, total)
        if self._cut is not None and self._cut.multiplier != 1.0:
            self._rates.scale(optimizer, self._cut.multiplier)

    def _clip(self, parameters: list[Tensor]) -> Tensor:
        total: Tensor | None = None
        for clip in self._clips:
            if isinstance(clip, AdaptiveClip):
                clip.held = bool(self._open_incidents)
            seen = clip(parameters, step=self._step)
            total = seen if total is None else total
        if total is None:
            total = total_norm([p.grad for p in parameters if p.grad is not None])
        return whole(total)

    def _decide(self, optimizer: Optimizer, total: Tensor) -> None:
        """What all ranks do at this step. The host waits for the device only if it must know."""
        together, scaled = agree.together(), under_scaler(optimizer)
        by_flag = self._skips and not together and steps_by_flag(optimizer)
        self._skipping = False
        if together or (self._skips and not by_flag and not scaled):
            asked = 0 if self._stop is None else self._stop.asked
            flags = [float(not total.isfinite()), float(asked), float(bool(self._trouble))]
            bad, stop, trouble = agree.agree(flags, total.device)
            self._skipping = self._skips and bad > 0 and not scaled
            if stop > asked:
                self._stop = self._stop_for(int(stop), "another rank asks to stop")
            if trouble and not self._trouble:
                self._trouble = "trouble on another rank"
            total = torch.tensor(math.nan) if bad else total
        if self._skips and not scaled:
            if by_flag:
                found = total.isfinite().logical_not().float().reshape(())
                optimizer.found_inf = found  # type: ignore[attr-defined]
                SKIPS[optimizer] = Flag(defer(found) or Now(0.0))
            elif self._skipping:
                SKIPS[optimizer] = Now(1.0)
        self._cut_rates(optimizer)
        number = defer(total)
        if number is not None and not scaled:
            self._waiting.append((self._step, number))

    def _cut_rates(self, optimizer: Optimizer) -> None:
        cut, trouble, self._trouble = self._cut, self._trouble, ""
        if cut is None:
            return
        rate = optimizer.param_groups[0].get("lr")
        if isinstance(rate, float):
            cut.see(rate)
        old = cut.multiplier
        if not trouble:
            if (risen := cut.quiet_step(self._step)) is not None:
                self._do("lr_recover", "no trouble for a while", old, risen, cut.bounds)
        elif (new := cut.trouble(self._step)) is not None:
            if not self._purse.allows(self._step):
                self._ask_to_stop(
                    f"the learning rate was cut as often as the budget allows, and still: {trouble}"
                )
                return
            self._purse.spend(self._step)
            cut.cut(self._step, new)
            self._do("lr_cut", trouble, old, new, cut.bounds)

    def _drop(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """After everybody has looked at the gradients."""
        if self._skipping:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if optimizer is not self._optimizer():
            return
        self._rates.restore()
        if self._skips and not under_scaler(optimizer):
            vars(optimizer).pop("found_inf", None)
        agreed = self._stop
        self._judge_norms()
        self._judge_values()
        self._judge_incidents()
        due = agreed if agree.together() else self._stop
        if due is not None:
            self._raise(due)

    # --- what is known by now -----------------------------------------------------------------------------------------

    def _judge_norms(self) -> None:
        while self._waiting and self._waiting[0][1].ready():
            step, number = self._waiting.popleft()
            norm = number()
            finite = math.isfinite(norm)
            if not finite and self._skips:
                self._skipped(step)
            self._level.add(norm, hold=bool(self._open_incidents))
            ended = not finite and self._level.high
            seen = {"nonfinite": not finite, "exploding": self._level.exploding or ended}
            for kind, bad in seen.items():
                reason = f"{_WORDS[kind]}: the norm is {norm:.3g}"
                for part in self._stops:
                    if part.answers(kind) and part.seen(kind, bad):
                        self._ask_to_stop(reason, part)
            if self._level.exploding and self._cut is not None:
                self._trouble = f"{_WORDS['exploding']}: the norm is {norm:.3g}"

    def _skipped(self, step: int) -> None:
        why = self._purse.skip(step)
        if self._purse.skipping == 1:
            self._do("skip", "the gradients are not all finite", at=step)
        if why:
            self._ask_to_stop(why)

    def _judge_values(self) -> None:
        while self._values and self._values[0][1].ready():
            name, number = self._values.popleft()
            value = number()
            for part in self._stops:
                if reason := part.value(name, value):
                    self._ask_to_stop(reason, part)
            if self._cut is not None and name == self._cut.metric and self._cut.loss.add(value):
                self._trouble = f"{name} {value:.4g} has left its level for the worse"

    def _judge_incidents(self) -> None:
        while self._heard:
            trouble = self._heard.popleft()
            for part in self._stops:
                if part.wants(trouble):
                    self._ask_to_stop(trouble.reason or f"{trouble.severity} incident: {trouble.kind}", part)
            if self._cut is not None and trouble.kind in self._cut.kinds and trouble.severity != "info":
                self._trouble = trouble.reason or trouble.kind

    # --- what is done -------------------------------------------------------------------------------------------------

    def _ask_to_stop(self, reason: str, part: StopOn | None = None) -> None:
        if self._stop is None:
            asked = (
                len(self._stops) if part is None else next(n for n, p in enumerate(self._stops) if p is part)
            )
            self._stop = self._stop_for(asked + 1, reason)

    def _stop_for(self, asked: int, reason: str) -> Stop:
        """The stop that part number ``asked``, from 1, asks for; one more than there are is the guard's own wish."""
        saves = [part.checkpoint for part in self._stops]
        first = next((save for save in saves if save is not None), None)
        return Stop(reason, asked, [*saves, first][asked - 1])

    def _raise(self, stop: Stop) -> None:
        self._do("stop", stop.reason)
        self.remove()
        if stop.checkpoint is not None:
            stop.checkpoint()
        raise GradwatchStop(f"training stops at step {self._step}: {stop.reason}")

    def _do(
        self,
        kind: str,
        reason: str,
        old: float | None = None,
        new: float | None = None,
        bounds: Mapping[str, float] | None = None,
        at: int | None = None,
    ) -> None:
        step = self._step if at is None else at
        self._record(Action(kind=kind, step=step, reason=reason, old=old, new=new, bounds=bounds or {}))

    def _record(self, action: Action) -> None:
        self.actions.append(action)
        if self._run is not None:
            self._run.acted(action.step, action.plain())
        self.on_action(action)


_WORDS: Final = {"nonfinite": "gradients are not finite", "exploding": "gradient norms explode"}


def _tell(text: str) -> None:
    print(f"gradwatch: {text}", file=sys.stderr)


def _check(optimizer: Any, parts: Sequence[Any]) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"actions work on a torch optimizer, not {type(optimizer).__name__}")
    if isinstance(optimizer, LBFGS):
        raise ConfigError("actions do not work with LBFGS, which takes several gradients in one step")
    for part in parts:
        if not isinstance(part, (AdaptiveClip, AdaGC, SkipNonFinite, CutLR, StopOn)):
            raise ConfigError(
                f"guard() takes AdaptiveClip, AdaGC, SkipNonFinite, CutLR and StopOn, not {type(part).__name__}"
            )
    for kind in (SkipNonFinite, CutLR):
        if sum(isinstance(part, kind) for part in parts) > 1:
            raise ConfigError(f"guard() takes one {kind.__name__}")
