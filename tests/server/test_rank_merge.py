"""Parts of ranks against plain arithmetic on the whole; and who waits for whom, in injected time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradwatch_server.rank_merge import GAP, LOCAL_NORM, RANK_ROWS, WAIT_S, Holding, Part, RankMerge, merge


def holding(rows: list[int], shard: int, shards: int) -> Holding:
    n = len(rows)
    return Holding(np.array(rows), np.full(n, shard), np.full(n, shards))


def part(norms: list[float], **run: float) -> Part:
    return Part(0.0, {"grad_norm": (np.array(norms), None)}, {k: np.array([v]) for k, v in run.items()})


def test_shards_add_up_to_the_whole_in_float64() -> None:
    rng = np.random.default_rng(0)
    whole = [rng.normal(size=(5, 7)), rng.normal(size=3) * 1e-25, rng.normal(size=4) * 1e25]
    cut = [np.array_split(tensor.reshape(-1), 3) for tensor in whole]
    holdings = {rank: holding([0, 1, 2], rank, 3) for rank in range(3)}
    parts = {
        rank: part([float(np.float32(np.linalg.norm(pieces[rank]))) for pieces in cut]) for rank in range(3)
    }
    frame = merge(4, parts, holdings, 3, 3)
    expected = [np.linalg.norm(tensor) for tensor in whole]
    assert frame.values["grad_norm"] == pytest.approx(expected, rel=1e-6)
    assert float(frame.values["global_grad_norm"][0]) == pytest.approx(math.hypot(*expected), rel=1e-6)
    assert [float(frame.values[name][0]) for name in ("ranks_present", "ranks")] == [3.0, 3.0]
    assert not frame.present


def test_a_replica_counts_once_and_must_agree() -> None:
    holdings = {
        0: Holding(np.array([0, 1]), np.array([0, 0]), np.array([2, 1])),
        1: Holding(np.array([0, 1]), np.array([1, 0]), np.array([2, 1])),
    }
    same = merge(0, {0: part([3.0, 2.0]), 1: part([4.0, 2.0])}, holdings, 2, 2)
    assert same.values["grad_norm"].tolist() == [5.0, 2.0]
    assert same.values[GAP].tolist() == [0.0, 1.0]
    other = merge(0, {0: part([3.0, 2.0]), 1: part([4.0, 2.5])}, holdings, 2, 2)
    assert other.values[GAP].tolist() == pytest.approx([0.2, 1.0])
    broken = merge(0, {0: part([3.0, 2.0]), 1: part([4.0, math.nan])}, holdings, 2, 2)
    assert broken.values[GAP].tolist() == [math.inf, 1.0]


def test_what_has_no_meaning_for_a_shard_is_known_of_whole_tensors_only() -> None:
    holdings = {rank: Holding(np.array([0, 1]), np.array([rank, 0]), np.array([2, 1])) for rank in (0, 1)}
    parts = {}
    for rank in (0, 1):
        parts[rank] = part([3.0 + rank, 1.0])
        parts[rank].tensor["update_ratio"] = (np.array([0.1, 0.2]), None)
        parts[rank].tensor["weight_norm"] = (np.array([6.0 + 2 * rank, 1.0]), None)
        parts[rank].tensor["grad_nonfinite"] = (np.array([2.0, 0.0]), np.array([True, False]))
    frame = merge(0, parts, holdings, 2, 2)
    assert frame.present["update_ratio"].tolist() == [False, True]
    assert frame.values["weight_norm"].tolist() == [10.0, 1.0]
    assert frame.values["grad_nonfinite"][0] == 4.0 and frame.present["grad_nonfinite"].tolist() == [
        True,
        False,
    ]


def test_a_missing_part_is_told_and_a_sample_of_a_part_is_not_shown() -> None:
    holdings = {rank: holding([0], rank, 2) for rank in (0, 1)}
    alone = part([3.0])
    alone.tensor["weight_norm"] = (np.array([6.0]), None)
    frame = merge(0, {0: alone}, holdings, 2, 1)
    assert frame.values["ranks_present"][0] == 1.0 and frame.values["ranks"][0] == 2.0
    assert frame.values["grad_norm"].tolist() == [3.0]
    assert "weight_norm" not in frame.values


def test_not_finite_stays_not_finite() -> None:
    holdings = {rank: holding([0, 1], rank, 2) for rank in (0, 1)}
    frame = merge(0, {0: part([math.nan, math.inf]), 1: part([1.0, 1.0])}, holdings, 2, 2)
    assert math.isnan(frame.values["grad_norm"][0]) and math.isinf(frame.values["grad_norm"][1])


def test_clipping_by_one_factor_and_by_value() -> None:
    holdings = {rank: holding([0], rank, 2) for rank in (0, 1)}
    by_norm = {
        rank: part(
            [3.0 + rank],
            global_grad_norm=3.0 + rank,
            clip_coef=0.5,
            global_grad_norm_clipped=0.5 * (3 + rank),
        )
        for rank in (0, 1)
    }
    frame = merge(0, by_norm, holdings, 2, 1)
    assert (frame.values["clip_coef"][0], frame.values["global_grad_norm_clipped"][0]) == (0.5, 2.5)
    by_value = {
        0: part([3.0], global_grad_norm=3.0, clip_coef=1.0, global_grad_norm_clipped=3.0),
        1: part([4.0], global_grad_norm=4.0, clip_coef=0.25, global_grad_norm_clipped=1.0),
    }
    frame = merge(0, by_value, holdings, 2, 1)
    assert frame.values["global_grad_norm_clipped"][0] == pytest.approx(math.hypot(3, 1))


def test_own_norms_stand_side_by_side_but_not_at_a_skipped_step() -> None:
    parts = {rank: Part(0.0, {}, {LOCAL_NORM: np.array([1.0 + rank])}) for rank in (0, 2)}
    frame = merge(0, parts, {}, 3, 0)
    assert frame.present[RANK_ROWS].tolist() == [True, False, True]
    assert frame.values[RANK_ROWS][[0, 2]].tolist() == [1.0, 3.0]
    parts[0].run["skipped"] = np.array([1.0])
    assert RANK_ROWS not in merge(0, parts, {}, 3, 0).values


class Line:
    """Ranks that report steps of a second each."""

    def __init__(self, world: int, newest: int = -1) -> None:
        self.merge = RankMerge(world, newest)
        self.out: list[tuple[int, list[int]]] = []

    def say(self, rank: int, step: int, now: float) -> None:
        self.merge.part(rank, step, float(step), now)
        self.look(now)

    def look(self, now: float) -> None:
        self.out += [(step, list(parts)) for step, parts in self.merge.ready(now)]


def test_a_frame_is_out_when_all_ranks_are_in() -> None:
    line = Line(2)
    line.say(0, 0, 0.0)
    line.say(0, 1, 1.0)
    assert line.out == []
    line.say(1, 0, 1.5)
    line.say(1, 1, 1.6)
    assert line.out == [(0, [0, 1]), (1, [0, 1])]


def test_a_slow_rank_is_waited_for_and_then_not_again_until_it_is_back() -> None:
    line = Line(2)
    line.say(0, 0, 0.0)
    line.look(WAIT_S - 0.1)
    assert line.out == []
    line.look(WAIT_S)
    line.say(0, 1, WAIT_S + 1)
    assert line.out == [(0, [0]), (1, [0])]
    line.say(1, 0, WAIT_S + 2)
    assert line.merge.late == {0: {1}}
    line.say(1, 2, WAIT_S + 3)
    assert line.out[2:] == []
    line.say(0, 2, WAIT_S + 4)
    assert line.out[2:] == [(2, [0, 1])]


def test_slow_steps_give_more_time() -> None:
    line = Line(2)
    for step in range(4):
        line.merge.part(0, step, 10.0 * step, 10.0 * step)
        line.merge.part(1, step, 10.0 * step, 10.0 * step)
    line.look(40.0)
    line.merge.part(0, 4, 40.0, 40.0)
    line.look(40.0 + 199.0)
    assert len(line.out) == 4
    line.look(40.0 + 200.0)
    assert line.out[-1] == (4, [0])


def test_a_rank_that_went_on_has_left_the_step_out() -> None:
    line = Line(2)
    line.say(0, 0, 0.0)
    line.say(1, 1, 0.1)
    assert line.out == [(0, [0])]


def test_a_rank_that_said_goodbye_is_not_waited_for() -> None:
    line = Line(2)
    line.say(0, 0, 0.0)
    line.merge.ended(1)
    line.look(0.1)
    assert line.out == [(0, [0])]
    assert not line.merge.over
    line.merge.ended(0)
    assert line.merge.over


def test_steps_merged_before_a_restart_are_late() -> None:
    line = Line(2, newest=5)
    line.say(0, 5, 0.0)
    line.say(0, 6, 0.0)
    line.say(1, 6, 0.0)
    assert line.out == [(6, [0, 1])]
    assert line.merge.late == {5: {0}}


def test_histograms_of_shards_are_added_up() -> None:
    cells = np.random.default_rng(0).integers(0, 100, (2, 2, 48)).astype(float)
    holdings = {rank: Holding(np.array([0, 1]), np.array([rank, 0]), np.array([2, 1])) for rank in (0, 1)}
    parts = {rank: part([3.0, 1.0]) for rank in (0, 1)}
    for rank in (0, 1):
        parts[rank].tensor["grad_histogram"] = (cells[rank], None)
    frame = merge(0, parts, holdings, 2, 2)
    assert frame.values["grad_histogram"].tolist() == [*(cells[0, 0] + cells[1, 0]), *cells[0, 1]]
    assert "grad_histogram" not in frame.present
    del parts[1].tensor["grad_histogram"]
    frame = merge(0, parts, holdings, 2, 2)
    assert frame.present["grad_histogram"].tolist() == [False] * 48 + [True] * 48
    assert frame.values["grad_histogram"][48:].tolist() == cells[0, 1].tolist()
