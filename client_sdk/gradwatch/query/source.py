"""Where runs are read from: what every source can do, and the one that asks a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ..console import is_loopback
from ..errors import GradwatchError

__all__ = ["Buckets", "Histogram", "HttpSource", "Source", "Values"]

MOST_STEPS: Final = 100_000
MOST_VALUES: Final = 2_000_000
"""What a server gives at once."""

TIMEOUT_S: Final = 60.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Exact values: ``steps`` and ``times`` (Unix seconds) float64 ``[n]``, ``values`` float64 and ``present`` bool
    ``[n, rows]``. Absent - no gradient at that step - is neither zero nor NaN; underneath it is NaN."""

    steps: Floats
    times: Floats
    values: Floats
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Stretches of ``width`` steps from ``first * width`` on: extremes of the finite values and the newest value of each,
    float64 ``[rows, n]``, NaN where there are none."""

    width: int
    first: int
    low: Floats
    high: Floats
    last: Floats

    @property
    def steps(self) -> Floats:
        """The middle of each bucket."""
        firsts = np.arange(self.first, self.first + self.low.shape[1], dtype=np.float64) * self.width
        middles: Floats = firsts + (self.width - 1) / 2
        return middles


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """A tensor's sampled gradient at one step: ``counts`` float64 ``[48]``, see :mod:`gradwatch.protocol.histogram`."""

    step: int
    time: float
    counts: Floats


class Source(Protocol):
    """Runs as the HTTP interface describes them, and their numbers.

    Every method raises GradwatchError, with a sentence, for what is not there or can't be read.
    """

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the newest first."""

    def run(self, run_id: str) -> dict[str, Any]:
        """``run``, ``segments`` and ``statistics`` of a run."""

    def tensors(self, run_id: str) -> list[dict[str, Any]]:
        """Tensors by index."""

    def incidents(self, run_id: str) -> list[dict[str, Any]]:
        """What the health engine found, the newest first."""

    def marks(self, run_id: str) -> list[dict[str, Any]]:
        """Checkpoints, notes, restarts."""

    def values(
        self, run_id: str, statistic: str, scope: str, rows: Sequence[int], start: int, stop: int | None
    ) -> Values:
        """Exact values of steps ``start`` to ``stop``, the latter exclusive."""

    def histogram(self, run_id: str, row: int, step: int | None) -> Histogram | None:
        """That of a tensor at the sampled step nearest to ``step`` (None: the newest), None if it has none."""

    def series(
        self,
        run_id: str,
        statistic: str,
        scope: str,
        rows: Sequence[int],
        start: int,
        stop: int | None,
        points: int,
    ) -> Buckets:
        """The same in at most ``points`` buckets."""


class HttpSource:
    """A server, through its HTTP interface.

    Args:
        server: address, such as ``http://127.0.0.1:8642``.
        token: an owner's or member's token.
    """

    def __init__(self, server: str, token: str) -> None:
        self._base = f"{server.rstrip('/')}/api/v1"
        self._token = token
        # A proxy of the environment is for other computers.
        handlers = [urllib.request.ProxyHandler({})] if is_loopback(server) else []
        self._opener = urllib.request.build_opener(*handlers)

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._get("/runs", limit=1000, offset=len(found))
            found += page["runs"]
            if not page["runs"] or len(found) >= page["total"]:
                return found

    def run(self, run_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._get(f"/runs/{_quoted(run_id)}")
        return answer

    def tensors(self, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(f"/runs/{_quoted(run_id)}/tensors")["tensors"]
        return found

    def incidents(self, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(f"/runs/{_quoted(run_id)}/incidents", limit=1000)["incidents"]
        return found

    def marks(self, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(f"/runs/{_quoted(run_id)}/marks")["marks"]
        return found

    def values(
        self, run_id: str, statistic: str, scope: str, rows: Sequence[int], start: int, stop: int | None
    ) -> Values:
        limit = max(1, min(MOST_STEPS, MOST_VALUES // max(1, len(rows))))
        asked = {"statistic": statistic, "scope": scope, "rows": ",".join(map(str, rows)), "limit": limit}
        parts = []
        at = start
        while stop is None or at < stop:
            answer = self._get(f"/runs/{_quoted(run_id)}/values", **asked, **{"from": at, "to": stop})
            parts.append(_values(answer, len(rows)))
            if len(answer["steps"]) < limit:
                break
            at = int(answer["steps"][-1]) + 1
        return _joined(parts, len(rows))

    def series(
        self,
        run_id: str,
        statistic: str,
        scope: str,
        rows: Sequence[int],
        start: int,
        stop: int | None,
        points: int,
    ) -> Buckets:
        answer = self._get(
            f"/runs/{_quoted(run_id)}/series",
            statistic=statistic,
            scope=scope,
            rows=",".join(map(str, rows)),
            points=points,
            format="json",
            **{"from": start, "to": stop},
        )
        planes = [_floats(answer[name]).reshape(len(rows), -1) for name in ("low", "high", "last")]
        return Buckets(answer["width"], answer["first_bucket"], *planes)

    def histogram(self, run_id: str, row: int, step: int | None) -> Histogram | None:
        found = self._get(f"/runs/{_quoted(run_id)}/histogram", tensor=row, step=step)
        if found["step"] is None:
            return None
        counts = [found["zero"], found["below"], *found["octaves"], found["above"], found["not_finite"]]
        return Histogram(found["step"], found["time"], np.array(counts, np.float64))

    def _get(self, path: str, **asked: Any) -> Any:
        query = urllib.parse.urlencode({name: value for name, value in asked.items() if value is not None})
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(f"{self._base}{path}?{query}", headers=headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise GradwatchError(_sentence(error)) from None
        except (OSError, ValueError) as error:
            raise GradwatchError(f"no gradwatch server answers at {self._base}: {error}") from None


def _quoted(run_id: str) -> str:
    return urllib.parse.quote(run_id, safe="")


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"the server answers {error.code}"


def _floats(cells: Any) -> Floats:
    """Numbers, ``null`` and the words for what is not finite."""
    return np.array(cells, dtype=np.float64)


def _values(answer: Any, rows: int) -> Values:
    cells = answer["values"]
    values = _floats(cells).reshape(-1, rows)
    present = np.ones(values.shape, dtype=np.bool_)
    if np.isnan(values).any():
        present = np.array([[cell is not None for cell in row] for row in cells], dtype=np.bool_)
    return Values(_floats(answer["steps"]), _floats(answer["times"]), values, present)


def _joined(parts: list[Values], rows: int) -> Values:
    if not parts:
        return Values(np.zeros(0), np.zeros(0), np.zeros((0, rows)), np.zeros((0, rows), np.bool_))
    steps, times, values = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("steps", "times", "values")
    )
    return Values(steps, times, values, np.concatenate([part.present for part in parts]))
