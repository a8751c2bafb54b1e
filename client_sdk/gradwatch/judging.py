"""``mode="local"``: the health engine beside the training, in the background thread, with no server and nothing on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from .frames import Frame, PendingFrame
from .health import Incident, MarkPoint, Monitor, Observation
from .health.incidents import SEVERITIES, Severity
from .health.sentences import headline
from .outbox import Outbox
from .packer import Packer
from .protocol import Batch, Mark, Record, Schema, Statistic, Tensor
from .protocol.messages import Incident as Heard
from .run import Health
from .sender import FRAMES_AT_ONCE, SCALARS_AT_ONCE, Ending

__all__ = ["Judge"]

TURN_S: Final = 0.1
TICK_S: Final = 5.0


class Judge:
    """Takes what the training thread measured and judges it; pumped like a :class:`.sender.Sender`.

    Args:
        optimizers: describes the optimizers that are known by now.
        resolve: makes a frame of a pending one; None where that failed, which costs that one frame.
        run: the run's id.
        tell: gets one line when an incident becomes a warning, and one when it becomes critical.
        on_incident: gets every change of an incident, as a server would send it.
        clock: Unix time.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        packer: Packer,
        optimizers: Callable[[], Sequence[Mapping[str, Any]]],
        run: str,
        tell: Callable[[str], None] = lambda text: None,
        on_incident: Callable[[Heard], None] = lambda incident: None,
        resolve: Callable[[PendingFrame], Frame | None] = lambda pending: pending.resolve(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ended = threading.Event()
        self.fileno = -1
        self.blocked = False
        self.delivered = True
        self._outbox = outbox
        self._packer = packer
        self._optimizers = optimizers
        self._run = run
        self._tell = tell
        self._on_incident = on_incident
        self._resolve = resolve
        self._clock = clock
        self._lock = threading.Lock()
        self._monitor: Monitor | None = None
        self._tensors: list[Tensor] = []
        self._rows: np.ndarray[Any, np.dtype[np.intp]] = np.zeros(0, np.intp)
        self._statistics: tuple[Statistic, ...] = ()
        self._told: dict[str, Severity] = {}
        self._ticked_at = 0.0
        self._ending = False

    # --- what a script asks -------------------------------------------------------------------------------------------

    def incidents(self) -> list[Incident]:
        """All incidents that speak for themselves, oldest first; everything measured by now is judged before."""
        with self._lock:
            self._judge(force=True)
            return [i for i in self._monitor.incidents if not i.merged_into] if self._monitor else []

    def health(self) -> Health:
        """State, sentence and numbers of the run; everything measured by now is judged before."""
        with self._lock:
            self._judge(force=True)
            if self._monitor is None:
                return Health("learning", "No step has been seen yet.", {})
            return Health(*self._monitor.health(), self._monitor.scores())

    # --- what the thread calls ----------------------------------------------------------------------------------------

    def end(self, ending: Ending) -> None:
        """The run is over: the next turn judges all there is, and sets :attr:`ended`."""
        self._ending = True

    def turn(self, now: float) -> float:
        """One round of work at monotonic time ``now``; gives how many seconds the next may wait."""
        with self._lock:
            self._judge(force=self._ending, final=self._ending)
            if self._monitor is not None and not self._ending and now - self._ticked_at >= TICK_S:
                self._ticked_at = now
                self._say(self._monitor.tick(self._clock()))
        if self._ending:
            self.ended.set()
        return TURN_S

    def close(self, now: float) -> None:
        """Nothing is held that must be let go."""

    # --- inside -------------------------------------------------------------------------------------------------------

    def _judge(self, *, force: bool, final: bool = False) -> None:
        outbox = self._outbox
        while True:
            taken = outbox.take_frames(FRAMES_AT_ONCE, force=force)
            frames = [frame for pending in taken if (frame := self._resolve(pending)) is not None]
            scalars = outbox.take_scalars(SCALARS_AT_ONCE, before=outbox.head_step())
            for point in scalars:
                value = point.value() if callable(point.value) else point.value
                self._packer.add_scalar(point.name, point.step, point.time, value)
            records = self._packer.pack(frames, outbox.declarations, self._clock(), final=final)
            records += [self._packer.mark(mark) for mark in outbox.take_marks()]
            outbox.take_dropped()
            for record in records:
                self._take(record)
            if not taken and not scalars:
                return

    def _take(self, record: Record) -> None:
        if isinstance(record, Schema):
            self._declare(record)
        elif isinstance(record, Batch) and self._monitor is not None:
            observation = Observation.of_batch(record, self._statistics, rows=self._rows)
            self._say(self._monitor.observe(observation))
        elif isinstance(record, Mark) and self._monitor is not None:
            if record.kind == "optimizers":
                self._monitor.declare(self._tensors, optimizers=self._optimizers())
            point = MarkPoint(record.step, record.kind, record.data)
            self._say(self._monitor.observe(Observation((), (point,))))

    def _declare(self, schema: Schema) -> None:
        """New columns. A tensor keeps its row for the whole run, whatever column it has in this schema."""
        self._statistics = schema.statistics
        if schema.tensors is None:
            self._monitor = self._monitor or Monitor([], run=self._run)
            return
        rows = {tensor.name: row for row, tensor in enumerate(self._tensors)}
        for tensor in schema.tensors:
            row = rows.setdefault(tensor.name, len(rows))
            self._tensors[row : row + 1] = [tensor]
        self._rows = np.array([rows[tensor.name] for tensor in schema.tensors], dtype=np.intp)
        if self._monitor is None:
            self._monitor = Monitor(self._tensors, optimizers=self._optimizers(), run=self._run)
        else:
            self._monitor.declare(self._tensors, optimizers=self._optimizers())

    def _say(self, changed: Sequence[Incident]) -> None:
        """Every change to who acts on it; one line when an incident opens above info, and one more if it gets worse."""
        for incident in changed:
            self._on_incident(_heard(incident))
            if incident.severity == "info" or not incident.open or incident.merged_into:
                continue
            before = self._told.get(incident.id, "info")
            if SEVERITIES.index(incident.severity) > SEVERITIES.index(before):
                self._told[incident.id] = incident.severity
                self._tell(headline(incident))


def _heard(incident: Incident) -> Heard:
    return Heard(
        id=incident.id,
        kind=incident.kind,
        severity=incident.severity,
        step=incident.first_step,
        open=incident.open and not incident.merged_into,
        data={key: getattr(incident, key) for key in ("sentence", "opened_step", "caused_by")},
    )
