"""The rule engine: rows of accepted blocks in, transitions and alerts out. No clock, no storage; one thread at a time.

A rule changes between calls, never inside one. Judging the same rows cut in another way gives the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..models import GroupInfo, InstanceState, Rule, RuleState, Run, StoredBlock, TensorInfo, Transition
from .globs import matches, matching
from .ledger import AlertChange
from .panel import Panel
from .signals import history
from .state import ALL, restore_watch, watch_state
from .watch import Watch

_RANK: dict[InstanceState, int] = {"normal": 0, "pending": 1, "recovering": 2, "firing": 3}
_ENDED_KEPT: Final = 256
"""Ended runs of which something may still be found."""


@dataclass(slots=True)
class Outcome:
    """What came of a call: transitions of single series and changes of alerts, in order of steps per rule."""

    transitions: list[Transition] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)

    def add(self, more: tuple[list[Transition], list[AlertChange]]) -> None:
        """Appends the result of one watch."""
        self.transitions += more[0]
        self.changes += more[1]

    def __bool__(self) -> bool:
        return bool(self.transitions or self.changes)


def applies(rule: Rule, run: Run) -> bool:
    """Whether the rule is about this run at all."""
    about = matches(rule.run, run.id) or matches(rule.run, run.name)
    return rule.enabled and about and matches(rule.project, run.project)


class _RunWatch:
    """The rules that are about one run, by statistic."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tensors: list[str] = []
        self.groups: list[str] = []
        self.rules: dict[tuple[str, str], dict[str, Rule]] = {}
        self.panels: dict[tuple[str, str], Panel] = {}
        self.stored: dict[str, RuleState] = {}
        """States from before a restart that no watch has taken up yet."""

    def learn(self, tensors: Sequence[TensorInfo], groups: Sequence[GroupInfo]) -> None:
        """Takes in the run's series; they only ever become more."""
        if len(tensors) != len(self.tensors):
            self.tensors = [tensor.name for tensor in tensors]
            self._grow("tensor", self.tensors)
        if len(groups) != len(self.groups):
            self.groups = [group.path for group in groups]
            self._grow("group", self.groups)

    def _grow(self, scope: str, names: Sequence[str]) -> None:
        for key, panel in self.panels.items():
            if key[1] == scope:
                panel.grow(names)

    def panel(self, statistic: str, scope: str, width: int) -> Panel | None:
        """The panel for a block of this statistic, None when no rule is about it."""
        key = (statistic, scope)
        rules = self.rules.get(key)
        if not rules:
            return None
        panel = self.panels.get(key)
        if panel is None:
            panel = self.panels[key] = Panel(self._names(scope, width))
            for rule in rules.values():
                self._add(panel, rule)
        elif scope == "run" and width > len(panel.names):
            panel.grow(self._names(scope, width))
        return panel

    def _names(self, scope: str, width: int) -> list[str]:
        if scope == "tensor":
            return self.tensors
        if scope == "group":
            return self.groups
        return [""] if width == 1 else [str(index) for index in range(width)]

    def _add(self, panel: Panel, rule: Rule) -> None:
        columns = matching(rule.tensors or rule.groups or "*", panel.names)
        watch = Watch(rule, self.run.id, columns, panel.names)
        stored = self.stored.pop(rule.id, None)
        if stored is None or stored.version != rule.version:
            stored = self.stored.get(ALL)
        if stored is not None:
            restore_watch(watch, stored)
        panel.add(watch)

    def add(self, rule: Rule) -> None:
        """Judges the rule from now on. Those about incidents judge no numbers."""
        if rule.condition == "incident":
            return
        key = (rule.statistic, rule.scope)
        self.rules.setdefault(key, {})[rule.id] = rule
        if key in self.panels:
            self._add(self.panels[key], rule)

    def remove(self, rule: Rule) -> Watch | None:
        key = (rule.statistic, rule.scope)
        self.rules.get(key, {}).pop(rule.id, None)
        return self.panels[key].remove(rule.id) if key in self.panels else None

    def watches(self) -> Iterable[Watch]:
        return (watch for panel in self.panels.values() for watch in panel.watches.values())


class Engine:
    """All rules over all runs that have sent something since the start."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[str, Rule] = {rule.id: rule for rule in rules}
        self._runs: dict[str, _RunWatch] = {}
        self._ended: dict[str, Run] = {}

    @property
    def rules(self) -> list[Rule]:
        """The rules in force, disabled ones too."""
        return list(self._rules.values())

    def knows(self, run_id: str) -> bool:
        """Whether the run has been seen (or restored) since the start."""
        return run_id in self._runs

    def about(self, run_id: str) -> list[Rule]:
        """The rules that are about a run that is known, or was until it ended."""
        watch = self._runs.get(run_id)
        run = self._ended.get(run_id) if watch is None else watch.run
        return [] if run is None else [rule for rule in self._rules.values() if applies(rule, run)]

    def ended(self, run_id: str) -> Run | None:
        """A run that was known until it ended; of many, one of the last."""
        return self._ended.get(run_id)

    def observe(
        self,
        run: Run,
        tensors: Sequence[TensorInfo],
        blocks: Iterable[StoredBlock],
        groups: Sequence[GroupInfo] = (),
    ) -> Outcome:
        """Judges blocks just accepted, each of a statistic's rows in the order of their steps."""
        watch = self._watch(run)
        watch.run = run
        watch.learn(tensors, groups)
        outcome = Outcome()
        for block in blocks:
            if len(block.steps):
                width = int(block.rows[-1]) + 1 if block.scope == "run" and block.rows.size else 0
                panel = watch.panel(block.statistic, block.scope, width)
                if panel is not None:
                    outcome.add(panel.observe(block))
        return outcome

    def _watch(self, run: Run) -> _RunWatch:
        watch = self._runs.get(run.id)
        if watch is None:
            watch = self._runs[run.id] = _RunWatch(run)
            self._ended.pop(run.id, None)
            for rule in self._rules.values():
                if applies(rule, run):
                    watch.add(rule)
        return watch

    def restore(self, run: Run, states: Iterable[RuleState]) -> None:
        """Takes up a run after a restart; rows up to a state's step were judged before. Then :meth:`observe` the stored rows that :meth:`wanted` names."""
        self._watch(run).stored = {state.rule_id: state for state in states}

    def resume(self, run_id: str) -> None:
        """The stored rows are through: from now on every row is new, also those of a segment that starts further back."""
        self._runs[run_id].stored.pop(ALL, None)
        for watch in self._runs[run_id].watches():
            watch.judged_to, watch.unsure = -1.0, False

    def wanted(self, run: Run) -> dict[tuple[str, str], int]:
        """(statistic, scope) that rules are about in a run, and how many rows before the next one they depend on."""
        wanted: dict[tuple[str, str], int] = {}
        for rule in self._rules.values():
            if applies(rule, run) and rule.condition != "incident":
                key = (rule.statistic, rule.scope)
                rows = history(rule) + max(rule.for_steps, rule.recover_steps)
                wanted[key] = max(rows, wanted.get(key, 0))
        return wanted

    def replace_rule(self, rule: Rule) -> Outcome:
        """Takes a new or edited rule into force. An edit takes the rule's instances back to normal, and says so."""
        outcome = self._drop(rule.id, "rule edited")
        self._rules[rule.id] = rule
        for watch in self._runs.values():
            if applies(rule, watch.run):
                watch.add(rule)
        return outcome

    def remove_rule(self, rule_id: str) -> Outcome:
        """Takes a rule out of force."""
        outcome = self._drop(rule_id, "rule removed")
        self._rules.pop(rule_id, None)
        return outcome

    def _drop(self, rule_id: str, reason: str) -> Outcome:
        outcome = Outcome()
        old = self._rules.get(rule_id)
        if old is not None:
            for watch in self._runs.values():
                removed = watch.remove(old)
                if removed is not None:
                    outcome.add(removed.reset(watch.run.last_step, watch.run.last_time, reason))
        return outcome

    def end_run(self, run: Run) -> Outcome:
        """The run is over: what is open closes with the reason "run ended"; its state is forgotten."""
        outcome = Outcome()
        watch = self._runs.pop(run.id, None)
        if watch is not None:
            self._ended[run.id] = run
            if len(self._ended) > _ENDED_KEPT:
                del self._ended[next(iter(self._ended))]
            for one in watch.watches():
                outcome.add(one.reset(run.last_step, run.last_time, "run ended"))
        return outcome

    def tick(self, run_id: str, gap: float, now: float) -> Outcome:
        """Judges rules about silence: no row of the run came for ``gap`` seconds up to ``now``."""
        outcome = Outcome()
        watch = self._runs.get(run_id)
        for one in watch.watches() if watch is not None else ():
            if watch is not None and one.rule.condition == "silent":
                outcome.add(one.silence(gap, watch.run.last_step, now))
        return outcome

    def forget_run(self, run_id: str) -> None:
        """The run was deleted."""
        self._runs.pop(run_id, None)
        self._ended.pop(run_id, None)

    def worst(self, rule_id: str) -> InstanceState:
        """State of a rule: that of its worst instance in any run."""
        states = [
            watch.state()
            for run in self._runs.values()
            for watch in run.watches()
            if watch.rule.id == rule_id
        ]
        return max(states, key=_RANK.__getitem__, default="normal")

    def state(self, rule_id: str, run_id: str) -> RuleState | None:
        """What is to be stored of a rule in a run, so that :meth:`restore` brings it back."""
        for watch in self._runs[run_id].watches() if run_id in self._runs else ():
            if watch.rule.id == rule_id:
                return watch_state(watch)
        return None
