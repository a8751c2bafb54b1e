"""What a rule would have said of stored rows: the same machine as live, fed with the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..models import FLAG_INF, FLAG_NAN, Rule, Series, StoredBlock
from .kinds import KIND
from .ledger import AlertChange
from .panel import Panel
from .watch import Watch

__all__ = ["BackTest", "Firing", "can_skip", "suspects"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Firing:
    """One alert that would have opened. ``series`` is the worst layer, ``count`` how many there were; ``cleared`` is the
    step at which it would have closed, None if it would still be open."""

    step: int
    value: float
    series: str
    count: int
    cleared: int | None = None


class BackTest:
    """Feed it rows in the order of their steps. ``names`` are the series of the blocks, all of which the rule is about."""

    def __init__(self, rule: Rule, names: Sequence[str]) -> None:
        self._watch = Watch(rule, "", np.arange(len(names), dtype=np.intp), names, tells_series=False)
        self._panel = Panel(names)
        self._panel.add(self._watch)
        self.firings: list[Firing] = []

    @property
    def quiet(self) -> bool:
        """All series are normal, and nothing in the window is beyond the threshold: rows in which nothing is may be left
        out, if :func:`suspects` can tell which those are."""
        return self._watch.quiet and not self._watch.linger

    @property
    def history(self) -> int:
        """How many rows before a row belong to its verdict."""
        return self._watch.history

    def skip(self) -> None:
        """Rows are left out here."""
        self._panel.forget()

    def feed(self, block: StoredBlock) -> None:
        """Judges the block."""
        if len(block.steps):
            for change in self._panel.observe(block)[1]:
                self._note(change)

    def _note(self, change: AlertChange) -> None:
        alert = change.alert
        firing = Firing(
            step=alert.opened_step,
            value=alert.peak,
            series=alert.worst[0] if alert.worst else "",
            count=alert.count,
            cleared=alert.cleared_step,
        )
        if change.kind == "opened" and not change.quiet:
            self.firings.append(firing)
        else:
            self.firings[-1] = firing


def can_skip(rule: Rule) -> bool:
    """Whether a look at the extremes tells where the rule may fire: it judges values, or aggregates of values."""
    return rule.condition == "nonfinite" or KIND[rule.condition].aggregated


def suspects(rule: Rule, series: Series) -> npt.NDArray[np.int64]:
    """Buckets of ``series`` (places, rising) in which some value may be beyond the threshold of a rule that
    :func:`can_skip`. An aggregate over a window is beyond it only if some value in the window is."""
    with np.errstate(invalid="ignore"):
        if rule.condition == "nonfinite":
            odd = (series.flags & (FLAG_INF | FLAG_NAN)) != 0
        elif rule.condition == "above":
            odd = (series.high > rule.threshold) | ((series.flags & FLAG_INF) != 0)
        elif rule.condition == "below":
            odd = (series.low < rule.threshold) | ((series.flags & FLAG_INF) != 0)
        else:
            beyond = (series.high > rule.upper) | (series.low < rule.threshold)
            odd = beyond | ((series.flags & FLAG_INF) != 0)
    found: npt.NDArray[np.int64] = np.flatnonzero(odd.any(axis=0))
    return found
