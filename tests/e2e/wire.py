"""Runs that were made elsewhere, sent to a real server over the real wire as fast as it takes them."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from websockets.sync.client import connect

from gradwatch.protocol import (
    Batch,
    Block,
    Bye,
    ClientSession,
    Hello,
    Mark,
    Record,
    Schema,
    Statistic,
    Tensor,
    auth,
    encode,
)
from gradwatch.protocol.messages import EndState, Heartbeat
from gradwatch.protocol.session import Acked, Opened

from ..benchmarks.health.replay import Run
from .harness import WAIT_S, Server

STEPS_A_BATCH = 50
WINDOW = 64
"""Records sent and not yet acknowledged."""

SECONDS_A_STEP = 0.1


@dataclass
class Series:
    """One statistic of a run: ``values`` are ``[n, width]`` at ``steps`` (all steps of the run unless given)."""

    name: str
    values: npt.NDArray[Any]
    scope: str = "run"
    steps: npt.NDArray[np.float64] | None = None
    logged: bool = False
    present: npt.NDArray[np.bool_] | None = None


@dataclass
class Story:
    """A whole run: what a trainer would have sent."""

    name: str
    tensors: Sequence[Tensor]
    series: Sequence[Series]
    steps: int
    project: str = "recorded"
    optimizers: Sequence[Mapping[str, Any]] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    marks: Sequence[tuple[int, str, dict[str, Any]]] = ()
    end: EndState | None = "finished"
    error: dict[str, Any] | None = None
    began: float = 0.0

    @property
    def run_id(self) -> str:
        return self.name.replace("/", "-").replace(" ", "-").lower()

    def hello(self) -> Hello:
        return Hello(
            run_id=self.run_id,
            run_key=f"key of {self.run_id}",
            project=self.project,
            name=self.name,
            stream=f"{self.run_id}-stream",
            segment=f"{self.run_id}-segment",
            started_at=self.start,
            optimizers=tuple(dict(o) for o in self.optimizers),
            context=dict(self.context),
        )

    @property
    def start(self) -> float:
        return self.began or time.time() - self.steps * SECONDS_A_STEP

    def records(self) -> Iterator[Record]:
        """Schema, batches with marks between them, and the farewell."""
        start = self.start
        seq = itertools.count()
        yield Schema(
            seq=next(seq),
            id=0,
            tensors=tuple(self.tensors),
            statistics=tuple(
                Statistic(
                    name=s.name,
                    scope=s.scope,  # type: ignore[arg-type]
                    width=s.values.shape[1],
                    dtype="f8" if s.scope == "run" else "f4",
                    logged=s.logged,
                )
                for s in self.series
            ),
        )
        every = np.arange(self.steps, dtype=np.float64)
        for first in range(0, self.steps, STEPS_A_BATCH):
            end = min(first + STEPS_A_BATCH, self.steps)
            blocks = tuple(
                b for i, s in enumerate(self.series) for b in _part(i, s, every, first, end, start)
            )
            yield Batch(seq=next(seq), schema=0, blocks=blocks)
            for step, kind, data in self.marks:
                if first <= step < end:
                    yield Mark(
                        seq=next(seq), step=step, time=start + step * SECONDS_A_STEP, kind=kind, data=data
                    )
        if self.end is not None:
            ended = start + self.steps * SECONDS_A_STEP
            yield Bye(seq=next(seq), state=self.end, time=ended, error=self.error)


def _part(
    index: int, series: Series, every: npt.NDArray[np.float64], first: int, end: int, start: float
) -> Iterator[Block]:
    steps = every if series.steps is None else series.steps
    low, high = np.searchsorted(steps, (first, end))
    if low == high:
        return
    axis = steps[low:high]
    kind = np.float64 if series.scope == "run" else np.float32
    present = None if series.present is None else np.ascontiguousarray(series.present[low:high])
    values = np.ascontiguousarray(series.values[low:high], dtype=kind)
    yield Block(
        statistic=index, steps=axis, times=start + axis * SECONDS_A_STEP, values=values, present=present
    )


def told(run: Run, name: str, project: str = "faults") -> Story:
    """A recording of the health benchmark as its trainer would have sent it."""
    data = run.data
    norms = data["grad_norm"]
    absent = np.isnan(norms) & np.isnan(norms[:5]).all(axis=0)
    series = [
        Series("grad_norm", norms, "tensor", present=None if not absent.any() else ~absent),
        Series("global_grad_norm", run.total[:, None]),
    ]
    for key, values in data.items():
        kind, _, label = key.partition("/")
        if kind == "run":
            series.append(Series(label, values[:, None], logged=label == "loss"))
        elif kind == "tensor":
            series.append(Series(label, values, "tensor", data[f"at/{label}"].astype(np.float64)))
    if "val" in data:
        steps, values = data["val"].T
        series.append(Series("val/loss", values[:, None], steps=steps, logged=True))
    return Story(name, run.tensors, series, run.steps, project, run.optimizers)


class Wire:
    """A trainer's connection, open until it is left: the run is live as long."""

    def __init__(self, server: Server, story: Story) -> None:
        self.story = story
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(
            connect(f"ws://127.0.0.1:{server.port}/ws/ingest", compression=None, max_size=None, proxy=None)
        )
        self._session = ClientSession(story.hello(), nonce="0123456789abcdef", key=auth.key_of(server.token))
        self._acked = self._sent = 0
        self._socket.send(self._session.start())
        opened = False
        while not opened:
            opened = any(isinstance(event, Opened) for event in self._hear())

    def send(self, records: Iterable[Record]) -> None:
        """Returns when all are stored."""
        for record in records:
            self._socket.send(encode(record))
            self._sent += 1
            while self._sent - self._acked > WINDOW:
                self._hear()
        while self._acked < self._sent:
            self._hear()

    def beat(self, cost: dict[str, float]) -> None:
        """A heartbeat, as the sender thread sends them."""
        self._socket.send(encode(Heartbeat(time=time.time(), step=self.story.steps - 1, cost=cost)))

    def _hear(self) -> list[Any]:
        out, events = self._session.receive(self._socket.recv(timeout=WAIT_S))
        for text in out:
            self._socket.send(text)
        for event in events:
            if isinstance(event, Acked):
                self._acked = event.next_seq
        return events

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def send(server: Server, story: Story) -> str:
    """Sends a whole run; its id, when all of it is stored."""
    with Wire(server, story) as wire:
        wire.send(story.records())
    return story.run_id
