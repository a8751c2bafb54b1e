"""A run, as the training script sees it: a few verbs, none of which waits, and none of which raises into the loop."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .actors import Actor, Actors
from .console import Console, in_notebook
from .errors import ConfigError
from .exits import EXITS, state_of
from .flight import AFTER, Flight
from .links import NoLinks
from .logged import MANY, NO_STEP, objection, read_number, together, whole
from .masks import plain
from .outbox import MarkPoint, Outbox, ScalarPoint
from .protocol.messages import FLIGHT_MARK, EndState, Incident
from .recorder import Recorder
from .sender import Ending
from .sender_thread import SenderThread
from .shield import Shield

if TYPE_CHECKING:
    from . import health

__all__ = ["CaptureLike", "Health", "JudgeLike", "Links", "NullRun", "Run"]

_STATES: Final = ("finished", "failed", "killed", "preempted")


class CaptureLike(Protocol):
    """What a run needs of :class:`gradwatch.torch_.capture.Capture`."""

    @property
    def next_step(self) -> int:
        """Index of the coming step."""

    def scalar_step(self) -> int:
        """The step that a scalar logged now belongs to."""

    def look_closely(self, steps: int) -> None:
        """The coming ``steps`` are measured in full; from any thread."""

    def detach(self) -> None:
        """Takes every hook away; harmless the second time."""


class JudgeLike(Protocol):
    """What a run needs of :class:`.judging.Judge`."""

    def incidents(self) -> list[health.Incident]:
        """All that speak for themselves."""

    def health(self) -> Health:
        """How the run is doing now."""


class Health(NamedTuple):
    """How a run is doing: ``state`` is "learning", "healthy", "attention", "critical", or "unknown" where a server judges;
    ``numbers`` as in :meth:`.health.Monitor.scores`."""

    state: str
    sentence: str
    numbers: Mapping[str, Any]


class Links(Protocol):
    """Where the run can be seen."""

    @property
    def url(self) -> str:
        """Address of its page, "" while no server is known."""

    def signed_url(self) -> str:
        """The address with a single-use code in it, where one can be had and none was given to this browser before."""

    def epilogue(self, delivered: bool) -> str:
        """What to say at the end, "" for nothing."""


class Run:
    """A run being recorded; made by :func:`gradwatch.watch`.

    Attributes:
        id: unique, safe in addresses and file names.
        name: short and readable.
        project: what it is listed under.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str,
        project: str,
        outbox: Outbox,
        thread: SenderThread | None,
        shield: Shield,
        links: Links,
        console: Console,
        finish_timeout: float = 10.0,
        read: Callable[[Any], float | Callable[[], float] | None] = read_number,
        clock: Callable[[], float] = time.time,
        judge: JudgeLike | None = None,
        flight: Flight | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.project = project
        self._outbox = outbox
        self._thread = thread
        self._shield = shield
        self._links = links
        self._console = console
        self._finish_timeout = finish_timeout
        self._read = read
        self._clock = clock
        self._judge = judge
        self._capture: CaptureLike | None = None
        self._recorder = Recorder(outbox)
        self._note: tuple[EndState, str, int | None] | None = None
        self._flight = flight or Flight()
        self._told: set[str] = set()
        self._actors = Actors(shield)
        self._ended = False
        self._inert = False

    @property
    def url(self) -> str:
        """Address of the run's page, without any secret; "" while no server is known."""
        return self._links.url

    @property
    def over(self) -> bool:
        """Whether it has been finished."""
        return self._ended

    @property
    def incidents(self) -> list[health.Incident]:
        """What the health engine has found so far, oldest first, with ``mode="local"``; [] otherwise: the server judges.

        Everything measured by now is judged first, which waits for the device: not for the inside of a loop.
        """
        return self._judge.incidents() if self._judge is not None else []

    @property
    def health(self) -> Health:
        """State, sentence and numbers of the run with ``mode="local"``; otherwise its page has them."""
        if self._judge is not None:
            return self._judge.health()
        return Health("unknown", f"This run is judged by its server: {self.url or 'none is known yet'}.", {})

    # --- what a script says -------------------------------------------------------------------------------------------

    def log(
        self, values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **scalars: Any
    ) -> None:
        """Records numbers: ``run.log(loss=loss)``, ``run.log({"val/loss": x})``. Tensors are welcome and cost no sync.

        A value logged after a backward belongs to the coming optimizer step, otherwise to the step just taken; ``step``
        says otherwise. Several values of one name at one step are averaged. What is not a number is left out, and said once.
        """
        if self._actors:
            self._actors.log(together(values, scalars))
        if not self._inert:
            with self._shield.guard("run.log"):
                if wrong := objection(values, step):
                    self._once(wrong, wrong)
                if step is None or whole(step) is not None:
                    self._log(together(values, scalars), step)
                self._look_for_steps(MANY)

    def mark(self, kind: str, /, **data: Any) -> None:
        """Puts a glyph on the timeline at this step: ``run.mark("checkpoint", path="last.pt")``."""
        if not self._inert:
            with self._shield.guard("run.mark"):
                self._mark(str(kind)[:100], data)

    def phase(self, name: str) -> None:
        """Says that another part of training begins, such as "warm-up" or "fine-tune": what is normal is learnt anew."""
        self.mark("phase", name=str(name))

    def batch(self, *, ids: Any = None, size: Any = None, tokens: Any = None) -> None:
        """What the coming step sees. The last ``ids`` (which samples) are kept here, and those of 50 steps sent when an incident
        opens; ``size`` and ``tokens`` are the scalars ``batch/size`` and ``batch/tokens``, of several micro-batches the sum.
        """
        if not self._inert:
            with self._shield.guard("run.batch"):
                step = self._outbox.last_step + 1 if self._capture is None else self._capture.next_step
                if ids is not None:
                    self._flight.note(step, ids)
                counts = {"batch/size": size, "batch/tokens": tokens}
                self._log({name: count for name, count in counts.items() if count is not None}, step)

    def record(self, step: int, norms: Mapping[str, Any], **scalars: Any) -> None:
        """One step of any framework: gradient norms by layer (numbers), and scalars. Steps must rise."""
        if not self._inert:
            with self._shield.guard("run.record"):
                self._record(step, norms, scalars)

    def show(self, height: int = 900) -> None:
        """The live page inside a notebook, with a link below it; elsewhere the link is printed."""
        if in_notebook() and self.url:
            with self._shield.guard("run.show"):
                display_page: Any = importlib.import_module(".notebook", __package__).display_page
                display_page(self.url, self._links.signed_url(), height, f"{self.project} / {self.name}")
            return
        self._console.show(self.url or "no server shows this run yet")

    def finish(self, state: EndState = "finished") -> None:
        """Sends what is left, waiting at most ten seconds, and lets go of model and hooks. The second call does nothing.

        Raises:
            ConfigError: ``state`` is not one of finished, failed, killed, preempted.
        """
        if state not in _STATES:
            raise ConfigError(f"finish() takes one of {', '.join(_STATES)}, not {state!r}")
        self.end(state)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end("finished")
        else:
            self.end(*state_of(error))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.project}/{self.name} ({self.id})>"

    # --- what gradwatch itself calls ----------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many frames, scalars and marks the sender has not taken yet."""
        return len(self._outbox)

    def replay(self, step: int, at: float, norms: Mapping[str, float], scalars: Mapping[str, float]) -> None:
        """:meth:`record` for what happened at another time, ``at`` in Unix seconds. Either mapping may be empty."""
        if not self._inert:
            with self._shield.guard("run.replay"):
                if norms:
                    self._recorder.record(step, at, norms)
                for name, value in scalars.items():
                    self._outbox.put_scalar(ScalarPoint(name, step, at, value))

    def attach(self, capture: CaptureLike) -> None:
        """``capture`` says from now on which step it is."""
        self._capture = capture

    def join(self, actor: Actor) -> Callable[[], int] | None:
        """``actor`` hears from now on what is logged and found; gives what tells the coming step, None if nobody knows."""
        self._actors.add(actor)
        return None if self._capture is None else self._scalar_step

    def acted(self, step: int, data: Mapping[str, Any]) -> None:
        """Something was done to training at ``step``: stands on the timeline and in the audit list."""
        if not self._inert:
            with self._shield.guard("noting an action"):
                self._outbox.put_mark(MarkPoint(max(step, 0), self._clock(), "action", plain(data)))

    def end(self, state: EndState, reason: str = "", error: dict[str, Any] | None = None) -> None:
        """Finishes in ``state``, or, if that is an ordinary end, in the state noted before. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        if state == "finished" and self._note is not None:
            noted, noted_reason, activity = self._note
            if activity is None or activity == self.activity():
                state, reason = noted, noted_reason
        EXITS.forget(self)
        self._actors.remove()
        with self._shield.guard("finish"):
            if self._capture is not None:
                self._capture.detach()
                if state == "finished":
                    self._look_for_steps(0)
        with self._shield.guard("finish"):
            self._deliver(Ending(state, self._clock(), reason, error))
        self.make_inert()

    def note_end(self, state: EndState, reason: str, *, lasting: bool) -> None:
        """See :class:`.exits.Watched`."""
        self._note = (state, reason, None if lasting else self.activity())

    def activity(self) -> int:
        """See :class:`.exits.Watched`."""
        return self._outbox.puts

    def make_inert(self) -> None:
        """Nothing said from now on has an effect: the run is over, or this is a forked child."""
        self._inert = True
        self._capture = None

    def trip(self) -> None:
        """The shield has had enough: no hooks any more, no thread."""
        capture = self._capture
        self.make_inert()
        if capture is not None:
            capture.detach()

    def on_incident(self, incident: Incident) -> None:
        """Tells who acts on it; when it opens, sends which samples the steps before saw and measures those after in full."""
        self._actors.incident(incident)
        capture = self._capture
        if self._inert or not self._flight.opened(incident):
            return
        with self._shield.guard("the flight recorder"):
            for data in self._flight.marks(incident):
                self._outbox.put_mark(MarkPoint(max(incident.step, 0), self._clock(), FLIGHT_MARK, data))
            if capture is not None:
                capture.look_closely(AFTER)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _scalar_step(self) -> int:
        if self._capture is not None:
            return self._capture.scalar_step()
        return max(self._outbox.last_step, 0)

    def _log(self, values: Mapping[str, Any], step: int | None) -> None:
        at = self._scalar_step() if step is None else int(step)
        now = self._clock()
        for name, value in values.items():
            if isinstance(value, Mapping):
                self._log({f"{name}/{key}": item for key, item in value.items()}, at)
            elif type(value) is float or type(value) is int:
                self._outbox.put_scalar(ScalarPoint(str(name), at, now, float(value)))
            else:
                number = self._read(value)
                if number is not None:
                    self._outbox.put_scalar(ScalarPoint(str(name), at, now, number))
                else:
                    self._once(
                        f"log {name}", f"{name}={type(value).__name__} is not a number and was left out"
                    )

    def _look_for_steps(self, logged: int) -> None:
        if self._outbox.last_step < 0 and self._outbox.puts >= logged and self._capture is not None:
            self._once(NO_STEP, NO_STEP)

    def _mark(self, kind: str, data: Mapping[str, Any]) -> None:
        self._outbox.put_mark(MarkPoint(max(self._scalar_step(), 0), self._clock(), kind, plain(data)))

    def _record(self, step: int, norms: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        if self._capture is not None:
            self._once("record", "run.record() was left out: this run measures its model by itself")
            return
        if (at := whole(step)) is None or not hasattr(norms, "items"):
            wrong = f"a step from 0 on, not {step!r}" if at is None else "norms by name: {'layer1': 0.3}"
            self._once("record step", f"run.record() needs {wrong}; it was left out")
            return
        values = {}
        for name, value in norms.items():
            number = self._read(value)
            if number is None:
                self._once(f"norm {name}", f"the norm of {name} must be one number; it was left out")
            else:
                values[str(name)] = number() if callable(number) else number
        self._recorder.record(at, self._clock(), values)
        self._log(scalars, at)

    def _deliver(self, ending: Ending) -> None:
        if self._thread is None:
            return
        delivered = self._thread.finish(ending, self._finish_timeout)
        if words := self._links.epilogue(delivered):
            self._console.tell(words)

    def _once(self, what: str, sentence: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._console.tell(sentence)


class NullRun(Run):
    """A run that records nothing: ``mode="disabled"``. Every verb is there and does nothing."""

    def __init__(self, *, id: str = "disabled", name: str = "disabled", project: str = "default") -> None:
        console = Console()
        super().__init__(
            id=id,
            name=name,
            project=project,
            outbox=Outbox(),
            thread=None,
            shield=Shield(console.tell),
            links=NoLinks(),
            console=console,
        )
        self.make_inert()

    def show(self, height: int = 900) -> None:
        """Nothing to show."""
