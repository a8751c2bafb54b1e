"""Whether the server lives, whether it can work, and how it does."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from gradwatch import __version__

from ..errors import StoreError
from ..metrics import BOUNDS
from ..services import Services
from .access import require_owner, services_of
from .replies import reply_exact

__all__ = ["metrics_text", "router"]

router = APIRouter(tags=["Server"])

READY_SECONDS = 5.0
MOST_RUNS = 100
"""Runs with gauges of their own in ``/metrics``: the cardinality stays bounded."""


@router.get("/healthz", summary="Is it alive?")
async def healthz(request: Request) -> Response:
    """Always, as long as it answers."""
    return reply_exact({"status": "ok", "version": __version__, "instance": services_of(request).instance})


@router.get("/readyz", summary="Can it work?")
async def readyz(request: Request) -> Response:
    """503 when the database can't be written, or when it is shutting down."""
    services = services_of(request)
    if services.closing:
        raise StoreError("The server is shutting down.")
    written = asyncio.wrap_future(services.store.database.write(lambda conn: None))
    try:
        await asyncio.wait_for(written, READY_SECONDS)
    except asyncio.TimeoutError:
        raise StoreError(f"The database has not answered for {READY_SECONDS:.0f} seconds.") from None
    return reply_exact({"status": "ready"})


@router.get("/metrics", summary="Prometheus metrics", dependencies=[Depends(require_owner)])
async def metrics(request: Request) -> Response:
    """In Prometheus' text format. Scrape it with the server's token as bearer token."""
    services = services_of(request)
    text = await run_in_threadpool(metrics_text, services)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


_HELP = {
    "ingest_messages": "Messages received from trainers.",
    "ingest_bytes": "Bytes received from trainers.",
    "ingest_errors": "Trainers that were refused or cut off.",
}


def metrics_text(services: Services) -> str:
    """Everything that is counted."""
    lines: list[str] = []
    for name, text in _HELP.items():
        _metric(lines, f"gradwatch_{name}_total", "counter", text, services.metrics.counters[name])
    gauges = {
        "trainers": ("Trainers that are connected.", services.metrics.open["trainers"]),
        "viewers": ("Pages that are connected.", services.metrics.open["viewers"]),
        "writes_waiting": ("Writes that wait for a commit.", services.store.database.waiting),
        "revision": ("Newest revision of the database.", services.hub.revision),
    }
    for name, (text, value) in gauges.items():
        _metric(lines, f"gradwatch_{name}", "gauge", text, value)
    _ack_histogram(lines, services)
    _runs(lines, services)
    return "\n".join(lines) + "\n"


def _metric(lines: list[str], name: str, kind: str, text: str, value: float) -> None:
    lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]


def _ack_histogram(lines: list[str], services: Services) -> None:
    ack, name = services.metrics.ack, "gradwatch_ack_seconds"
    lines += [f"# HELP {name} From receiving records to their durable commit.", f"# TYPE {name} histogram"]
    below = 0
    for bound, count in zip((*BOUNDS, "+Inf"), ack.counts, strict=True):
        below += count
        lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
    lines += [f"{name}_sum {ack.total}", f"{name}_count {below}"]


def _runs(lines: list[str], services: Services) -> None:
    """Progress and newest norm and loss of the runs that are being sent."""
    active = sorted(services.trainers.runs)[:MOST_RUNS]
    runs = services.store.runs(ids=active, limit=MOST_RUNS) if active else []
    gauges: dict[str, tuple[str, Any]] = {
        "run_last_step": ("Newest step.", lambda run: run.last_step),
        "run_steps_per_second": ("Pace.", lambda run: run.steps_per_s),
        "run_gradient_norm": (
            "Newest global gradient norm.",
            lambda run: run.summary.get("global_grad_norm"),
        ),
        "run_loss": ("Newest loss.", lambda run: run.summary.get("loss")),
    }
    for name, (text, read) in gauges.items():
        full = f"gradwatch_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} gauge"]
        for run in runs:
            value = read(run)
            if value is not None:
                lines.append(
                    f'{full}{{run="{_label(run.id)}",project="{_label(run.project)}"}} {_number(value)}'
                )


def _number(value: float) -> str:
    return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(repr(float(value)), repr(float(value)))


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
