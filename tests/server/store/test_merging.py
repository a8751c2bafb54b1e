"""Merged batches hold the same numbers at the same steps as those they are made of, whatever came between."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch.protocol import Batch, Block, Mark, Record
from gradwatch_server.store.merging import MOST_STEPS, merged

Cells = dict[tuple[int, int, float], tuple[list[float], list[bool], float]]


def block(statistic: int, first: int, n: int, width: int, holes: bool) -> Block:
    steps = np.arange(first, first + n, dtype=np.float64)
    values = np.arange(n * width, dtype=np.float32).reshape(n, width) + 100 * first
    present = (values.astype(int) % 3 > 0) if holes else None
    return Block(statistic=statistic, steps=steps, times=steps + 0.5, values=values, present=present)


def cells(records: list[Record]) -> Cells:
    """(schema, statistic, step) -> values, presence, time."""
    found: Cells = {}
    for record in records:
        if not isinstance(record, Batch):
            continue
        for one in record.blocks:
            for i, step in enumerate(one.steps):
                key = record.schema, one.statistic, float(step)
                assert key not in found
                present = [True] * one.values.shape[1] if one.present is None else one.present[i].tolist()
                found[key] = one.values[i].tolist(), present, float(one.times[i])
    return found


@settings(max_examples=200, deadline=None)
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(["batch", "mark"]), st.integers(0, 1), st.integers(1, 3), st.booleans()),
        max_size=20,
    ),
    width=st.integers(1, 3),
)
def test_nothing_is_lost_moved_or_doubled(kinds: list[tuple[str, int, int, bool]], width: int) -> None:
    records: list[Record] = []
    step = 0
    for seq, (kind, schema, n, holes) in enumerate(kinds):
        if kind == "mark":
            records.append(Mark(seq=seq, step=step, time=1.0, kind="note"))
            continue
        blocks = (block(0, step, n, width, holes), block(1, step, n, 1, False))
        records.append(Batch(seq=seq, schema=schema, blocks=blocks))
        step += n
    out = list(merged(records))
    assert cells([record for record, _ in out]) == cells(records)
    seq = 0
    for record, count in out:
        assert record.seq == seq
        seq += count
    assert seq == len(records)


def test_what_shared_its_steps_still_does() -> None:
    records: list[Record] = []
    for seq in range(3):
        one = block(0, seq, 1, 2, False)
        other = Block(statistic=1, steps=one.steps, times=one.times, values=np.ones((1, 1)))
        records.append(Batch(seq=seq, schema=0, blocks=(one, other)))
    [(batch, count)] = merged(records)
    assert count == 3
    assert isinstance(batch, Batch)
    assert batch.blocks[0].steps is batch.blocks[1].steps


def test_what_differs_or_goes_back_is_left_alone() -> None:
    def pair(one: Block, other: Block, schema: int = 0) -> int:
        records = [Batch(seq=0, schema=0, blocks=(one,)), Batch(seq=1, schema=schema, blocks=(other,))]
        return len(list(merged(records)))

    first = block(0, 5, 1, 2, False)
    assert pair(first, block(0, 6, 1, 2, True)) == 1
    assert pair(first, block(0, 5, 1, 2, False)) == 2
    assert pair(first, block(0, 6, 1, 3, False)) == 2
    assert pair(first, block(1, 6, 1, 2, False)) == 2
    assert pair(first, block(0, 6, 1, 2, False), schema=1) == 2
    twice = Batch(seq=0, schema=0, blocks=(block(0, 0, 1, 1, False), block(0, 1, 1, 1, False)))
    later = Batch(seq=1, schema=0, blocks=(block(0, 2, 1, 1, False), block(0, 3, 1, 1, False)))
    assert len(list(merged([twice, later]))) == 2


def test_a_group_has_an_end() -> None:
    records = [Batch(seq=i, schema=0, blocks=(block(0, i, 1, 1, False),)) for i in range(2 * MOST_STEPS)]
    assert [count for _, count in merged(records)] == [MOST_STEPS, MOST_STEPS]
