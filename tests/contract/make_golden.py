"""Writes the golden files of the wire and of the browser's views. Run it only to add a file: existing bytes never change.

    python -m tests.contract.make_golden

Each ``NAME.bin`` (or ``NAME.json`` for text messages) has a ``NAME.expect.json`` beside it: what a reader must find.
Python and JavaScript tests read both, so the two implementations cannot drift apart.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from gradwatch.protocol import Batch, Block, encode
from gradwatch_server.models import FLAG_INF, FLAG_NAN, FLAG_PRESENT, FLAG_ZERO, Series
from gradwatch_server.web.view_codec import DELTA, SNAPSHOT, encode_view

FOLDER = Path(__file__).parent
NAN, INF = math.nan, math.inf


def plain(value: Any) -> Any:
    """Arrays and non-finite numbers as JSON can say them."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def f4(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def u1(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


STEPS = np.array([7.0, 8.0, 10.0])
TIMES = np.array([1700000000.25, 1700000000.5, 1700000001.0])
SCALAR_STEPS = np.array([8.0])
SCALAR_TIMES = np.array([1700000000.75])

BATCHES = {
    "batch_plain": Batch(
        seq=3,
        schema=1,
        blocks=(
            Block(statistic=0, steps=STEPS, times=TIMES, values=f4([0.5, 1.5], [0.25, 2.0], [1e-30, 3.0])),
            Block(statistic=2, steps=STEPS, times=TIMES, values=np.array([[1.0], [2.5], [math.pi]])),
        ),
    ),
    "batch_special": Batch(
        seq=2**40 + 1,
        schema=7,
        blocks=(
            Block(
                statistic=0,
                steps=STEPS,
                times=TIMES,
                values=f4([NAN, INF, 0.0], [-INF, 1.0, NAN], [NAN, NAN, 0.0]),
                present=np.array([[True, True, True], [True, True, False], [False, False, True]]),
            ),
            Block(
                statistic=5,
                steps=SCALAR_STEPS,
                times=SCALAR_TIMES,
                values=np.array([[NAN]]),
            ),
        ),
    ),
}

P, N, F, Z = FLAG_PRESENT, FLAG_NAN, FLAG_INF, FLAG_ZERO
VIEWS: dict[str, tuple[Series, int, int, int | None]] = {
    "view_steps": (
        Series(
            width=1,
            first_bucket=40,
            low=f4([0.5, NAN, NAN], [0.0, 2.0, NAN]),
            high=f4([0.5, NAN, NAN], [0.0, 2.0, NAN]),
            last=f4([0.5, NAN, INF], [0.0, 2.0, NAN]),
            flags=u1([P, P | N, P | F], [P | Z, P, 0]),
            last_step=42,
            last_time=1700000042.5,
        ),
        SNAPSHOT,
        1,
        None,
    ),
    "view_buckets": (
        Series(
            width=16,
            first_bucket=3,
            low=f4([0.5, 0.0, NAN, 1e-12]),
            high=f4([8.0, 1.0, NAN, 1e12]),
            last=f4([1.0, NAN, NAN, -INF]),
            flags=u1([P, P | N | Z, 0, P | F]),
            last_step=111,
            last_time=1700000111.0,
        ),
        DELTA,
        4000000000,
        2,
    ),
    "view_empty": (
        Series(
            width=4,
            first_bucket=0,
            low=np.zeros((3, 0), np.float32),
            high=np.zeros((3, 0), np.float32),
            last=np.zeros((3, 0), np.float32),
            flags=np.zeros((3, 0), np.uint8),
        ),
        SNAPSHOT,
        9,
        0,
    ),
    "view_far": (
        Series(
            width=4096,
            first_bucket=2**33,
            low=f4([1.0]),
            high=f4([2.0]),
            last=f4([1.5]),
            flags=u1([P]),
            last_step=2**45 + 5,
            last_time=1700000000.0,
        ),
        SNAPSHOT,
        2,
        None,
    ),
}


def expect_batch(batch: Batch) -> dict[str, Any]:
    return {
        "seq": batch.seq,
        "schema": batch.schema,
        "blocks": [
            {
                "statistic": block.statistic,
                "itemsize": block.values.dtype.itemsize,
                "steps": plain(block.steps),
                "times": plain(block.times),
                "values": plain(block.values),
                "present": None if block.present is None else block.present.tolist(),
            }
            for block in batch.blocks
        ],
    }


def expect_view(series: Series, kind: int, subscription: int, segment: int | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "subscription": subscription,
        "segment": segment,
        "width": series.width,
        "first_bucket": series.first_bucket,
        "rows": series.last.shape[0],
        "n": series.last.shape[1],
        "low": plain(series.low),
        "high": plain(series.high),
        "last": plain(series.last),
        "flags": series.flags.tolist(),
        "last_step": series.last_step,
        "last_time": series.last_time,
    }


def golden() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Each golden file's bytes, and what a reader must find in them."""
    files: dict[str, tuple[bytes, dict[str, Any]]] = {}
    for name, batch in BATCHES.items():
        data = encode(batch)
        assert isinstance(data, bytes)
        files[name] = data, expect_batch(batch)
    for name, (series, kind, subscription, segment) in VIEWS.items():
        data = encode_view(series, kind=kind, subscription=subscription, segment=segment)
        files[name] = data, expect_view(series, kind, subscription, segment)
    return files


def main() -> None:
    for name, (data, expect) in golden().items():
        path = FOLDER / f"{name}.bin"
        if path.exists():
            assert path.read_bytes() == data, f"{path.name} would change: that breaks readers out there"
            continue
        path.write_bytes(data)
        path.with_suffix(".expect.json").write_text(json.dumps(expect, indent=1) + "\n")


if __name__ == "__main__":
    main()
