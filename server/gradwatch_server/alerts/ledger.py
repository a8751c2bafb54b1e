"""The one alert of a rule in a run: open while any series is active, however many there are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ..models import Alert, Rule
from .machine import Bools
from .sentences import alert_sentence
from .signals import Floats, badness

WORST: Final = 5
"""How many series an alert names."""


@dataclass(frozen=True, slots=True)
class AlertChange:
    """An alert that opened, changed or closed. ``quiet``: within the cool-down, so nobody needs a message."""

    kind: Literal["opened", "updated", "closed"]
    alert: Alert
    quiet: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Rows in which something was active or became so: ``signal``, ``active`` and ``breach`` (active and beyond the
    threshold) are ``[n, m]`` over the series ``columns`` ``[m]``, positions within the rule's series."""

    steps: Floats
    times: Floats
    signal: Floats
    active: Bools
    breach: Bools
    columns: npt.NDArray[np.intp]


class Ledger:
    """Keeps the alert of one rule in one run. ``names`` are the names of the rule's series."""

    def __init__(self, rule: Rule, run_id: str, names: Sequence[str]) -> None:
        self.rule = rule
        self.run_id = run_id
        self.names = names
        self.alert: Alert | None = None
        """The open alert, or the last one."""
        self.fired = np.zeros(len(names), np.bool_)
        self.peaks = np.full(len(names), np.nan)
        self._named: list[tuple[int, float]] = []
        """The worst few that the alert names, with their peaks."""

    @property
    def open(self) -> bool:
        """Whether the alert is open."""
        return self.alert is not None and self.alert.cleared_step is None

    def grow(self, names: Sequence[str]) -> None:
        """There are more series now, the old ones first."""
        extra = len(names) - len(self.names)
        self.names = names
        self.fired = np.concatenate([self.fired, np.zeros(extra, np.bool_)])
        self.peaks = np.concatenate([self.peaks, np.full(extra, np.nan)])

    def follow(self, stretch: Stretch) -> list[AlertChange]:
        """What the rows mean for the alert."""
        lit: list[bool] = np.logical_or.reduce(stretch.active, axis=1).tolist()
        starts = [row for row in range(len(lit)) if row == 0 or lit[row] != lit[row - 1]]
        changes: list[AlertChange] = []
        for start, end in zip(starts, [*starts[1:], len(lit)], strict=True):
            step, time = int(stretch.steps[start]), float(stretch.times[start])
            if lit[start]:
                opens = not self.open
                if opens:
                    self._open(step, time)
                if self._collect(stretch, slice(start, end)) or opens:
                    changes.append(self._told("opened" if opens else "updated"))
            elif self.open:
                changes.append(self.close(step, time))
        return changes

    def close(self, step: int, time: float, reason: str = "") -> AlertChange:
        """Ends the open alert."""
        alert = self._told("updated").alert
        self.alert = replace(alert, cleared_step=step, cleared_time=time, reason=reason)
        return AlertChange("closed", self.alert)

    def _open(self, step: int, time: float) -> None:
        last, rule = self.alert, self.rule
        cleared = None if last is None or last.reason else last.cleared_step
        if last is not None and cleared is not None and 0 <= step - cleared < rule.cooldown_steps:
            self.alert = replace(last, cleared_step=None, cleared_time=None)
            return
        self.fired[:] = False
        self.peaks[:] = np.nan
        self.alert = Alert(
            id=alert_id(rule, self.run_id, step, time),
            rule_id=rule.id,
            run_id=self.run_id,
            rule_name=rule.name,
            severity=rule.severity,
            statistic=rule.statistic,
            condition=rule.condition,
            threshold=rule.threshold,
            opened_step=step,
            opened_time=time,
        )

    def _collect(self, stretch: Stretch, rows: slice) -> bool:
        """Adds what is active in these rows to the alert; whether that told anything new."""
        columns, breach, signal = stretch.columns, stretch.breach[rows], stretch.signal[rows]
        fires = stretch.active[rows].any(axis=0)
        new = fires & ~self.fired[columns]
        self.fired[columns] |= fires
        bad = np.where(breach, badness(self.rule, signal), -np.inf)
        at, across = bad.argmax(axis=0), np.arange(columns.size)
        known = self.peaks[columns]
        if self.rule.condition in ("nonfinite", "silent"):
            worse = new & breach[at, across]
        else:
            worse = breach[at, across] & (np.isnan(known) | (bad[at, across] > badness(self.rule, known)))
        self.peaks[columns[worse]] = signal[at, across][worse]
        return bool(new.any()) or (bool(worse.any()) and self._worst() != self._named)

    def _worst(self) -> list[tuple[int, float]]:
        fired = np.flatnonzero(self.fired)
        bad = badness(self.rule, self.peaks[fired])
        order = fired[np.argsort(-np.where(np.isnan(bad), -np.inf, bad), kind="stable")[:WORST]]
        return list(zip(order.tolist(), self.peaks[order].tolist(), strict=True))

    def _told(self, kind: Literal["opened", "updated"]) -> AlertChange:
        assert self.alert is not None
        quiet = kind == "opened" and self.alert.count > 0
        self._named = self._worst()
        alert = replace(
            self.alert,
            count=int(np.count_nonzero(self.fired)),
            worst=tuple(self.names[index] for index, _ in self._named),
            peak=self._named[0][1],
        )
        self.alert = replace(alert, sentence=alert_sentence(self.rule, alert))
        return AlertChange(kind, self.alert, quiet)


def alert_id(rule: Rule, run_id: str, step: int, time: float) -> str:
    """The same for the same firing, so that judging rows again after a restart makes no second alert."""
    text = f"{rule.id}|{rule.version}|{run_id}|{step}|{time!r}"
    return hashlib.blake2s(text.encode(), digest_size=10).hexdigest()
