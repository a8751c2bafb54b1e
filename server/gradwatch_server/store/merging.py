"""Batches that came together, as one: what is done once per batch is then done once per group. Pure.

A trainer that sends each step by itself costs as little as one that waits for twenty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gradwatch.protocol import Batch, Block, Record

__all__ = ["merged"]

_Axis: TypeAlias = npt.NDArray[np.float64]

MOST_STEPS = 512
"""Steps of one merged block, so that nobody waits long for a commit."""


def merged(records: Sequence[Record]) -> Iterator[tuple[Record, int]]:
    """The records in order, each with how many it stands for: neighbouring batches of one form become one batch.

    They have the form in common if schema, statistics, widths and types are the same and every statistic's steps rise from
    one to the next. So a merged batch makes sense if its first part does. Its ``seq`` is that of its first part.
    """
    at = 0
    while at < len(records):
        first = records[at]
        end = at + 1
        if isinstance(first, Batch) and _is_plain(first):
            steps = len(first.blocks[0].steps)
            while end < len(records) and steps < MOST_STEPS and _follows(records[end - 1], records[end]):
                steps += len(first.blocks[0].steps)
                end += 1
        yield (first if end == at + 1 else _join(records[at:end])), end - at
        at = end


def _is_plain(batch: Batch) -> bool:
    """Whether it has blocks, and each statistic once."""
    return 0 < len({block.statistic for block in batch.blocks}) == len(batch.blocks)


def _follows(one: Record, other: Record) -> bool:
    if not isinstance(one, Batch) or not isinstance(other, Batch):
        return False
    if one.schema != other.schema or one.seq + 1 != other.seq or len(one.blocks) != len(other.blocks):
        return False
    return all(
        a.statistic == b.statistic
        and a.values.dtype == b.values.dtype
        and a.values.shape[1] == b.values.shape[1]
        and a.steps[-1] < b.steps[0]
        for a, b in zip(one.blocks, other.blocks, strict=True)
    )


def _join(parts: Sequence[Record]) -> Batch:
    """One batch. Blocks that shared their steps still do."""
    batches = [part for part in parts if isinstance(part, Batch)]
    axes: dict[tuple[int, ...], tuple[_Axis, _Axis]] = {}
    blocks = []
    for same in zip(*(batch.blocks for batch in batches), strict=True):
        key = tuple(id(block.steps) for block in same)
        if key not in axes:
            axes[key] = (
                np.concatenate([block.steps for block in same]),
                np.concatenate([block.times for block in same]),
            )
        present = None
        if any(block.present is not None for block in same):
            present = np.concatenate(
                [
                    np.ones(block.values.shape, np.bool_) if block.present is None else block.present
                    for block in same
                ]
            )
        steps, times = axes[key]
        values = np.concatenate([block.values for block in same])
        blocks.append(
            Block(statistic=same[0].statistic, steps=steps, times=times, values=values, present=present)
        )
    return Batch(seq=batches[0].seq, schema=batches[0].schema, blocks=tuple(blocks))
