"""A run of a million steps: how long questions about it take, beside a run of ten thousand, and how fast its server starts.

    python -m tests.benchmarks.long [--tensors 1000] [--steps 10000 1000000] [--gigabytes 0] [--dir FOLDER]

Blocks are made from noise that repeats every 16,384 steps, with their own steps and times, and go through the real writer;
so a database of 4 GB stands in a minute or two. Each question is asked from a fresh place, so that nothing but the file
system's cache helps. ``--gigabytes 20`` copies the run under other names until the database is so large, before its server is
started. It is deleted at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
from tests.benchmarks.ingest import serve, with_server

from gradwatch.protocol import Bye, Hello, Schema, Statistic, Tensor
from gradwatch_server.models import SeriesQuery
from gradwatch_server.store import Store, writes
from gradwatch_server.store.block_codec import encode_buckets, encode_chunk
from gradwatch_server.store.block_queries import HIGHEST, LOWEST
from gradwatch_server.store.compactor import PACKED_LEVELS
from gradwatch_server.store.pyramid import Buckets, coarsen, dense, fold
from gradwatch_server.store.series import BLOCK_BUCKETS, CHUNK_STEPS, level_span
from gradwatch_server.store.tail import Piece
from gradwatch_server.store.writes import NewBlock

PERIOD = 16_384
RUN = "long"
REPEATS = 9


def begin(store: Store, tensors: int) -> int:
    """A finished run with norms of so many tensors; its number in the database."""
    hello = Hello(run_id=RUN, run_key="k", project="p", name="n", stream="s", segment="g")
    stream = store.open_stream(hello, now=time.time()).result().stream
    schema = Schema(
        seq=0,
        id=0,
        statistics=(Statistic(name="update_norm", scope="tensor", width=tensors),),
        tensors=tuple(Tensor(name=f"t{i}", module=f"blocks.{i // 4}") for i in range(tensors)),
    )
    store.append(stream, [schema, Bye(seq=1, state="finished", time=time.time())]).done.result()
    return stream.live.no


def base(tensors: int) -> list[Piece]:
    """The chunks of one period."""
    random = np.random.default_rng(0)
    size = random.random(tensors).astype(np.float32) * 10
    steps = np.arange(CHUNK_STEPS, dtype=np.float64)
    noise = (
        np.exp(0.1 * random.standard_normal((CHUNK_STEPS, tensors))) for _ in range(PERIOD // CHUNK_STEPS)
    )
    return [Piece(0, steps, steps, (size * part).astype(np.float32)) for part in noise]


def at(piece: Piece, first: int, steps: int) -> Piece:
    """The same values at other steps."""
    n = min(CHUNK_STEPS, steps - first)
    axis = np.arange(first, first + n, dtype=np.float64)
    return replace(piece, steps=axis, times=1.7e9 + axis / 10, values=piece.values[:n])


def levels(run: int, chunks: list[Piece], steps: int) -> Iterator[NewBlock]:
    """Every block of the run, in the order in which a compactor would make them."""
    shapes = [encode_chunk(piece) for piece in chunks]
    open_parts: dict[int, list[Buckets]] = {level: [] for level in range(LOWEST, HIGHEST + 1)}
    for number, first in enumerate(range(0, steps, CHUNK_STEPS)):
        piece = at(chunks[number % len(chunks)], first, steps)
        whole = len(piece.steps) == CHUNK_STEPS
        body = moved(shapes[number % len(shapes)], piece) if whole else encode_chunk(piece)
        yield NewBlock(run, 0, 0, 0, first, int(piece.steps[-1]), body)
        open_parts[LOWEST].append(fold(4**LOWEST, piece.steps, piece.times, piece.values, plain=True))
        for level in range(LOWEST, HIGHEST):
            span, parts = level_span(level), open_parts[level]
            if (first + CHUNK_STEPS) % span or not parts:
                break
            start = first + CHUNK_STEPS - span
            block = dense(coarsen(parts, 4**level), start // 4**level, BLOCK_BUCKETS)
            yield NewBlock(
                run,
                0,
                0,
                level,
                start,
                int(block.ends.max()),
                encode_buckets(block, packed=level in PACKED_LEVELS),
            )
            open_parts[level] = []
            open_parts[level + 1].append(coarsen([block], 4 ** (level + 1)))


def moved(body: bytes, piece: Piece) -> bytes:
    """A chunk's bytes with the steps and times of ``piece``: its values stay as they are."""
    from gradwatch_server.store import block_codec as codec

    planes = [bytes(section) for section in codec._sections(body)][:4]
    return codec._join(body[: codec._HEAD.size], [*planes, *codec._axis(piece.steps, piece.times)])


def build(store: Store, tensors: int, steps: int) -> float:
    """Writes the run; seconds."""
    start = time.perf_counter()
    run = begin(store, tensors)
    waiting: list[Future[bool]] = []
    some: list[NewBlock] = []

    def put() -> None:
        blocks = list(some)
        some.clear()
        waiting.append(store.database.write(lambda conn: writes.put_blocks(conn, run, blocks, [], [])))
        if len(waiting) > 2:
            waiting.pop(0).result()
            store.database.checkpoint()

    for block in levels(run, base(tensors), steps):
        some.append(block)
        if len(some) >= 32:
            put()
    put()
    for done in waiting:
        done.result()
    return time.perf_counter() - start


def windows(steps: int) -> dict[str, list[tuple[int, int]]]:
    """Questions: windows of several lengths, each at fresh places."""
    random = np.random.default_rng(1)
    found = {}
    for span in (1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000):
        length = min(span, steps)
        starts = random.integers(0, steps - length + 1, REPEATS)
        found[f"{length:,} steps"] = [(int(start), int(start) + length) for start in starts]
    return found


def times(ask: Callable[[int, int], object], asked: list[tuple[int, int]]) -> str:
    """Milliseconds, after one that does not count. This process's own time says what other work on the machine can't move."""
    ask(*asked[0])
    took, own = [], []
    for low, high in asked:
        start, used = time.perf_counter(), time.process_time()
        ask(low, high)
        took.append(1e3 * (time.perf_counter() - start))
        own.append(1e3 * (time.process_time() - used))
    return (
        f"{statistics.median(took):8.1f} ms median {min(took):8.1f} shortest {max(took):8.1f} longest"
        f" {statistics.median(own):8.1f} of this process"
    )


def multiply(path: Path, wanted: int) -> int:
    """Copies the run under other names until the file has so many bytes; the number of runs then."""
    runs = 1
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in tables}
        hanging = [
            name for name in tables if "run_no" in columns[name] and name not in ("schemas", "marks", "trash")
        ]
        while path.stat().st_size < wanted:
            runs += 1
            db.execute("BEGIN")
            names = ", ".join(name for name in columns["runs"] if name not in ("no", "id"))
            db.execute(
                f"INSERT INTO runs (no, id, {names}) SELECT {runs}, id || '-{runs}', {names} FROM runs WHERE no = 1"
            )
            for table in hanging:
                own = [name for name in columns[table] if name not in ("run_no", "no")]
                if table in ("blocks", "tail", "lost"):
                    own.remove("id")
                listed = ", ".join(own)
                db.execute(
                    f"INSERT INTO {table} (run_no, {listed}) SELECT {runs}, {listed} FROM {table} WHERE run_no = 1"
                )
            db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    return runs


def report(folder: Path, tensors: int, steps: int, gigabytes: float) -> None:
    """Builds one database, asks it everything, and deletes it."""
    path = folder / "gradwatch.db"
    store = Store.open(str(path))
    took = build(store, tensors, steps)
    store.database.checkpoint()
    size = store.size()
    print(
        f"{tensors:,} tensors x {steps:,} steps: {size / 1e9:.2f} GB, {size / tensors / steps:.2f} bytes a value, built in {took:.0f} s"
    )
    for label, asked in windows(steps).items():

        def ask(low: int, high: int) -> object:
            query = SeriesQuery(statistic="update_norm", points=1000, from_step=low, to_step=high)
            return store.series(RUN, query)

        print(f"  store  {label:16} {times(ask, asked)}")
    start = time.perf_counter()
    store.values(RUN, "update_norm", from_step=steps // 2, limit=1)
    print(f"  store  one exact step   {1e3 * (time.perf_counter() - start):8.1f} ms")
    start = time.perf_counter()
    store.percentiles(RUN, "update_norm", "tensor", 7, (50, 99))
    print(f"  store  percentiles      {1e3 * (time.perf_counter() - start):8.1f} ms")
    store.close()
    if gigabytes:
        runs = multiply(path, int(gigabytes * 1e9))
        print(f"  copied to {runs} runs: {path.stat().st_size / 1e9:.1f} GB")
    start, own = time.perf_counter(), time.process_time()
    Store.open(str(path), background=False).close()
    took, own = time.perf_counter() - start, time.process_time() - own
    print(f"  open and close the store {took:.2f} s, {own:.2f} s of this process")
    began = time.perf_counter()

    def over_http(port: int, key: str) -> float:
        print(
            f"  server listens after     {time.perf_counter() - began:.2f} s (Python's start and imports in it)"
        )
        token = (folder / "local_token").read_text().strip()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=60
        ) as api:
            for label, asked in windows(steps).items():

                def ask(low: int, high: int) -> object:
                    given = {"statistic": "update_norm", "points": 1000, "from": low, "to": high}
                    return api.get(f"/api/v1/runs/{RUN}/series", params=given).raise_for_status()

                print(f"  HTTP   {label:16} {times(ask, asked)}")
        return 0.0

    with_server(serve, folder, over_http, False)


def main() -> None:
    """Prints everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument(
        "--gigabytes", type=float, default=0.0, help="size of the database whose server is started"
    )
    parser.add_argument("--dir", type=Path)
    args = parser.parse_args()
    for steps in args.steps:
        folder = Path(tempfile.mkdtemp(dir=args.dir))
        try:
            report(folder, args.tensors, steps, args.gigabytes)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
