"""How fast the store takes numbers, how fast it gives them back, and what they weigh: ratios against bare SQLite.

``python -m tests.benchmarks.store --tensors 800 --seconds 5 --steps 10000 100000``. Values are log-normal around a smooth
trend, as gradient norms are, and so about as hard to compress. "Durable" means committed with a full sync.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from gradwatch.protocol import Batch, Block, Hello, Schema, Statistic, Tensor
from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store, StreamHandle

IN_FLIGHT = 8
"""Appends that wait for their commit at a time, as a socket's window would allow."""


def norms(tensors: int, steps: int) -> np.ndarray:
    """Float32 ``[steps, tensors]``."""
    random = np.random.default_rng(0)
    trend = np.exp(-np.arange(steps)[:, None] / steps) * random.random(tensors) * 10
    return (trend * np.exp(0.1 * random.standard_normal((steps, tensors)))).astype(np.float32)


def batches(values: np.ndarray, frames: int, first: int = 0) -> Iterator[Batch]:
    """Batches of ``frames`` steps with norms and two numbers of the run, again and again."""
    step, seq = first, 1
    while True:
        axis = np.arange(step, step + frames, dtype=np.float64)
        part = values[np.arange(step, step + frames) % len(values)]
        blocks = [Block(statistic=0, steps=axis, times=1.7e9 + axis / 100, values=part)]
        blocks += [
            Block(statistic=i, steps=axis, times=blocks[0].times, values=part[:, :1].astype(np.float64))
            for i in (1, 2)
        ]
        yield Batch(seq=seq, schema=0, blocks=tuple(blocks))
        step, seq = step + frames, seq + 1


def begin(store: Store, tensors: int, groups: bool) -> StreamHandle:
    """A stream of a model with four tensors in each of its modules; one module for all without ``groups``."""
    hello = Hello(run_id="bench", run_key="k", project="p", name="n", stream="s", segment="g")
    stream = store.open_stream(hello, now=time.time()).result().stream
    schema = Schema(
        seq=0,
        id=0,
        statistics=(
            Statistic(name="grad_norm", scope="tensor", width=tensors),
            Statistic(name="loss", scope="run", dtype="f8"),
            Statistic(name="global_grad_norm", scope="run", dtype="f8"),
        ),
        tensors=tuple(
            Tensor(name=f"t{i}", module=f"blocks.{i // 16}.{i // 4 % 4}" if groups else "")
            for i in range(tensors)
        ),
    )
    store.append(stream, [schema]).done.result()
    return stream


def bare(folder: Path, values: np.ndarray, frames: int, seconds: float) -> float:
    """Values per second of bare SQLite: one blob of a batch per durable commit."""
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.execute("PRAGMA page_size = 16384")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
    source = batches(values, frames)
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        body = next(source).blocks[0].values.tobytes()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t (body) VALUES (?)", (body,))
        db.execute("COMMIT")
        count += frames * values.shape[1]
    db.close()
    return count / passed


def ingest(
    store: Store, stream: StreamHandle, values: np.ndarray, frames: int, go_on: Callable[[int, float], bool]
) -> tuple[int, float, list[float]]:
    """Appends while ``go_on(steps, seconds)``: steps, seconds to the last commit, seconds of each append to its commit."""
    source = batches(values, frames)
    waiting: deque[Future[int]] = deque()
    latencies: list[float] = []
    steps, start = 0, time.perf_counter()
    while go_on(steps, time.perf_counter() - start):
        began = time.perf_counter()
        done = store.append(stream, [next(source)]).done
        done.add_done_callback(lambda _, began=began: latencies.append(time.perf_counter() - began))
        waiting.append(done)
        steps += frames
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().result()
    while waiting:
        waiting.popleft().result()
    return steps, time.perf_counter() - start, latencies


def median_ms(fn: Callable[[], object], repeats: int = 7) -> float:
    """Median time of a call."""
    fn()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def size_of(folder: Path) -> int:
    """Bytes of the database with its log."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith("store.db"))


def report_queries(store: Store, steps: int, tensors: int) -> None:
    """Times of the questions that pages ask."""
    rows = tuple(range(min(10, tensors)))
    questions = {
        "whole run, all rows, 1000 buckets": SeriesQuery(statistic="grad_norm", points=1000),
        "whole run, all rows, 250 buckets": SeriesQuery(statistic="grad_norm", points=250),
        "whole run, 10 rows, 1000 buckets": SeriesQuery(statistic="grad_norm", points=1000, rows=rows),
        "last 1000 steps, all rows": SeriesQuery(statistic="grad_norm", points=1000, from_step=steps - 1000),
        "last 4000 steps, all rows": SeriesQuery(statistic="grad_norm", points=1000, from_step=steps - 4000),
        "middle 16,000 steps, all rows": SeriesQuery(
            statistic="grad_norm", points=1000, from_step=steps // 2 - 8000, to_step=steps // 2 + 8000
        ),
        "loss, whole run, 1000 buckets": SeriesQuery(statistic="loss", scope="run", points=1000),
    }
    for label, query in questions.items():
        found = store.series("bench", query)
        print(
            f"  {label:36} {median_ms(lambda q=query: store.series('bench', q)):8.1f} ms   width {found.width}"
        )


def main() -> None:
    """Prints everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=800)
    parser.add_argument("--frames", type=int, default=50, help="steps in a batch")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--steps", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--no-groups", action="store_true")
    args = parser.parse_args()
    values = norms(args.tensors, 5_000)
    print(f"{args.tensors} tensors, batches of {args.frames} steps")
    folder = Path(tempfile.mkdtemp(dir=args.dir))
    try:
        floor = bare(folder, values, args.frames, min(args.seconds, 3))
        print(f"bare SQLite, a blob per commit      {floor / 1e6:8.2f} M values/s")
        store = Store.open(str(folder / "store.db"))
        stream = begin(store, args.tensors, not args.no_groups)
        steps, seconds, latencies = ingest(store, stream, values, args.frames, lambda _, t: t < args.seconds)
        rate = steps * args.tensors / seconds
        print(
            f"store, durable                      {rate / 1e6:8.2f} M values/s   {rate / floor:.2f} of bare"
        )
        p50, p99 = np.percentile(latencies, (50, 99)) * 1e3
        print(f"append to commit                    p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        start = time.perf_counter()
        store.compact()
        lag = time.perf_counter() - start
        print(
            f"compaction behind by                {lag:8.2f} s   -> {steps * args.tensors / (seconds + lag) / 1e6:.2f} M values/s sustained"
        )
        store.close()
        for path in folder.iterdir():
            path.unlink()
        for steps in args.steps:
            store = Store.open(str(folder / "store.db"))
            stream = begin(store, args.tensors, not args.no_groups)
            ingest(store, stream, values, 250, lambda n, _, steps=steps: n < steps)
            store.compact()
            print(f"{steps:,} steps")
            report_queries(store, steps, args.tensors)
            store.close()
            groups = 0 if args.no_groups else 1
            print(
                f"  {size_of(folder) / (steps * (args.tensors + 2)):.2f} bytes per value sent (group norms {'in it' if groups else 'off'})"
            )
            for path in folder.iterdir():
                path.unlink()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
