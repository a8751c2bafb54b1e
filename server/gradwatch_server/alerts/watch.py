"""One rule in one run: its instances, the history that its verdicts need, and its alert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..models import InstanceState, Rule, Transition
from .ledger import AlertChange, Ledger, Stretch
from .machine import BREACH, Bools, Instances, Verdicts, advance
from .signals import Floats, Memo, history, is_plain, judge


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Values of one statistic: ``values`` ``[n, w]`` over all series of the run (or of the rule), NaN where absent."""

    steps: Floats
    times: Floats
    values: npt.NDArray[Any]
    present: Bools | None

    def last(self, n: int) -> Rows:
        """The last ``n`` of them."""
        keep = slice(max(0, len(self.steps) - n), None)
        return Rows(
            self.steps[keep],
            self.times[keep],
            self.values[keep],
            None if self.present is None else self.present[keep],
        )


class Watch:
    """Judges rows in the order they come.

    ``columns`` are the series of the run that the rule is about, rising; ``names`` those of all series of the run. Unless
    it ``tells_series``, only the alert is followed, not the transitions of each series.
    """

    def __init__(
        self,
        rule: Rule,
        run_id: str,
        columns: npt.NDArray[np.intp],
        names: Sequence[str],
        *,
        tells_series: bool = True,
    ) -> None:
        self.rule = rule
        self._tells_series = tells_series
        self.run_id = run_id
        self.columns = columns
        self.ledger = Ledger(rule, run_id, [names[index] for index in columns])
        self.instances = Instances.fresh(columns.size)
        self.plain = is_plain(rule)
        self.quiet = True
        """All series are normal: a plain rule then needs no look at rows that breach nothing."""
        self.step = -1.0
        """The step after which its state last changed."""
        self.judged_to = -1.0
        """Rows up to this step were judged before a restart: they are history only."""
        self.unsure = False
        """Restored: rows between the stored state and the first ones to come may be missing."""
        self.history = history(rule)
        """How many rows before a row it must see."""
        self._memo: Memo = {}
        self.linger = 0
        """Rows that are still to be judged closely, because a value within their window is beyond the threshold."""

    def state(self) -> InstanceState:
        """The worst state of its series."""
        return self.instances.worst()

    def grow(self, columns: npt.NDArray[np.intp], names: Sequence[str]) -> None:
        """The run has more series now; ``columns`` begins with the ones that were there, which keep their state."""
        self.columns = columns
        self.instances.grow(columns.size)
        self._memo.clear()
        self.ledger.grow([names[index] for index in columns])

    def observe(self, rows: Rows, before: Rows) -> tuple[list[Transition], list[AlertChange]]:
        """Takes rows over all series of the run through the machine: what fired and cleared, and the alert's changes.

        ``before`` are the rows that came before them, at least :attr:`history` if there were so many.
        """
        seen = self._see(rows, before)
        judged = judge(
            self.rule, seen.values, seen.present, seen.steps, seen.times, len(rows.steps), self._memo
        )
        if self.unsure:
            self._take_up(float(rows.steps[0]))
        new = rows.steps > self.judged_to
        if not new.any():
            return [], []
        return self._advance(rows.steps[new], rows.times[new], judged.signal[new], judged.verdicts[new])

    def silence(self, gap: float, step: int, now: float) -> tuple[list[Transition], list[AlertChange]]:
        """No row for ``gap`` seconds, for a rule about silence. The rows that end it are judged by :meth:`observe`."""
        if gap <= self.rule.threshold:
            return [], []
        shape = (self.rule.for_steps, self.columns.size)
        steps, times = np.full(shape[0], float(step)), np.full(shape[0], now)
        return self._advance(steps, times, np.full(shape, gap), np.full(shape, BREACH, np.int8))

    def _take_up(self, first: float) -> None:
        """The first rows after a restart. If some were left out, counts from before them say nothing."""
        if first > self.judged_to:
            self.instances.count[:] = 0
        self.unsure = False

    def _see(self, rows: Rows, before: Rows) -> Rows:
        """The rule's own columns as float64, with its history in front (NaN where there were no rows yet)."""
        values = rows.values[:, self.columns].astype(np.float64)
        present = None if rows.present is None else rows.present[:, self.columns]
        if not self.history:
            return Rows(rows.steps, rows.times, values, present)
        had = min(self.history, len(before.steps))
        joined = np.full((self.history + len(values), self.columns.size), np.nan)
        joined[self.history - had : self.history] = before.values[len(before.steps) - had :, self.columns]
        joined[self.history :] = values
        missing = self.history - had
        steps = np.concatenate([np.full(missing, -1.0), before.steps[len(before.steps) - had :], rows.steps])
        times = np.concatenate(
            [np.full(missing, np.nan), before.times[len(before.times) - had :], rows.times]
        )
        return Rows(steps, times, joined, present)

    def _advance(
        self, steps: Floats, times: Floats, signal: Floats, verdicts: Verdicts
    ) -> tuple[list[Transition], list[AlertChange]]:
        matter = np.flatnonzero((verdicts == BREACH).any(axis=0) | self.instances.busy)
        if not matter.size:
            return [], []
        some = self.instances.take(matter)
        before = some.active[None, :]
        active = advance(some, verdicts[:, matter], self.rule.for_steps, self.rule.recover_steps)
        self.instances.put(matter, some)
        self.quiet = not bool(self.instances.busy.any())
        breach = active & (verdicts[:, matter] == BREACH)
        stretch = Stretch(steps, times, signal[:, matter], active, breach, matter)
        edges = active != np.concatenate([before, active[:-1]])
        changes = self.ledger.follow(stretch)
        if changes or edges.any():
            self.step = float(steps[-1])
        return self._transitions(stretch, edges) if self._tells_series else [], changes

    def _transitions(self, stretch: Stretch, edges: Bools) -> list[Transition]:
        return [
            Transition(
                rule_id=self.rule.id,
                run_id=self.run_id,
                series=self.ledger.names[stretch.columns[column]],
                old=self._left(bool(stretch.active[row, column])),
                new="firing" if stretch.active[row, column] else "normal",
                step=int(stretch.steps[row]),
                time=float(stretch.times[row]),
                value=float(stretch.signal[row, column]),
            )
            for row, column in np.argwhere(edges).tolist()
        ]

    def _left(self, fires: bool) -> InstanceState:
        if fires:
            return "pending" if self.rule.for_steps > 1 else "normal"
        return "recovering" if self.rule.recover_steps > 1 else "firing"

    def reset(self, step: int, time: float, reason: str) -> tuple[list[Transition], list[AlertChange]]:
        """Takes every series back to normal, because of something else than the numbers."""
        transitions = [
            Transition(
                rule_id=self.rule.id,
                run_id=self.run_id,
                series=self.ledger.names[index],
                old=self.instances.state(index),
                new="normal",
                step=step,
                time=time,
                value=float(self.ledger.peaks[index]),
                reason=reason,
            )
            for index in np.flatnonzero(self.instances.active).tolist()
        ]
        changes = [self.ledger.close(step, time, reason)] if self.ledger.open else []
        self.instances = Instances.fresh(self.columns.size)
        self.quiet = True
        self.linger = 0
        return transitions, changes
