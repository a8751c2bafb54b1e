"""Seconds by variant, and whether the machine was idle enough to believe them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Times", "idleness"]


@dataclass
class Times:
    """Seconds by variant, by a clock that may be the CPU time of this thread: other work on the machine does not count."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, variant: str) -> Iterator[None]:
        begun = self.clock()
        yield
        self.seconds.setdefault(variant, []).append(self.clock() - begun)

    def median(self, variant: str) -> float:
        return statistics.median(self.seconds[variant])

    def ratio(self, variant: str, to: str) -> str:
        """Median of the paired ratios, with quartiles."""
        pairs = [a / b for a, b in zip(self.seconds[variant], self.seconds[to], strict=True)]
        low, middle, high = statistics.quantiles(pairs, n=4)
        return f"{middle:5.2f} [{low:.2f}..{high:.2f}]"

    def typical(self, variant: str) -> str:
        """Median with quartiles, in microseconds."""
        low, middle, high = statistics.quantiles(self.seconds[variant], n=4)
        return f"{1e6 * middle:8.0f} [{1e6 * low:.0f}..{1e6 * high:.0f}] us"


def idleness(seconds: float = 2.0) -> str:
    """Whether other work ran on the machine while this process slept for ``seconds``."""
    before = _busy()
    time.sleep(seconds)
    if before is None:
        return "whether the machine is idle is not known here"
    cores = (_busy() - before) / os.sysconf("SC_CLK_TCK") / seconds  # type: ignore[operator]
    return f"other work takes {cores:.2f} of {os.cpu_count()} cores" + ("" if cores < 0.2 else ": NOT IDLE")


def _busy() -> int | None:
    """Clock ticks that all cores together have not been idle."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except OSError:
        return None
    return sum(ticks) - ticks[3] - ticks[4]
