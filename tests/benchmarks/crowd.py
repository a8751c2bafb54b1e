"""Many trainers and many open pages at once: is all acknowledged soon, is nothing lost, does memory stay flat?

    python -m tests.benchmarks.crowd [--trainers 50] [--viewers 10] [--rate 60] [--seconds 20] [--tensors 100]
        [--no-health]

Each trainer sends ``rate`` frames a second, one step each; each page follows the heat map of one run. Prints frames per
second, quantiles of the time from sending to the acknowledgement, what the store holds against what was sent, and the
server's memory at the start and the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from tests.benchmarks.ingest import names, serve
from tests.server.live_server import hello, schema
from websockets.asyncio.client import connect

from gradwatch.protocol import Batch, Block, ClientSession, encode
from gradwatch.protocol.session import Acked

TOKEN_HEADER = "Authorization"


class Ready:
    """Everybody waits until all have come: what is measured is the running, not the opening."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._all = asyncio.Event()
        self.opened = time.perf_counter()

    async def wait(self) -> None:
        """Until all are here."""
        self._missing -= 1
        if self._missing == 0:
            self.opened = time.perf_counter()
            self._all.set()
        await self._all.wait()


class Trainer:
    """One client. ``latencies`` are seconds from sending a frame to its acknowledgement."""

    def __init__(self, number: int, tensors: int) -> None:
        self.run = f"crowd-{number}"
        self.latencies: list[float] = []
        self.sent = 0
        self.values = np.random.default_rng(number).random((1, tensors), np.float32)
        self._tensors = tensors

    async def work(self, port: int, key: str, rate: float, seconds: float, ready: Ready) -> None:
        """Opens its run, waits for the others, sends frames at its own pace, and waits until all are acknowledged."""
        session = ClientSession(hello(self.run), nonce="0123456789abcdef", key=key)
        async with connect(
            f"ws://127.0.0.1:{port}/ws/ingest", compression=None, max_size=None, proxy=None
        ) as socket:
            await socket.send(session.start())
            for _ in range(2):
                for text in session.receive(await socket.recv())[0]:
                    await socket.send(text)
            await socket.send(encode(schema(names(self._tensors))))
            while not any(isinstance(event, Acked) for event in session.receive(await socket.recv())[1]):
                pass
            await ready.wait()
            times = [time.perf_counter()]
            listening = asyncio.ensure_future(self._listen(socket, session, times, round(rate * seconds) + 1))
            start = time.perf_counter()
            for step in range(round(rate * seconds)):
                await asyncio.sleep(max(0.0, start + step / rate - time.perf_counter()))
                axis = np.array([float(step)])
                block = Block(statistic=0, steps=axis, times=axis + 1.7e9, values=self.values)
                times.append(time.perf_counter())
                await socket.send(encode(Batch(seq=step + 1, schema=0, blocks=(block,))))
                self.sent += 1
            await listening

    async def _listen(self, socket: Any, session: ClientSession, times: list[float], last: int) -> None:
        acked = 0
        while acked < last:
            for event in session.receive(await socket.recv())[1]:
                if isinstance(event, Acked):
                    now = time.perf_counter()
                    self.latencies += [now - times[seq] for seq in range(max(1, acked), event.next_seq)]
                    acked = event.next_seq


async def watch(port: int, token: str, run: str, counts: list[int]) -> None:
    """A page that follows a run's heat map until it is cancelled."""
    headers = {TOKEN_HEADER: f"Bearer {token}"}
    address = f"ws://127.0.0.1:{port}/ws/live"
    async with connect(
        address, compression=None, max_size=None, proxy=None, additional_headers=headers
    ) as socket:
        await socket.send(json.dumps({"type": "hello"}))
        question = {"type": "subscribe", "id": 1, "run": run, "statistic": "grad_norm"}
        asked = False
        async for message in socket:
            if isinstance(message, bytes):
                counts.append(len(message))
            elif not asked or json.loads(message)["type"] == "error":
                await asyncio.sleep(0.5)
                await socket.send(json.dumps(question))
                asked = True


async def crowd(
    given: argparse.Namespace, port: int, key: str, token: str
) -> tuple[list[Trainer], list[int], float]:
    """Runs everybody; trainers, sizes of what pages got, and seconds from when all had opened their runs."""
    ready = Ready(given.trainers)
    trainers = [Trainer(number, given.tensors) for number in range(given.trainers)]
    counts: list[int] = []
    pages = [
        asyncio.ensure_future(watch(port, token, trainers[i % len(trainers)].run, counts))
        for i in range(given.viewers)
    ]
    began = time.perf_counter()
    await asyncio.gather(*(trainer.work(port, key, given.rate, given.seconds, ready) for trainer in trainers))
    took = time.perf_counter() - ready.opened
    print(f"{given.trainers} runs opened in {ready.opened - began:.1f} s")
    for page in pages:
        page.cancel()
    ended = await asyncio.gather(*pages, return_exceptions=True)
    failures = [error for error in ended if isinstance(error, Exception)]
    if failures:
        raise failures[0]
    return trainers, counts, took


def quantile(metrics: str, name: str, q: float) -> str:
    """The upper bound of the histogram bucket that the quantile lies in."""
    buckets = re.findall(rf'^gradwatch_{name}_bucket{{le="(.*)"}} (\d+)$', metrics, re.MULTILINE)
    total = int(buckets[-1][1])
    return next(bound for bound, count in buckets if int(count) >= q * total)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trainers", type=int, default=50)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--rate", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tensors", type=int, default=100)
    parser.add_argument("--no-health", action="store_true", help="without the health engine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Pipe()
        process = get_context("spawn").Process(target=serve, args=(theirs, Path(folder), not given.no_health))
        process.start()
        try:
            port, key = ours.recv()
            token = (Path(folder) / "local_token").read_text().strip()
            server = psutil.Process(process.pid)
            before, used = server.memory_info().rss, server.cpu_times()
            trainers, counts, took = asyncio.run(crowd(given, port, key, token))
            after, now = server.memory_info().rss, server.cpu_times()
            seconds = now.user + now.system - used.user - used.system
            report = httpx.get(
                f"http://127.0.0.1:{port}/api/v1/runs?limit=1000",
                headers={TOKEN_HEADER: f"Bearer {token}"},
                timeout=60,
            ).json()
            metrics = httpx.get(
                f"http://127.0.0.1:{port}/metrics", headers={TOKEN_HEADER: f"Bearer {token}"}, timeout=60
            ).text
        finally:
            process.terminate()
            process.join(10)
    sent = sum(trainer.sent for trainer in trainers)
    stored = sum(run["steps"] for run in report["runs"])
    latencies = 1000 * np.array([one for trainer in trainers for one in trainer.latencies])
    p50, p99 = np.percentile(latencies, [50, 99])
    print(f"{given.trainers} trainers, {given.viewers} pages: {sent / took:,.0f} frames/s in {took:.1f} s")
    print(f"acknowledged after {p50:.0f} ms (median), {p99:.0f} ms (p99), {latencies.max():.0f} ms (longest)")
    print(f"commits took {quantile(metrics, 'commit_seconds', 0.99)} s at most in 99 of 100")
    print(f"the server's own time: {1e3 * seconds / sent:.2f} ms a frame")
    print(f"sent {sent:,} steps, stored {stored:,}")
    print(f"pages got {len(counts):,} messages, {sum(counts) / 1e6:.1f} MB")
    print(f"server memory {before / 2**20:.0f} MiB at the start, {after / 2**20:.0f} MiB at the end")


if __name__ == "__main__":
    main()
