"""Tables as DataFrames of pandas or polars, imported only here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, GradwatchError

__all__ = ["KINDS", "Column", "Make", "maker"]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values ``[n]`` and, where some are absent, which are there."""

    values: npt.NDArray[Any] | list[Any]
    present: npt.NDArray[np.bool_] | None = None


Make = Callable[[Mapping[str, Column]], Any]


def _pandas(columns: Mapping[str, Column]) -> Any:
    """What is absent is ``<NA>``, in a nullable column, so that NaN stays NaN."""
    pandas = importlib.import_module("pandas")

    def one(column: Column) -> Any:
        if column.present is None or bool(column.present.all()):
            return column.values
        return pandas.arrays.FloatingArray(np.asarray(column.values, np.float64), ~column.present)

    return pandas.DataFrame({name: one(column) for name, column in columns.items()})


def _polars(columns: Mapping[str, Column]) -> Any:
    """What is absent is null, NaN stays NaN."""
    polars = importlib.import_module("polars")

    def one(name: str, column: Column) -> Any:
        if not isinstance(column.values, np.ndarray):
            return polars.Series(name, column.values, strict=False)
        series = polars.Series(name, column.values)
        if column.present is None or bool(column.present.all()):
            return series
        frame = polars.DataFrame([series.alias("value"), polars.Series("present", column.present)])
        chosen = polars.when(polars.col("present")).then(polars.col("value"))
        return frame.select(chosen.alias(name)).to_series()

    return polars.DataFrame([one(name, column) for name, column in columns.items()])


KINDS: Final[Mapping[str, Make]] = {"pandas": _pandas, "polars": _polars}
"""How tables are made, by the package that makes them."""


def maker(kind: str | None) -> Make:
    """The function that makes tables of ``kind``; for None of the first kind that is installed.

    Raises:
        ConfigError: there is no such kind.
        GradwatchError: it is not installed.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"frames= must be one of {', '.join(KINDS)}, not {kind!r}")
    wanted = list(KINDS) if kind is None else [kind]
    for name in wanted:
        if importlib.util.find_spec(name) is not None:
            return KINDS[name]
    raise GradwatchError(f"tables need {' or '.join(wanted)}: pip install {wanted[0]}")
