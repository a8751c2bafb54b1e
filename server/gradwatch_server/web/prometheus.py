"""What the server knows of itself and of the runs that are being sent, in Prometheus' text format.

Families are a table: name, type, help, and what reads their samples. Runs have labels of their own, the newest
:data:`MOST_RUNS` of those that somebody sends at this moment, so that the cardinality stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gradwatch.health.incidents import SEVERITIES

from ..histogram import BOUNDS, Histogram
from ..metrics import REFUSALS
from ..models import Run
from ..services import Services
from ..store.dismissal_queries import dismissed_by_kind
from ..store.health_queries import open_incidents, summaries

__all__ = ["MOST_RUNS", "metrics_text"]

MOST_RUNS: Final = 100

STATES: Final = ("learning", "healthy", "attention", "critical")
"""What the health engine says of a run, from good to bad; its gauge is the index, -1 for unknown."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was read once for all families."""

    services: Services
    runs: list[Run]
    health: Mapping[str, Mapping[str, Any]]
    incidents: Mapping[str, int]
    dismissed: Mapping[str, int]
    stored: Mapping[str, int]


Sample: TypeAlias = tuple[Mapping[str, str], float]


def _server(read: Callable[[Services], float]) -> Callable[[_Seen], Iterator[Sample]]:
    def samples(seen: _Seen) -> Iterator[Sample]:
        yield {}, read(seen.services)

    return samples


def _run(read: Callable[[_Seen, Run], float | None]) -> Callable[[_Seen], Iterator[Sample]]:
    def samples(seen: _Seen) -> Iterator[Sample]:
        for run in seen.runs:
            value = read(seen, run)
            if value is not None:
                yield {"run": run.id, "project": run.project}, value

    return samples


def _state(seen: _Seen, run: Run) -> float:
    state = seen.health.get(run.id, {}).get("state")
    return float(STATES.index(state)) if state in STATES else -1.0


def _incidents(seen: _Seen) -> Iterator[Sample]:
    for severity in SEVERITIES:
        yield {"severity": severity}, float(seen.incidents.get(severity, 0))


def _refusals(seen: _Seen) -> Iterator[Sample]:
    for what in REFUSALS:
        yield {"what": what}, float(seen.services.metrics.counters[f"refused_{what}"])


def _dismissed(seen: _Seen) -> Iterator[Sample]:
    for kind, count in sorted(seen.dismissed.items()):
        yield {"kind": kind}, float(count)


_FAMILIES: Final[tuple[tuple[str, str, str, Callable[[_Seen], Iterator[Sample]]], ...]] = (
    (
        "ingest_messages_total",
        "counter",
        "Messages received from trainers.",
        _server(lambda s: s.metrics.counters["ingest_messages"]),
    ),
    (
        "ingest_bytes_total",
        "counter",
        "Bytes received from trainers.",
        _server(lambda s: s.metrics.counters["ingest_bytes"]),
    ),
    (
        "ingest_frames_total",
        "counter",
        "Steps of runs that were taken.",
        _server(lambda s: s.metrics.counters["ingest_frames"]),
    ),
    (
        "ingest_errors_total",
        "counter",
        "Trainers that were refused or cut off.",
        _server(lambda s: s.metrics.counters["ingest_errors"]),
    ),
    ("trainers", "gauge", "Trainers that are connected.", _server(lambda s: s.metrics.open["trainers"])),
    ("viewers", "gauge", "Pages that are connected.", _server(lambda s: s.metrics.open["viewers"])),
    (
        "refused_total",
        "counter",
        "Refused because it was too much: connections, sockets, requests and passwords of an address, requests of a link.",
        _refusals,
    ),
    (
        "views_held_total",
        "counter",
        "Times that a page's numbers waited because the server was busy with trainers.",
        _server(lambda s: s.metrics.counters["views_held"]),
    ),
    (
        "loop_late_seconds",
        "gauge",
        "How late the event loop came lately.",
        _server(lambda s: s.load.late),
    ),
    (
        "uncommitted_bytes",
        "gauge",
        "Bytes received and not yet durable.",
        _server(lambda s: s.load.uncommitted),
    ),
    (
        "writes_waiting",
        "gauge",
        "Writes that wait for a commit.",
        _server(lambda s: s.store.database.waiting),
    ),
    (
        "compaction_waiting_bytes",
        "gauge",
        "Bytes that are durable and not yet in order.",
        _server(lambda s: s.store.waiting_bytes),
    ),
    (
        "health_waiting_values",
        "gauge",
        "Values that wait for the health engine.",
        _server(lambda s: s.health.waiting),
    ),
    ("revision", "gauge", "Newest revision of the database.", _server(lambda s: s.hub.revision)),
    ("database_bytes", "gauge", "Size of the database.", _server(lambda s: s.store.size())),
    (
        "max_bytes",
        "gauge",
        "Size from which old values are thinned; 0: never.",
        _server(lambda s: s.config.max_size),
    ),
    ("open_incidents", "gauge", "Incidents that have not ended.", _incidents),
    (
        "dismissed_incidents",
        "gauge",
        "Incidents of which somebody said that they are not a problem, by kind.",
        _dismissed,
    ),
    ("run_last_step", "gauge", "Newest step.", _run(lambda _, run: run.last_step)),
    ("run_steps_per_second", "gauge", "Pace.", _run(lambda _, run: run.steps_per_s)),
    (
        "run_gradient_norm",
        "gauge",
        "Newest global gradient norm.",
        _run(lambda _, run: run.summary.get("global_grad_norm")),
    ),
    ("run_loss", "gauge", "Newest loss.", _run(lambda _, run: run.summary.get("loss"))),
    ("run_lost_frames", "gauge", "Frames that will never arrive.", _run(lambda _, run: run.lost_frames)),
    (
        "run_stored_bytes",
        "gauge",
        "Bytes that its numbers take.",
        _run(lambda seen, run: seen.stored.get(run.id, 0)),
    ),
    (
        "run_health",
        "gauge",
        "Gradient health: 0 learning what is normal, 1 healthy, 2 attention, 3 critical, -1 unknown.",
        _run(_state),
    ),
)


def metrics_text(services: Services) -> str:
    """Everything. Reads the store: not for the event loop."""
    seen = _see(services)
    lines: list[str] = []
    for name, kind, text, read in _FAMILIES:
        full = f"gradwatch_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
        lines += [f"{full}{_labels(labels)} {_number(value)}" for labels, value in read(seen)]
    lines += _histogram(
        "ack_seconds", "From receiving records to their durable commit.", services.metrics.ack
    )
    lines += _histogram("commit_seconds", "A group of writes, durable.", services.store.database.commits)
    return "\n".join(lines) + "\n"


def _see(services: Services) -> _Seen:
    store = services.store
    active = sorted(services.trainers.runs)[:MOST_RUNS]
    return _Seen(
        services,
        store.runs(ids=active, limit=MOST_RUNS) if active else [],
        store.database.read(lambda conn: summaries(conn, active)) if active else {},
        store.database.read(open_incidents),
        store.database.read(dismissed_by_kind),
        store.sizes() if active else {},
    )


def _histogram(name: str, text: str, histogram: Histogram) -> Iterator[str]:
    full = f"gradwatch_{name}"
    yield from (f"# HELP {full} {text}", f"# TYPE {full} histogram")
    below = 0
    for bound, count in zip((*BOUNDS, "+Inf"), list(histogram.counts), strict=True):
        below += count
        yield f'{full}_bucket{{le="{bound}"}} {below}'
    yield from (f"{full}_sum {histogram.total}", f"{full}_count {below}")


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    plain = repr(float(value)) if isinstance(value, float) else str(value)
    return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(plain, plain)
