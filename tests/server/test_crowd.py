"""A crowd of trainers and open pages at once: everything is stored, everything acknowledged, and memory stays flat.

``GRADWATCH_CROWD_SECONDS=300`` is the long form, with 100 trainers and 50 pages; its figures come from
``python -m tests.benchmarks.crowd``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from multiprocessing import Pipe, get_context
from pathlib import Path

import httpx
import psutil
import pytest
from tests.benchmarks.crowd import Trainer, crowd
from tests.benchmarks.ingest import serve

SECONDS = float(os.environ.get("GRADWATCH_CROWD_SECONDS", "0"))
"""0: the short form."""

PLAN = (
    argparse.Namespace(trainers=100, viewers=50, rate=20.0, seconds=SECONDS, tensors=100)
    if SECONDS
    else argparse.Namespace(trainers=16, viewers=8, rate=25.0, seconds=4.0, tensors=40)
)
GROWTH_BYTES = 256 << 20
"""What a server may grow by, whatever the length of the run: open blocks (128 MiB), the cache of the newest steps (64 MiB), queues,
and what the health engine remembers of 100 runs."""

FLAT_BYTES = 32 << 20
"""What it may grow by from the middle to the end of the long form, when its caches are full."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, str, psutil.Process]]:
    """A server in a process of its own: port, key, process."""
    ours, theirs = Pipe()
    process = get_context("spawn").Process(target=serve, args=(theirs, tmp_path))
    process.start()
    try:
        assert ours.poll(60)
        port, key = ours.recv()
        yield port, key, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join(20)
        ours.close()
        theirs.close()


@contextlib.contextmanager
def sampled(process: psutil.Process) -> Iterator[list[int]]:
    """Bytes that the process holds for itself, each second and at the end. Pages of mapped files are the system's to take back."""
    memory: list[int] = []
    ended = threading.Event()

    def look() -> None:
        found = process.memory_info()
        memory.append(found.rss - found.shared)

    def watch() -> None:
        while not ended.wait(1.0):
            look()

    look()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()
        look()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_memory_stays_flat(
    server: tuple[int, str, psutil.Process], tmp_path: Path
) -> None:
    port, key, process = server
    token = (tmp_path / "local_token").read_text().strip()
    with sampled(process) as memory:
        trainers, messages, _ = asyncio.run(crowd(PLAN, port, key, token))
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}/api/v1",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ) as api:
        runs = {run["id"]: run for run in api.get("/runs", params={"limit": 1000}).json()["runs"]}
        for trainer in trainers:
            assert runs[trainer.run]["steps"] == trainer.sent == round(PLAN.rate * PLAN.seconds)
            assert runs[trainer.run]["lost_frames"] == 0
            assert len(trainer.latencies) == trainer.sent, "each frame was acknowledged"
        check_values(api, trainers[0])
    assert len(messages) > PLAN.viewers, "pages were told while it ran"
    assert memory[-1] - memory[0] < GROWTH_BYTES
    if SECONDS:
        assert max(memory) - memory[len(memory) // 2] < FLAT_BYTES


def check_values(api: httpx.Client, trainer: Trainer) -> None:
    """Every number of one trainer, as it was sent: each step once, in order."""
    count = min(trainer.sent, 20_000)
    params = {"statistic": "grad_norm", "limit": count, "rows": "0,1,39"}
    found = api.get(f"/runs/{trainer.run}/values", params=params).json()
    assert found["steps"] == list(range(count))
    sent = [float(trainer.values[0, row]) for row in (0, 1, 39)]
    assert all(row == sent for row in found["values"])
