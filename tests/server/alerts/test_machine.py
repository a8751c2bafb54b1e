"""The vectorised machine against the state diagram, written out one value at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwatch_server.alerts.machine import BREACH, FINE, HOLD, Instances, advance


@dataclass
class Diagram:
    """normal -> pending -> firing -> recovering -> normal, as a person would write it down."""

    for_steps: int
    recover_steps: int
    state: str = "normal"
    count: int = 0

    def see(self, verdict: int) -> str:
        if verdict == HOLD:
            return self.state
        if self.state in ("normal", "pending"):
            self._towards("pending", "firing", "normal", verdict == BREACH, self.for_steps)
        else:
            self._towards("recovering", "normal", "firing", verdict == FINE, self.recover_steps)
        return self.state

    def _towards(self, between: str, goal: str, back: str, on_the_way: bool, steps: int) -> None:
        if not on_the_way:
            self.state, self.count = back, 0
            return
        self.count += 1
        self.state = between
        if self.count >= steps:
            self.state, self.count = goal, 0


verdicts = st.sampled_from([HOLD, FINE, BREACH, BREACH, FINE])


@given(
    table=st.lists(st.tuples(verdicts, verdicts, verdicts), min_size=1, max_size=60),
    cuts=st.sets(st.integers(1, 59), max_size=12),
    for_steps=st.integers(1, 5),
    recover_steps=st.integers(1, 5),
)
def test_agrees_with_the_diagram_however_rows_are_cut(
    table: list[tuple[int, int, int]], cuts: set[int], for_steps: int, recover_steps: int
) -> None:
    diagrams = [Diagram(for_steps, recover_steps) for _ in range(3)]
    expected = [[diagram.see(row[k]) for k, diagram in enumerate(diagrams)] for row in table]
    instances = Instances.fresh(3)
    active = []
    edges = sorted({0, len(table), *(cut for cut in cuts if cut < len(table))})
    for start, end in zip(edges, edges[1:], strict=False):
        active.append(advance(instances, np.array(table[start:end], np.int8), for_steps, recover_steps))
        assert [instances.state(k) for k in range(3)] == expected[end - 1]
    assert np.concatenate(active).tolist() == [
        [s in ("firing", "recovering") for s in row] for row in expected
    ]


@pytest.mark.parametrize(
    ("rows", "states"),
    [
        ([BREACH], ["pending"]),
        ([BREACH, BREACH], ["firing"]),
        ([BREACH, FINE, BREACH], ["pending"]),
        ([BREACH, HOLD, HOLD, BREACH], ["firing"]),
        ([BREACH, BREACH, FINE, FINE], ["recovering"]),
        ([BREACH, BREACH, FINE, FINE, BREACH, FINE], ["recovering"]),
        ([BREACH, BREACH, FINE, HOLD, FINE, FINE], ["normal"]),
    ],
)
def test_two_to_fire_three_to_clear(rows: list[int], states: list[str]) -> None:
    instances = Instances.fresh(1)
    advance(instances, np.array(rows, np.int8)[:, None], 2, 3)
    assert [instances.state(0)] == states


def test_the_worst_series_speaks_for_the_rule() -> None:
    instances = Instances.fresh(3)
    advance(instances, np.array([[FINE, FINE, BREACH]], np.int8), 2, 2)
    assert instances.worst() == "pending"
    advance(instances, np.array([[FINE, BREACH, BREACH]], np.int8), 2, 2)
    assert instances.worst() == "firing"
    advance(instances, np.array([[FINE, BREACH, FINE]], np.int8), 2, 2)
    assert instances.worst() == "firing"
    instances = Instances.fresh(1)
    advance(instances, np.array([[BREACH], [BREACH], [FINE]], np.int8), 2, 2)
    assert instances.worst() == "recovering"


def test_more_series_start_normal() -> None:
    instances = Instances.fresh(1)
    advance(instances, np.array([[BREACH]], np.int8), 1, 1)
    instances.grow(3)
    assert [instances.state(k) for k in range(3)] == ["firing", "normal", "normal"]
