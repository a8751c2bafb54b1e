"""Steps of any framework: norms given by name become frames, their names become tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .frames import Frame
from .outbox import Outbox, ReadyFrame
from .packer import short_name
from .protocol import Statistic, Tensor

__all__ = ["Recorder"]


class Recorder:
    """Declares names as they come; a name that misses at a step is absent there, neither zero nor NaN."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._columns: dict[str, int] = {}

    def record(self, step: int, time: float, norms: Mapping[str, float]) -> None:
        """One step: gradient L2 norms by name."""
        fresh = [name for name in norms if name not in self._columns]
        for name in fresh:
            self._columns[name] = len(self._columns)
        if fresh or not self._outbox.declarations:
            self._declare()
        width = len(self._columns)
        values = np.full(width, np.nan, dtype=np.float32)
        here = np.zeros(width, dtype=np.bool_)
        for name, value in norms.items():
            values[self._columns[name]] = value
            here[self._columns[name]] = True
        whole = float(np.sqrt(np.sum(np.square(np.array(list(norms.values()), dtype=np.float64)))))
        rows: dict[str, npt.NDArray[Any]] = {"global_grad_norm": np.array([whole], dtype=np.float64)}
        if width:
            rows["grad_norm"] = values
        present = {} if here.all() else {"grad_norm": here}
        frame = Frame(
            step=step, time=time, values=rows, present=present, schema=len(self._outbox.declarations)
        )
        self._outbox.put(ReadyFrame(frame))

    def _declare(self) -> None:
        tensors = tuple(
            Tensor(name=short_name(name), depth=depth, module=name.rpartition(".")[0])
            for name, depth in self._columns.items()
        )
        statistics = [Statistic(name="global_grad_norm", scope="run", width=1, dtype="f8")]
        if tensors:
            statistics.append(Statistic(name="grad_norm", scope="tensor", width=len(tensors)))
        self._outbox.declare(tensors, tuple(statistics))
