"""The health engine on a running server: one monitor per run, fed with what is stored, in a thread of its own.

The pipeline hands over what has just become durable; the thread judges it, stores what the engine finds, and tells the
pages. Should the thread fall behind, what waits is dropped, and read back from the store once there is time: nothing is
judged twice, and nothing is left out. The same reading takes a run up again after a restart, from the engine's state as
it was last stored.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Final

from gradwatch.health import MarkPoint, Monitor, Observation, from_bytes, to_bytes
from gradwatch.protocol.codec import to_plain

from .health_past import declared, monitor_of, replay, unfed
from .hub import Event, Hub
from .models import Run, RunMark, StoredBlock, TensorInfo
from .store import Store
from .store import health_queries as sql
from .store.dismissal_queries import calmed

__all__ = ["HealthWatch"]

MOST_CELLS: Final = 8_000_000
"""Values that wait for a monitor; beyond that they are dropped and read back later."""

SAVE_STEPS: Final = 256
SUMMARY_SECONDS: Final = 1.0
TICK_SECONDS: Final = 5.0
MOST_MONITORS: Final = 200

Announce = Callable[[str, "str | None", dict[str, Any]], None]
log = logging.getLogger("gradwatch.server")


@dataclass(slots=True, eq=False)
class _Case:
    """One run under watch. ``fed`` is the newest step the monitor has had, by statistic."""

    run: Run
    segment: int
    tensors: Sequence[TensorInfo]
    blocks: list[StoredBlock] = field(default_factory=list)
    marks: list[MarkPoint] = field(default_factory=list)
    cells: int = 0
    behind: bool = True
    monitor: Monitor | None = None
    fed: dict[str, int] = field(default_factory=dict)
    saved_step: int = -1
    summary: dict[str, Any] = field(default_factory=dict)
    told_at: float = 0.0
    touched: float = 0.0
    ended: bool = False
    failed: bool = False


class HealthWatch:
    """The monitors of all runs that somebody sends.

    Args:
        store: what is read after a restart, and where incidents go.
        hub: hears of a run's health as it changes.
        announce: tells every page of an incident; called on the event loop.
        clock: seconds since 1970.
        enabled: without it nothing is judged.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        announce: Announce,
        clock: Callable[[], float],
        *,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._store = store
        self._hub = hub
        self._announce = announce
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._cases: dict[str, _Case] = {}
        self._due: set[str] = set()
        self._wake = threading.Event()
        self._stopping = False
        self._writes: set[Future[None]] = set()
        self._thread = threading.Thread(target=self._work, name="gradwatch-health", daemon=True)
        self.most_cells = MOST_CELLS
        self.judged_frames = 0
        self.failures = 0

    def start(self) -> None:
        """Begins to judge."""
        self._thread.start()

    def stop(self) -> None:
        """Judges what waits, stores where the monitors stand, and ends. Blocks."""
        self._stopping = True
        self._wake.set()
        self._thread.join(10.0)
        wait(self._writes, timeout=10.0)

    @property
    def waiting(self) -> int:
        """Values that wait to be judged."""
        with self._lock:
            return sum(case.cells for case in self._cases.values())

    # --- on the event loop ---

    def feed(
        self,
        run: Run,
        segment: int,
        tensors: Sequence[TensorInfo],
        blocks: Sequence[StoredBlock],
        marks: Iterable[RunMark] = (),
    ) -> None:
        """Numbers of the newest segment of a run that are now stored. Never waits."""
        if not self._enabled:
            return
        with self._lock:
            case = self._cases.get(run.id)
            if case is None or case.segment < segment:
                case = self._cases[run.id] = _Case(run, segment, tensors)
            if case.segment > segment:
                return
            case.run, case.tensors, case.ended = run, tensors, False
            case.marks += [MarkPoint(mark.step, mark.kind, mark.data) for mark in marks]
            case.blocks += [block for block in blocks if block.scope != "group"]
            case.cells += sum(block.values.size for block in blocks)
            if case.cells > self.most_cells:
                case.blocks, case.cells, case.behind = [], 0, True
            self._due.add(run.id)
        self._wake.set()

    def run_ended(self, run: Run) -> None:
        """No more will come, or not soon: the monitor's state is stored and it is let go."""
        with self._lock:
            case = self._cases.get(run.id)
            if case is not None:
                case.run, case.ended = run, True
                self._due.add(run.id)
        self._wake.set()

    def run_deleted(self, run_id: str) -> None:
        """Forgets it."""
        with self._lock:
            self._cases.pop(run_id, None)
            self._due.discard(run_id)

    # --- in the thread ---

    def _work(self) -> None:
        ticked = time.monotonic()
        while True:
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            stopping = self._stopping
            for case in self._take_due():
                self._guarded(case, self._judge)
            if time.monotonic() - ticked >= TICK_SECONDS:
                ticked = time.monotonic()
                self._tick()
            if stopping:
                break
        for case in list(self._cases.values()):
            self._guarded(case, self._save)

    def _take_due(self) -> list[_Case]:
        with self._lock:
            due = [self._cases[run_id] for run_id in self._due if run_id in self._cases]
            self._due.clear()
        return due

    def _guarded(self, case: _Case, work: Callable[[_Case], None]) -> None:
        """The boundary of this thread: a run whose numbers the engine chokes on is watched no longer, others are."""
        if case.failed:
            return
        try:
            work(case)
        except Exception as error:
            case.failed = True
            self.failures += 1
            log.exception("the health engine gave up on run %s", case.run.id)
            summary = {"state": "unknown", "sentence": f"The health engine stopped: {type(error).__name__}."}
            self._on_loop(self._tell_summary, case.run.id, summary)

    def _judge(self, case: _Case) -> None:
        with self._lock:
            blocks, marks, behind = case.blocks, case.marks, case.behind
            case.blocks, case.marks, case.cells, case.behind = [], [], 0, False
        frames = [int(block.steps[0]) for block in blocks if block.scope == "tensor"]
        first = min(frames, default=case.run.last_step + 1)
        monitor = case.monitor or self._take_up(case)
        if len(case.tensors) > monitor.layout.n:
            monitor.declare(declared(case.tensors))
        if behind:
            for observation in replay(self._store, case.run.id, case.fed, before=first):
                self._observe(case, monitor, observation)
        self._observe(case, monitor, Observation.from_blocks(blocks, marks))
        case.touched = time.monotonic()
        if case.ended:
            self._save(case)
            with self._lock:
                done = case.ended and not (case.blocks or case.behind)
                if done and self._cases.get(case.run.id) is case:
                    del self._cases[case.run.id]
        elif monitor.step - case.saved_step >= SAVE_STEPS:
            self._save(case)
        self._summarise(case, monitor)

    def _take_up(self, case: _Case) -> Monitor:
        """The monitor of a run seen for the first time since the server started."""
        row = self._store.database.read(lambda conn: sql.load_health(conn, case.run.id))
        monitor = None
        if row is not None and row.segment == case.segment and row.state:
            monitor = self._restored(case, row)
        if monitor is None:
            monitor = monitor_of(case.run, case.segment, case.tensors, self._store)
            if case.segment > 0:
                segments = self._store.segments(case.run.id)
                start = next(one.start_step for one in segments if one.index == case.segment)
                case.fed = {"": start - 1}
        case.monitor, case.saved_step = monitor, monitor.step
        self._evict()
        return monitor

    def _restored(self, case: _Case, row: sql.HealthRow) -> Monitor | None:
        """The monitor as it was stored, None if this version cannot read it: then the run is replayed."""
        state = from_bytes(row.state)
        known = case.tensors[: int(state["plain"].get("tensors", 0))]
        monitor = monitor_of(case.run, case.segment, known, self._store)
        try:
            monitor.restore(state)
        except ValueError as error:
            log.warning("the health of run %s is worked out anew: %s", case.run.id, error)
            return None
        case.fed = dict(row.fed)
        return monitor

    def _evict(self) -> None:
        """Lets go of the monitors used longest ago."""
        with self._lock:
            idle = sorted(
                (case for case in self._cases.values() if case.monitor is not None), key=lambda c: c.touched
            )
        for case in idle[: max(0, len(idle) - MOST_MONITORS)]:
            self._guarded(case, self._save)
            case.monitor, case.behind = None, True

    def _observe(self, case: _Case, monitor: Monitor, observation: Observation) -> None:
        before = monitor.step
        found = monitor.observe(unfed(observation, case.fed))
        self.judged_frames += max(0, monitor.step - before)
        self._publish(case, found)

    def _publish(self, case: _Case, found: Sequence[Any]) -> None:
        if not found:
            return
        plain = [to_plain(dataclasses.asdict(incident)) for incident in found]
        run_id = case.run.id
        done = self._write(lambda conn: sql.save_incidents(conn, run_id, plain))
        done.add_done_callback(lambda future: self._incidents_stored(run_id, plain, future))

    def _incidents_stored(self, run_id: str, plain: list[dict[str, Any]], done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            log.error("incidents of run %s could not be stored: %s", run_id, error)
            return
        for incident in plain:
            self._on_loop(self._announce, "incident", run_id, incident)

    def _summarise(self, case: _Case, monitor: Monitor) -> None:
        now = time.monotonic()
        if now - case.told_at < SUMMARY_SECONDS and not case.ended:
            return
        state, sentence = monitor.health()
        summary = {"state": state, "sentence": sentence, "step": monitor.step, "scores": monitor.scores()}
        if summary != case.summary:
            changed = {k: v for k, v in summary.items() if k in ("state", "sentence")} != {
                k: v for k, v in case.summary.items() if k in ("state", "sentence")
            }
            case.summary, case.told_at = summary, now
            self._on_loop(self._tell_summary, case.run.id, to_plain(self._as_people_see_it(case, summary)))
            if changed or case.ended:
                row = sql.HealthRow(
                    run_id=case.run.id, segment=case.segment, summary=summary, fed={}, state=b""
                )
                self._write(lambda conn: sql.save_health(conn, row))

    def _as_people_see_it(self, case: _Case, summary: dict[str, Any]) -> dict[str, Any]:
        if summary["state"] not in sql.ILL:
            return summary
        calm = self._store.database.read(lambda conn: calmed(conn, [case.run.id]))
        return sql.calmer(summary) if calm else summary

    def _save(self, case: _Case) -> None:
        monitor = case.monitor
        if monitor is None:
            return
        case.saved_step = monitor.step
        state, sentence = monitor.health()
        summary = {"state": state, "sentence": sentence, "step": monitor.step, "scores": monitor.scores()}
        row = sql.HealthRow(
            run_id=case.run.id,
            segment=case.segment,
            summary=summary,
            fed=dict(case.fed),
            state=to_bytes(monitor.state()),
        )
        self._write(lambda conn: sql.save_health(conn, row))

    def _tick(self) -> None:
        """Silence is news too."""
        now = self._clock()
        with self._lock:
            cases = [
                c for c in self._cases.values() if c.monitor is not None and not c.ended and not c.failed
            ]
        for case in cases:
            self._guarded(case, lambda case: self._tick_case(case, now))

    def _tick_case(self, case: _Case, now: float) -> None:
        if case.monitor is not None:
            self._publish(case, case.monitor.tick(now))
            self._summarise(case, case.monitor)

    def _write(self, work: Callable[[Any], None]) -> Future[None]:
        done = self._store.database.write(work)
        self._writes = {other for other in self._writes if not other.done()} | {done}
        return done

    def _tell_summary(self, run_id: str, summary: dict[str, Any]) -> None:
        self._hub.announce(Event(kind="health", run=run_id, data=summary))

    def _on_loop(self, fn: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            log.info("found after the server stopped listening: %s", args[:2])
