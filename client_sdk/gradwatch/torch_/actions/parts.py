"""The parts of a guard: what to skip, when to cut the learning rate, when to stop. Each keeps to its own rule."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

from ...errors import ConfigError
from .rules import LossLevel, Mode, Patience

__all__ = ["KINDS", "SEVERITIES", "CutLR", "SkipNonFinite", "Stop", "StopOn", "Trouble"]

SEVERITIES: Final = ("info", "warning", "critical")
KINDS: Final = (
    "accumulating", "bad_init", "bad_rank", "clip_too_tight", "dead", "disconnected", "diverging", "exploding",
    "loss_scale", "nonfinite", "oscillating", "overfitting", "saturated", "spike", "stalled", "stopped", "vanishing",
)  # fmt: skip
"""Those of the health engine, which this part of the package does not load."""
_RAISED: Final = 100
"""Steps within which a rise of the learning rate is remembered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """Something that a rule in this process, or the server's health engine, has seen."""

    kind: str
    severity: str
    reason: str
    local: bool = True
    cause: str = ""
    """The kind of the incident that this one names as its cause, "" for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkipNonFinite:
    """Leaves out steps whose gradients are not all finite: weights and optimizer state stay as they are.

    A fused optimizer is told by its ``found_inf``, without the host waiting for the device; of others the gradients are set
    to None, for which the host must know. Nothing is ever multiplied by zero: that keeps NaN. How many steps may be skipped
    says the guard's :class:`~.record.Budget`.
    """


class CutLR:
    """Cuts the learning rate when the loss leaves its level or norms explode, and lets it recover.

    A cut multiplies by ``factor``; if the script has raised its rate within the last 100 steps, it goes back to what it was
    where that is lower.

    Schedulers never see it: the multiplier is put on just before a step and taken off just after. The rules are
    :class:`~.rules.LossLevel`, on the scalar ``metric`` that the script logs, and :class:`~.rules.NormLevel`.

    Args:
        factor: what a cut multiplies by.
        least: the multiplier never goes below.
        hold: steps after a cut in which there is no other.
        recover, quiet: after ``quiet`` steps without trouble, and again after as many, it rises by this factor, up to 1.
        metric: the logged scalar that is the loss.
        on: which kinds of incidents of the server cut as well.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        *,
        factor: float = 0.5,
        least: float = 0.05,
        hold: int = 40,
        recover: float = 1.05,
        quiet: int = 50,
        metric: str = "loss",
        on: Collection[str] = ("diverging", "exploding"),
    ) -> None:
        if not (0 < factor < 1 and 0 < least <= 1 and hold >= 1 and recover >= 1 and quiet >= 1):
            raise ConfigError(
                "CutLR takes 0 < factor < 1, 0 < least <= 1, hold >= 1, recover >= 1 and quiet >= 1"
            )
        self.factor, self.least, self.hold = factor, least, hold
        self.recover, self.quiet = recover, quiet
        self.metric, self.kinds = metric, frozenset(on)
        self.multiplier = 1.0
        self.loss = LossLevel()
        self._rates: deque[float] = deque(maxlen=_RAISED)
        self._last_cut: int | None = None
        self._last_trouble = 0

    @property
    def bounds(self) -> dict[str, float]:
        """For the audit list."""
        return {"least": self.least, "most": 1.0}

    def see(self, rate: float) -> None:
        """The rate that the script has set for the coming step."""
        self._rates.append(rate)

    def trouble(self, step: int) -> float | None:
        """There is trouble at ``step``; gives the new multiplier, None if it stays."""
        self._last_trouble = step
        too_soon = self._last_cut is not None and step - self._last_cut < self.hold
        wanted = self.multiplier * self.factor
        if self._rates and self._rates[-1] > 1.2 * min(self._rates) > 0:
            wanted = min(wanted, min(self._rates) / self._rates[-1])
        new = max(wanted, self.least)
        return None if too_soon or new >= self.multiplier else new

    def cut(self, step: int, multiplier: float) -> None:
        """The cut is made."""
        self.multiplier, self._last_cut = multiplier, step

    def quiet_step(self, step: int) -> float | None:
        """A step without trouble; gives the multiplier if it may rise now."""
        since = step - max(self._last_trouble, self._last_cut or 0)
        if self.multiplier >= 1.0 or self.recover == 1.0 or since == 0 or since % self.quiet:
            return None
        self.multiplier = min(self.multiplier * self.recover, 1.0)
        return self.multiplier


ENDS_IN: Final[dict[str, tuple[str, ...]]] = {"exploding": ("exploding", "diverging")}
"""A fault is told once, by what is seen first: an explosion may be known by its loss. Kinds that count as the one asked for."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why training stops, for which part (ranks agree on the largest), and what to call before it does, on every rank: a
    checkpoint of shards takes all of them."""

    reason: str
    asked: int
    checkpoint: Callable[[], object] | None = None


class StopOn:
    """Raises :class:`gradwatch.GradwatchStop` at the end of a step once there is trouble of one of the kinds.

    Without a server this process itself sees ``nonfinite``, ``exploding`` and ``diverging`` (the logged ``loss``), all
    ``critical``. With one, or with ``mode="local"``, the incidents of the health engine count too, of any of its kinds, as
    soon as they are or become grave enough. ``exploding`` also answers to a ``diverging`` loss, and to gradients that became
    ``nonfinite`` because of either: that is how an explosion is often told. NaN from another source is none.

    Args:
        kind: of trouble, or several of them; "" for any.
        severity: the least that counts: ``info``, ``warning`` or ``critical``.
        after: steps in a row, or values of the rule, that have to be bad before a local rule counts.
        checkpoint: called before the exception is raised, to save the model.

    Raises:
        ConfigError: an unknown kind or severity.
    """

    def __init__(
        self,
        kind: str | Collection[str] = "",
        severity: Literal["info", "warning", "critical"] = "critical",
        *,
        after: int = 5,
        checkpoint: Callable[[], object] | None = None,
    ) -> None:
        asked = ((kind,) if kind else ()) if isinstance(kind, str) else tuple(kind)
        if unknown := [name for name in asked if name not in KINDS]:
            raise ConfigError(f"StopOn knows no {unknown[0]!r}; its kinds are {', '.join(KINDS)}")
        if severity not in SEVERITIES:
            raise ConfigError(f"StopOn(severity=) is one of {', '.join(SEVERITIES)}, not {severity!r}")
        if after < 1:
            raise ConfigError("StopOn(after=) must be 1 or more")
        self.kinds = frozenset(end for name in asked for end in ENDS_IN.get(name, (name,)))
        self.severity, self.after = severity, after
        self.checkpoint = checkpoint
        self.name = ""
        self.patience: Patience | None = None
        self.loss = LossLevel()
        self._bad: dict[str, int] = {}

    @classmethod
    def metric(
        cls,
        name: str,
        patience: int,
        *,
        min_delta: float = 0.0,
        mode: Mode = "min",
        checkpoint: Callable[[], object] | None = None,
    ) -> StopOn:
        """Early stopping: ``name``, as it is logged, has not improved by ``min_delta`` in ``patience`` values.

        Raises:
            ConfigError: ``mode`` is not ``min`` or ``max``, or patience is below 1.
        """
        if mode not in ("min", "max") or patience < 1 or min_delta < 0:
            raise ConfigError("StopOn.metric takes patience >= 1, min_delta >= 0 and mode 'min' or 'max'")
        made = cls(checkpoint=checkpoint)
        made.name, made.patience = name, Patience(patience, min_delta, mode)
        return made

    def answers(self, kind: str) -> bool:
        """Whether trouble of this kind is its business."""
        return self.patience is None and (not self.kinds or kind in self.kinds)

    def wants(self, trouble: Trouble) -> bool:
        """Whether it is of a right kind, or what an explosion ended in, and grave enough."""
        ended = trouble.kind == "nonfinite" and "exploding" in self.kinds and trouble.cause in self.kinds
        grave = SEVERITIES.index(trouble.severity) >= SEVERITIES.index(self.severity)
        return grave and (self.answers(trouble.kind) or ended)

    def seen(self, kind: str, bad: bool) -> bool:
        """One look of a local rule; whether it was bad often enough in a row."""
        self._bad[kind] = self._bad.get(kind, 0) + 1 if bad else 0
        return self._bad[kind] >= self.after

    def value(self, name: str, value: float) -> str:
        """A logged value; gives the reason to stop, "" for none."""
        if self.patience is not None:
            if name != self.name or not self.patience.add(value):
                return ""
            return f"{name} has not improved on {self.patience.best:.4g} in {self.patience.since} values"
        if name == "loss" and self.answers("diverging") and self.seen("diverging", self.loss.add(value)):
            return f"the loss {value:.4g} has left its level for the worse"
        return ""
