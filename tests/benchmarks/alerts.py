"""What rules cost, and how soon an alert is seen: ``python -m tests.benchmarks.alerts [--steps 100000]``.

Everything that is compared is measured in the same run, on the same machine, interleaved where it can be.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.server.live_server import Page, Trainer, batch, hello, schema, serving
from tests.server.web.events import hear

from gradwatch.protocol import Batch, Block, Hello, Schema, Statistic, Tensor, decode, encode
from gradwatch_server.alerts.engine import Engine
from gradwatch_server.backtesting import try_rule
from gradwatch_server.models import Rule
from gradwatch_server.store import Store

TENSORS = 1_000
RULES = 100
KINDS: tuple[dict[str, Any], ...] = (
    {"condition": "nonfinite"},
    {"aggregate": "mean", "window": 20},
    {"for_steps": 5},
    {"condition": "outside", "threshold": 1e-6, "upper": 100.0},
)


def rules(kind: str) -> list[Rule]:
    """A hundred rules on layers: on all of them, on ten each, or of several kinds."""
    made = []
    for index in range(RULES):
        globs = "*" if kind == "any layer" else f"blocks.{index}.*"
        fields: dict[str, Any] = {}
        if kind == "mixed":
            fields = KINDS[index % len(KINDS)]
        values = {"threshold": 100.0 + index, "tensors": globs, **fields}
        made.append(Rule(id=f"r{index}", name="rule", statistic="grad_norm", **values))
    return made


def declared(width: int) -> Schema:
    """Tensors ``blocks.N.wM``, ten to a block, with a norm each."""
    names = [f"blocks.{index // 10}.w{index % 10}" for index in range(width)]
    statistic = Statistic(name="grad_norm", scope="tensor", width=width)
    return Schema(seq=0, id=0, statistics=(statistic,), tensors=tuple(Tensor(name=name) for name in names))


def cost(folder: Path, kind: str, frames: int, repeats: int = 150) -> tuple[float, float]:
    """Microseconds per frame of ingest (decode, append, durable) and of the rules, ``frames`` in a batch."""
    store = Store.open(str(folder / f"{kind}-{frames}.db"))
    hello = Hello(run_id="r", run_key="k", project="p", name="n", stream="s", segment="g")
    stream = store.open_stream(hello, now=0.0).result().stream
    store.append(stream, [declared(TENSORS)]).done.result()
    engine = Engine(rules(kind))
    rng = np.random.default_rng(0)
    ingest, judging = [], []
    for seq in range(1, repeats + 1):
        steps = np.arange((seq - 1) * frames, seq * frames, dtype=np.float64)
        values = np.exp(rng.normal(0, 0.4, (frames, TENSORS))).astype(np.float32)
        block = Block(statistic=0, steps=steps, times=steps, values=values)
        data = encode(Batch(seq=seq, schema=0, blocks=(block,)))
        start = time.perf_counter()
        message = decode(data)
        assert isinstance(message, Batch)
        appended = store.append(stream, [message])
        appended.done.result()
        middle = time.perf_counter()
        outcome = engine.observe(
            stream.run, stream.tensors, appended.blocks, list(stream.live.groups.values())
        )
        judging.append(time.perf_counter() - middle)
        ingest.append(middle - start)
        assert not outcome
    store.close()
    return statistics.median(ingest) / frames * 1e6, statistics.median(judging) / frames * 1e6


def back_test(folder: Path, steps: int, width: int = 500) -> tuple[float, int]:
    """Seconds for one rule on a stored run of ``steps`` steps, and how often it would have fired."""
    store = Store.open(str(folder / "backtest.db"))
    hello = Hello(run_id="r", run_key="k", project="p", name="n", stream="s", segment="g")
    stream = store.open_stream(hello, now=0.0).result().stream
    store.append(stream, [declared(width)]).done.result()
    rng = np.random.default_rng(0)
    for seq in range(1, steps // 500 + 1):
        axis = np.arange((seq - 1) * 500, seq * 500, dtype=np.float64)
        values = np.exp(rng.normal(0, 0.4, (500, width))).astype(np.float32)
        if seq % 60 == 20:
            values[100:140, 7] = 1000.0
        block = Block(statistic=0, steps=axis, times=axis, values=values)
        store.append(stream, [Batch(seq=seq, schema=0, blocks=(block,))]).done.result()
    run = store.run("r")
    assert run is not None
    rule = Rule(id="r", name="rule", statistic="grad_norm", tensors="*", threshold=100.0)
    start = time.perf_counter()
    trial = try_rule(store, run, rule)
    took = time.perf_counter() - start
    store.close()
    return took, len(trial.firings)


def latency(folder: Path, alerts: int = 40) -> list[float]:
    """Seconds from sending a frame to its alert on another socket, once for each time that it fires."""
    found = []
    with (
        serving(folder) as server,
        server.owner() as api,
        Trainer(server, hello()) as trainer,
        Page(server) as page,
    ):
        api.post(
            "/api/v1/rules",
            json={"statistic": "grad_norm", "tensors": "*", "threshold": 100, "recover_steps": 1},
        )
        page.say(type="follow", run="run-1")
        trainer.send(schema())
        for seq in range(1, 2 * alerts + 1):
            value = 1000.0 if seq % 2 else 1.0
            start = time.perf_counter()
            trainer.send(batch(seq, [seq], np.full((1, 3), value, np.float32)))
            while (hear(page, "alert")["cleared_step"] is None) != bool(seq % 2):
                pass
            if seq % 2:
                found.append(time.perf_counter() - start)
    return found


def timed(say: Callable[[str], None]) -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="length of the run of the back-test")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for frames in (1, 10):
            for kind in ("any layer", "ten layers each", "mixed"):
                ingest, judging = cost(folder, kind, frames)
                say(
                    f"{RULES} rules ({kind}), {TENSORS:,} tensors, {frames:2d} frames a batch: ingest {ingest:7.0f} us/frame, "
                    f"rules {judging:5.1f} us/frame = {100 * judging / ingest:4.1f} %"
                )
        took, firings = back_test(folder, steps)
        say(f"back-test of one rule on {steps:,} steps x 500 tensors: {took:.2f} s ({firings} firings)")
        seconds = sorted(latency(folder / "server"))
        p95 = seconds[int(0.95 * (len(seconds) - 1))]
        say(
            f"frame to alert on another socket: median {statistics.median(seconds) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    timed(print)
