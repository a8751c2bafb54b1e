"""What a run will take on the disk, before it has taken it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from .live import SeriesRef

__all__ = ["BYTES_PER_VALUE", "Price", "price_of"]

BYTES_PER_VALUE: Final = 4.1
"""Measured for norms with a tenth of noise, all levels and group norms in it (`tests/benchmarks/store.py`)."""

SAMPLED_EVERY: Final = 10
"""Steps between the samples of a statistic of tensors that is declared without a cadence, where the client's budget allows."""

_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Price:
    """Bytes that a run takes in a day at its pace: of one statistic of its tensors at every step, and of all it sends."""

    tensors: int
    steps_per_s: float
    statistic: float
    everything: float

    def sentence(self) -> str:
        """``148 tensors at 3 steps/s: about 160 MB a day per statistic, 480 MB for all``."""
        each = f"{self.tensors:,} tensors at {_pace(self.steps_per_s)} steps/s: about {_bytes(self.statistic)} a day per statistic"
        if _bytes(self.everything) == _bytes(self.statistic):
            return each
        return f"{each}, {_bytes(self.everything)} for all"


def price_of(
    series: Iterable[SeriesRef],
    tensors: int,
    steps_per_s: float,
    numbers_a_step: Mapping[int, float] = MappingProxyType({}),
) -> Price:
    """The price of a run with these series; those of groups are in :data:`BYTES_PER_VALUE` already.

    ``numbers_a_step`` says by a series' index how many of its values come with a step; where it doesn't, what was declared
    counts.
    """
    numbers = sum(numbers_a_step.get(one.idx, _declared(one)) for one in series if one.scope != "group")
    daily = steps_per_s * _DAY * BYTES_PER_VALUE
    return Price(tensors, steps_per_s, tensors * daily, numbers * daily)


def _declared(series: SeriesRef) -> float:
    """Values that come with a step, as far as the declaration tells."""
    rarely = series.cadence == 0 and series.scope != "run"
    return series.width / (SAMPLED_EVERY if rarely else max(series.cadence, 1))


def _pace(steps_per_s: float) -> str:
    return f"{steps_per_s:,.0f}" if steps_per_s >= 10 else f"{steps_per_s:.2g}"


def _bytes(size: float) -> str:
    """Two figures are enough for an estimate."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{float(f'{size:.2g}'):g} {unit}"
        size /= 1000
    return f"{float(f'{size:.2g}'):g} TB"
