"""The Monitor: fed with observations, it gives incidents. No I/O, no clock, no logging; deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..protocol import Tensor
from .desk import Case, Desk
from .detectors.broken import Stopped
from .frames import Frame, RankSample
from .incidents import Incident, from_plain
from .intake import FRAME_STATISTICS, Intake, MarkEvent, ScalarEvent, intake_from
from .layout import Layout
from .memory import Memory
from .observation import Observation
from .scores import Scores
from .sentences import run_sentence
from .state import State, below, pack, unpack
from .table import DETECTORS, Look

__all__ = ["FRAME_STATISTICS", "HealthState", "Monitor"]

HealthState: TypeAlias = Literal["learning", "healthy", "attention", "critical"]

_NEED: Final = 100
_ROUND: Final = 40
"""Frames after which the plan of who looks when repeats: a multiple of every ``every`` in the table."""
_WITHOUT_NORMS: Final[tuple[str, ...]] = ("loss_scale", "nonfinite_weight")
_STATE_VERSION: Final = 3


@dataclass(slots=True)
class _Cursor:
    """How far the run has been judged, and what waits."""

    step: int = -1
    started: float = math.nan
    healthy_since: float = math.nan
    late: int = 0


class Monitor:
    """Watches one run.

    Args:
        tensors: the run's tensors; column *i* of a tensor statistic is tensor *i* (or by ``rows`` of the series).
        optimizers: one mapping per optimizer, as in the Hello: class and hyperparameters; improves causes and severities.
        profile: "default", or "adversarial" for GANs and reinforcement learning, whose losses need not fall. Several
            optimizers over one model count as adversarial by themselves.
        run: the run's id; part of the ids of incidents.

    Raises:
        ValueError: an unknown profile.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        *,
        optimizers: Sequence[Mapping[str, Any]] = (),
        profile: str = "default",
        run: str = "",
    ) -> None:
        if profile not in ("default", "adversarial"):
            raise ValueError(f"there is no health profile {profile!r}; use 'default' or 'adversarial'")
        self.layout = Layout(tensors, optimizers, profile)
        self.profile = profile
        self._optimizers = tuple(optimizers)
        self._memory = Memory(width=len(tensors))
        self._desk = Desk(run=run)
        self._scores = Scores()
        self._cursor = _Cursor()
        self._intake = Intake()
        self._looks: dict[str, Look] = {
            row.key: row.build() for row in DETECTORS if row.build is not None and profile in row.profiles
        }
        self._stopped = Stopped()
        on_frame = [(r.key, r.every) for r in DETECTORS if r.when == "frame" and r.key in self._looks]
        self._plan = [tuple(k for k, every in on_frame if n % every == 0) for n in range(_ROUND)]
        self._on_loss = [r.key for r in DETECTORS if r.when == "loss" and r.key in self._looks]

    def declare(
        self, tensors: Sequence[Tensor], *, optimizers: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """A new schema: all tensors anew, those known first and in the same order. What was learnt of them is kept.

        ``optimizers`` replaces what was known of them, as in the constructor; None: as before.

        Raises:
            ValueError: a known tensor is gone or at another place.
        """
        if [t.name for t in tensors[: self.layout.n]] != self.layout.names:
            raise ValueError("a new schema must begin with the tensors that are known, in the same order")
        if optimizers is not None:
            self._optimizers = tuple(optimizers)
        self.layout = Layout(tensors, self._optimizers, self.profile)
        if self.layout.n == self._memory.width:
            return
        self._memory.resize(self.layout.n)
        for frame in self._intake.frames:
            frame.rows = {k: _wide(v, self.layout.n, np.nan) for k, v in frame.rows.items()}

    # --- feeding ------------------------------------------------------------------------------------------------------

    def observe(self, observation: Observation) -> list[Incident]:
        """Judges what came; gives the incidents that opened, changed or closed, newest snapshot of each.

        Frames are judged in the order of their steps, each at once. A logged scalar is judged after the frame of its
        step and before the next. Where the loss is known to come at each step (or each k-th) and the one before a frame
        has not come yet, that frame waits for it, but for at most 4 later frames. So the same frames give the same
        incidents however they are cut into observations, as long as a scalar comes at most 4 frames late; one that
        comes later still is judged when it comes. Frames at or below the newest judged step are counted and ignored.
        """
        # Infinite and NaN numbers are what we look for; numpy need not warn of what follows from them.
        with np.errstate(all="ignore"):
            self._judge(observation)
        return self._desk.take()

    def _judge(self, observation: Observation) -> None:
        self._intake.collect(observation, self.layout.n)
        for event in self._intake.due(self._memory.loss):
            if isinstance(event, Frame):
                self._take_frame(event)
            elif isinstance(event, RankSample):
                self._take_ranks(event)
            elif isinstance(event, ScalarEvent):
                self._take_scalar(event.step, event.name, event.value)
            else:
                self._take_mark(event)

    def tick(self, now: float) -> list[Incident]:
        """Judges the silence since the newest step at time ``now`` (Unix seconds)."""
        finding = self._stopped.look_at(self._memory, now)
        if finding is not None:
            self._desk.report(finding, self._memory, self.layout)
        return self._desk.take()

    @property
    def incidents(self) -> list[Incident]:
        """All incidents that are kept (at most 400 closed ones), oldest first."""
        return self._desk.all()

    @property
    def step(self) -> int:
        """The newest judged step, -1 before the first."""
        return self._cursor.step

    # --- asking ---------------------------------------------------------------------------------------------------------

    def health(self) -> tuple[HealthState, str]:
        """The run's state and one sentence about it."""
        memory, cursor = self._memory, self._cursor
        since = cursor.healthy_since if cursor.healthy_since == cursor.healthy_since else cursor.started
        state, sentence = run_sentence(
            self._desk.worst(),
            frames=memory.frames,
            need=_NEED,
            norm=memory.total,
            low=2.0 ** memory.quantile.at(0.05) if memory.quantile.values else math.nan,
            high=2.0 ** memory.quantile.at(0.95) if memory.quantile.values else math.nan,
            seconds=memory.time - since if since == since else 0.0,
        )
        found: HealthState = (
            "learning" if state == "learning" else "healthy" if state == "healthy" else "attention"
        )
        return ("critical" if state == "critical" else found), sentence

    def scores(self) -> dict[str, Any]:
        """Numbers to compare runs by; see :meth:`Scores.numbers`."""
        return self._scores.numbers()

    def usual(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Centre and scale of each tensor's log2 norm, ``[tensors]`` each; NaN before there is a baseline."""
        return self._memory.base_m.copy(), self._memory.base_s.copy()

    # --- state ------------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """All that a restart needs: ``{"plain": JSON-able, "arrays": {...}}``; :func:`to_bytes` packs it.

        Its size depends on the number of tensors, never on the length of the run.
        """
        desk = self._desk
        return pack(
            {
                "version": _STATE_VERSION,
                "memory": self._memory,
                "scores": self._scores,
                "cursor": self._cursor,
                "intake": self._intake,
                "looks": self._looks,
                "open": {
                    k: {
                        "incident": c.incident,
                        "seen": c.last_seen,
                        "tensors": c.tensors,
                        "refine": c.refine_at,
                    }
                    for k, c in desk.cases.items()
                },
                "closed": desk.closed,
                "opened": desk.opened,
                "tensors": self.layout.n,
            }
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where :meth:`state` was taken.

        Raises:
            ValueError: the state is of another version, another number of tensors, or damaged.
        """
        plain, arrays = state["plain"], state["arrays"]
        if plain.get("version") != _STATE_VERSION or plain.get("tensors") != self.layout.n:
            raise ValueError(
                "this health state belongs to another version or model; start a new Monitor and replay the run"
            )
        unpack(self._memory, plain["memory"], below(arrays, "/memory"))
        unpack(self._scores, plain["scores"], below(arrays, "/scores"))
        unpack(self._cursor, plain["cursor"], {})
        for key, look in self._looks.items():
            unpack(look, plain["looks"][key], {})
        self._intake = intake_from(plain["intake"], below(arrays, "/intake"))
        self._memory.frame = None
        self._desk.cases = {
            k: Case(from_plain(v["incident"]), int(v["seen"]), tuple(v["tensors"]), int(v["refine"]))
            for k, v in plain["open"].items()
        }
        self._desk.closed = {k: from_plain(v) for k, v in plain["closed"].items()}
        self._desk.opened = int(plain["opened"])

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _take_frame(self, frame: Frame) -> None:
        cursor, memory = self._cursor, self._memory
        if frame.step <= cursor.step:
            cursor.late += 1
            return
        cursor.step = frame.step
        if cursor.started != cursor.started:
            cursor.started = frame.time
        memory.take(frame, self.layout)
        if self._desk.cases:
            self._desk.close_kind("stopped", memory)
        self._look(frame)
        self._after(memory)

    def _look(self, frame: Frame) -> None:
        memory = self._memory
        if "grad_norm" not in frame.rows or memory.overflow:
            keys = _WITHOUT_NORMS
        else:
            keys = self._plan[memory.frames % _ROUND]
        spiked = False
        for key in keys:
            finding = self._looks[key].look(memory, self.layout)
            if finding is not None:
                spiked = spiked or key == "spike"
                self._desk.report(finding, memory, self.layout)
        if "grad_norm" in frame.rows and not memory.overflow:
            self._scores.learn(memory, frame.number("clip_coef"), spiked)

    def _take_scalar(self, step: int, name: str, value: float) -> None:
        memory = self._memory
        if name != "loss":
            if math.isfinite(value):
                memory.val.append([float(step), value, memory.loss.near])
                self._report("overfitting")
            return
        if step <= memory.loss.step:
            self._cursor.late += 1
            return
        memory.take_loss(step, value)
        if memory.frames == 0:
            memory.step = max(memory.step, step)
        for key in self._on_loss:
            self._report(key)
        self._after(memory)

    def _take_ranks(self, sample: RankSample) -> None:
        """What ranks say side by side may be of a step that was judged long ago."""
        self._memory.ranks = sample
        self._report("bad_rank")
        self._memory.ranks = None

    def _report(self, key: str) -> None:
        look = self._looks.get(key)
        finding = look.look(self._memory, self.layout) if look is not None else None
        if finding is not None:
            self._desk.report(finding, self._memory, self.layout)

    def _after(self, memory: Memory) -> None:
        desk = self._desk
        if desk.cases:
            desk.age(memory, self.layout)
        worst = desk.worst() if desk.cases else None
        if worst is None:
            if self._cursor.healthy_since != self._cursor.healthy_since:
                self._cursor.healthy_since = memory.time
        else:
            self._cursor.healthy_since = math.nan
            if self._scores.first_bad_step < 0:
                self._scores.first_bad_step = worst.first_step

    def _take_mark(self, mark: MarkEvent) -> None:
        memory = self._memory
        if mark.kind == "checkpoint":
            memory.checkpoints.append(mark.step)
        elif mark.kind == "phase":
            memory.shift()
        elif mark.kind == "restart":
            memory.shift()
            self._cursor.step = min(self._cursor.step, mark.step - 1)
            memory.loss.step = min(memory.loss.step, mark.step - 1)


def _wide(row: npt.NDArray[np.float64], width: int, fill: float) -> npt.NDArray[np.float64]:
    wide = np.full(width, fill)
    wide[: len(row)] = row
    return wide
