"""Alerts on a running server: the engine between the pipeline, the store and everybody who wants to know.

Everything but :meth:`Alerting.load` belongs to the event loop. What the engine says is stored first and told afterwards.
The engine's own state is stored with each change; a run that comes back after a restart is taken up from there, and the
stored rows since then are judged again: the same rows give the same alerts, so nothing is lost and nothing said twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gradwatch.errors import GradwatchError
from gradwatch.health import KINDS

from .alert_past import Past, read_past
from .alert_plain import alert_plain, rule_plain
from .alert_seams import Announce, Messenger, Unsaved
from .alerts.defaults import DEFAULT_RULES
from .alerts.engine import Engine, Outcome
from .alerts.incidents import alert_of, closed_as, concerns
from .alerts.state import ALL, FRESH
from .alerts.validation import RuleInvalid, parse_rule
from .errors import Invalid, NotFound, TooMany
from .models import Alert, GroupInfo, Rule, RuleState, Run, StoredBlock, TensorInfo
from .store import Store
from .store import alert_queries as sql

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Alerting"]

MOST_RULES: Final = 500
SAVE_SECONDS: Final = 1.0
SAVE_ROWS: Final = 512
"""An alert that goes on (more layers, a new peak) is stored and told once in so many seconds or rows."""

ENDED: Final = frozenset({"finished", "failed", "killed", "preempted"})

T = TypeVar("T")
log = logging.getLogger("gradwatch.server")


class Alerting:
    """The rules in force, and what they say.

    Args:
        store: where rules and alerts stand; read for back-tests and after a restart.
        announce: tells the pages.
        clock: seconds since 1970.
        messenger: sends messages about alerts that open and close; None for nobody to hear.
    """

    def __init__(
        self,
        store: Store,
        announce: Announce,
        clock: Callable[[], float],
        messenger: Messenger | None = None,
    ) -> None:
        self._store = store
        self._announce = announce
        self._clock = clock
        self._messenger = messenger
        self._engine = Engine()
        self._tasks: set[asyncio.Task[None]] = set()
        self._came: dict[str, float] = {}
        self._unsaved: dict[str, Unsaved] = {}
        self._states: dict[str, str] = {}

    def load(self) -> None:
        """Reads the rules, and adds the default ones to a new database. Blocks; before the first :meth:`observe`.

        Raises:
            StoreError: the database can't be read or written.
        """

        def work(conn: Connection) -> list[Rule]:
            sql.add_default_rules(conn, (replace(rule, created_at=0.0) for rule in DEFAULT_RULES))
            return sql.list_rules(conn)

        self._engine = Engine(self._store.database.write(work).result())

    # --- numbers come in ---

    def observe(
        self,
        run: Run,
        tensors: Sequence[TensorInfo],
        blocks: Sequence[StoredBlock],
        groups: Sequence[GroupInfo] = (),
    ) -> None:
        """Judges blocks just accepted. A run from before a restart should have been :meth:`prepare`\\ d."""
        first = min((int(block.steps[0]) for block in blocks if len(block.steps)), default=-1)
        if first < 0:
            return
        if not self._engine.knows(run.id) and 0 <= run.first_step < first:
            self._take_up(read_past(self._store, self._engine.wanted, run.id, before=first))
        self._came[run.id] = self._clock()
        rows = max(len(block.steps) for block in blocks)
        self._keep(run.id, self._engine.observe(run, tensors, blocks, groups), rows)

    async def prepare(self, run_id: str) -> None:
        """Takes up a run that a client opens again, from what is stored of it."""
        if not self._engine.knows(run_id):
            past = await asyncio.to_thread(read_past, self._store, self._engine.wanted, run_id)
            if not self._engine.knows(run_id):
                self._take_up(past)

    def _take_up(self, past: Past | None) -> None:
        if past is not None:
            self._engine.restore(past.run, past.states)
            outcome = self._engine.observe(past.run, past.tensors, past.blocks, past.groups)
            self._engine.resume(past.run.id)
            self._came[past.run.id] = past.run.last_seen
            self._keep(past.run.id, outcome)

    def incident_found(self, run_id: str, incident: Mapping[str, Any]) -> None:
        """The health engine found or changed an incident: rules that wait for such a one open an alert, or close it. It judges a
        little later than rules do: an alert about a run that has ended meanwhile, as by a NaN, is told, and closed like others."""
        ended = self._engine.ended(run_id)
        for rule in self._engine.about(run_id):
            if concerns(rule, incident):
                alert = alert_of(rule, run_id, incident)
                if ended is not None:
                    alert = closed_as(alert, ended.last_step, self._clock(), "run ended")
                self._spawn(self._keep_incident(alert))
            elif rule.condition == "incident" and incident["merged_into"]:
                alert = alert_of(rule, run_id, incident)
                merged = closed_as(alert, alert.opened_step, self._clock(), "part of another incident")
                self._spawn(self._keep_incident(merged, new=False))

    async def _keep_incident(self, alert: Alert, *, new: bool = True) -> None:
        """Stores the alert unless it was closed meanwhile: by an edit of the rule, or the end of the run."""

        def work(conn: Connection) -> list[Alert]:
            before = sql.find_alert(conn, alert.id)
            if (before is None and not new) or (before is not None and before.cleared_step is not None):
                return []
            stored = sql.save_alert(conn, alert)
            if before is None:
                self._queue(conn, "opened", stored)
            if alert.cleared_step is not None and (before is not None or alert.reason != "run ended"):
                self._queue(conn, "closed", stored)
            return [stored]

        self._tell_all(await self._wait(work))

    def run_changed(self, run: Run) -> None:
        """The run's state is another one. When it has ended, its open alerts close with the reason "run ended"."""
        if run.state in ENDED:
            self._came.pop(run.id, None)
            self._save(run.id)
            self._engine.end_run(run)
            self._end(run)

    def run_deleted(self, run_id: str) -> None:
        """The run is gone, and with it all that was said of it."""
        self._came.pop(run_id, None)
        self._unsaved.pop(run_id, None)
        self._engine.forget_run(run_id)

    async def run(self) -> None:
        """Calls :meth:`tick` every second until it is cancelled."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Judges rules about silence, and stores what is due."""
        now = self._clock()
        for run_id, came in list(self._came.items()):
            self._keep(run_id, self._engine.tick(run_id, now - came, now))
        for run_id, unsaved in list(self._unsaved.items()):
            if now - unsaved.since >= SAVE_SECONDS:
                self._save(run_id)

    # --- rules ---

    @property
    def rules(self) -> list[Rule]:
        """All rules, disabled ones too, oldest first."""
        return sorted(self._engine.rules, key=lambda rule: (rule.created_at, rule.id))

    def rule(self, rule_id: str) -> Rule:
        """Raises NotFound: there is no such rule (any more)."""
        rule = self.find_rule(rule_id)
        if rule is None:
            raise NotFound("There is no such rule. It may have been removed.")
        return rule

    def find_rule(self, rule_id: str) -> Rule | None:
        """The rule, None if there is none."""
        return next((rule for rule in self._engine.rules if rule.id == rule_id), None)

    def rule_plain(self, rule: Rule) -> dict[str, Any]:
        """The rule for JSON, with its sentence and its state: that of its worst instance."""
        return {**rule_plain(rule), "state": self._engine.worst(rule.id)}

    def draft(self, body: Mapping[str, Any], previous: Rule | None = None) -> Rule:
        """The rule that a form describes.

        Raises:
            Invalid: with a sentence for each wrong field.
        """
        try:
            name = secrets.token_hex(8) if previous is None else previous.id
            return parse_rule(body, id=name, now=self._clock(), previous=previous, incidents=KINDS)
        except RuleInvalid as error:
            raise Invalid(str(error), error.fields) from None

    async def add_rule(self, body: Mapping[str, Any]) -> Rule:
        """A new rule, in force from the next row on.

        Raises:
            Invalid, TooMany, StoreError: it can't be taken.
        """
        if len(self._engine.rules) >= MOST_RULES:
            raise TooMany(f"There are {MOST_RULES} rules already. Remove one that is no longer needed.")
        return await self._enforce(self.draft(body))

    async def edit_rule(self, rule_id: str, body: Mapping[str, Any]) -> Rule:
        """Puts the edited rule in force; its instances go back to normal, and its open alerts close as "rule edited".

        Raises:
            NotFound, Invalid, StoreError: it can't be taken.
        """
        previous = self.rule(rule_id)
        return await self._enforce(self.draft(body, previous), previous)

    async def _enforce(self, rule: Rule, previous: Rule | None = None) -> Rule:
        """First the engine, so that nothing judged by the old rule is stored after its alerts are closed."""
        self._save_all()
        self._engine.replace_rule(rule)

        def work(conn: Connection) -> list[Alert]:
            sql.save_rule(conn, rule)
            closed = self._closed(conn, reason="rule edited", now=rule.updated_at, rule_id=rule.id)
            sql.start_states(conn, rule, FRESH)
            return closed

        try:
            closed = await self._wait(work)
        except GradwatchError:
            if previous is None:
                self._engine.remove_rule(rule.id)
            else:
                self._engine.replace_rule(previous)
            raise
        self._tell_all(closed)
        self._tell_rule(rule)
        return rule

    async def remove_rule(self, rule_id: str) -> None:
        """Takes the rule out of force; its open alerts close as "rule removed".

        Raises:
            NotFound, StoreError: it can't be.
        """
        rule, now = self.rule(rule_id), self._clock()
        self._save_all()
        self._engine.remove_rule(rule.id)

        def work(conn: Connection) -> list[Alert]:
            sql.delete_rule(conn, rule.id, now=now)
            return self._closed(conn, reason="rule removed", now=now, rule_id=rule.id)

        try:
            closed = await self._wait(work)
        except GradwatchError:
            self._engine.replace_rule(rule)
            raise
        self._states.pop(rule.id, None)
        self._tell_all(closed)
        self._announce("rule", None, {"id": rule.id, "removed": True})

    # --- alerts ---

    async def note(self, alert_id: str, **values: Any) -> Alert:
        """Sets ``acknowledged``, ``note`` or ``muted_until`` of an alert.

        Raises:
            NotFound, StoreError: it can't be.
        """
        alert = await self._wait(lambda conn: sql.note_alert(conn, alert_id, **values))
        if alert is None:
            raise NotFound("There is no such alert. Its run may have been deleted.")
        self._tell(alert)
        return alert

    async def drain(self) -> None:
        """Stores what isn't yet, and waits until everything is told."""
        self._save_all()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, run_id: str, outcome: Outcome, rows: int = 0) -> None:
        """Takes what the engine said. An alert that opens or closes is stored at once, more of the same soon."""
        unsaved = self._unsaved.get(run_id)
        if unsaved is None:
            if not outcome:
                return
            unsaved = self._unsaved[run_id] = Unsaved(self._clock())
        unsaved.rows += rows
        if unsaved.add(outcome) or unsaved.rows > SAVE_ROWS:
            self._save(run_id)

    def _save_all(self) -> None:
        for run_id in list(self._unsaved):
            self._save(run_id)

    def _save(self, run_id: str) -> None:
        """Stores what was said of a run with the state of the engine as it is now, then tells it."""
        unsaved = self._unsaved.pop(run_id, None)
        if unsaved is None:
            return
        found = [self._engine.state(rule, run_id) for rule in sorted(unsaved.rules)]
        states = [state for state in found if state is not None]

        def work(conn: Connection) -> list[Alert]:
            for state in states:
                sql.save_state(conn, state)
            alerts = [sql.save_alert(conn, alert) for alert in unsaved.alerts.values()]
            muted = {alert.id: alert.muted_until for alert in alerts}
            for kind, alert in unsaved.news:
                self._queue(conn, kind, replace(alert, muted_until=muted[alert.id]))
            return alerts

        async def save() -> None:
            self._tell_all(await self._wait(work))
            for rule in self._engine.rules:
                if rule.id in unsaved.rules and self._states.get(rule.id) != self._engine.worst(rule.id):
                    self._tell_rule(rule)

        self._spawn(save())

    def _end(self, run: Run) -> None:
        now = self._clock()
        judged = RuleState(rule_id=ALL, run_id=run.id, version=0, step=float(run.last_step), data=FRESH)

        def work(conn: Connection) -> list[Alert]:
            closed = self._closed(conn, reason="run ended", now=now, run_id=run.id)
            sql.save_state(conn, judged)
            return closed

        async def end() -> None:
            self._tell_all(await self._wait(work))

        self._spawn(end())

    def _closed(self, conn: Connection, **which: Any) -> list[Alert]:
        closed = sql.close_alerts(conn, **which)
        for alert in closed:
            self._queue(conn, "closed", alert)
        return closed

    def _tell_rule(self, rule: Rule) -> None:
        plain = self.rule_plain(rule)
        self._states[rule.id] = plain["state"]
        self._announce("rule", None, plain)

    def _queue(self, conn: Connection, kind: str, alert: Alert) -> None:
        if self._messenger is not None:
            self._messenger.queue(conn, kind, alert)

    def _tell_all(self, alerts: Sequence[Alert]) -> None:
        """Tells pages of alerts that are stored now, and lets their messages go."""
        for alert in alerts:
            self._tell(alert)
        if alerts and self._messenger is not None:
            self._messenger.wake()

    def _tell(self, alert: Alert) -> None:
        plain = alert_plain(alert, full=True)
        self._announce("alert", alert.run_id, alert_plain(alert, full=False), {"note": plain["note"]})

    async def _wait(self, fn: Callable[[Connection], T]) -> T:
        return await asyncio.wrap_future(self._store.database.write(fn))

    def _spawn(self, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except GradwatchError as error:
                log.error("news of an alert could not be stored: %s", error)

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
