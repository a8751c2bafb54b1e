"""Several ranks of one run on real sockets: one merged run, every stream exactly once, whatever is late or dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.server.live_server import PATIENCE, Page, Running, Trainer, hello, serving

from gradwatch.protocol import Batch, Block, Bye, Hello, Mark, Schema, Statistic, Tensor
from gradwatch.protocol.histogram import CELLS
from gradwatch.testing import FakeClock
from gradwatch_server.rank_merge import WAIT_STEPS
from gradwatch_server.ranks import CORRECTED_MARK, END_S, RANKS_MARK

NAMES = ("a.weight", "a.bias", "b.weight")
RNG = np.random.default_rng(3)
NORMS = RNG.uniform(0.5, 2.0, (2, 40, 3)).astype(np.float32)
"""By rank, step and tensor."""


def rank_hello(rank: int, *, parts: bool = True, world: int = 2) -> Hello:
    return hello(stream=f"stream of rank {rank}", rank=rank, world_size=world, parts=parts)


def rank_schema(rank: int, *, shards: int = 2, logged: bool = True) -> Schema:
    statistics = [
        Statistic(name="grad_norm", scope="tensor", width=3),
        Statistic(name="global_grad_norm", scope="run", dtype="f8"),
        Statistic(name="local_grad_norm", scope="run", dtype="f8", cadence=50),
    ]
    if logged and rank == 0:
        statistics.append(Statistic(name="loss", scope="run", dtype="f8", cadence=0, logged=True))
    tensors = tuple(
        Tensor(name=name, shape=(4,), numel=4, depth=i, module=name[0], shard=rank % shards, shards=shards)
        for i, name in enumerate(NAMES)
    )
    return Schema(seq=0, id=0, tensors=tensors, statistics=tuple(statistics))


def rank_batch(
    seq: int, steps: range, norms: npt.NDArray[Any], *, own: float | None = None, loss: float | None = None
) -> Batch:
    axis = np.array(steps, dtype=np.float64)
    times = axis + 1_700_000_000.0
    rows = norms[steps.start : steps.stop]
    totals = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))[:, None]
    blocks = [
        Block(statistic=0, steps=axis, times=times, values=rows),
        Block(statistic=1, steps=axis, times=times, values=totals),
    ]
    if own is not None:
        blocks.append(Block(statistic=2, steps=axis[:1], times=times[:1], values=np.array([[own]])))
    if loss is not None:
        blocks.append(Block(statistic=3, steps=axis, times=times, values=np.full((len(axis), 1), loss)))
    return Batch(seq=seq, schema=0, blocks=tuple(blocks))


def values(server: Running, statistic: str, scope: str = "run") -> dict[int, list[Any]]:
    """Stored values of the run by step; absent ones as None."""
    with server.owner() as api:
        reply = api.get(
            "/api/v1/runs/run-1/values", params={"statistic": statistic, "scope": scope, "limit": 10_000}
        )
    if reply.status_code == 404:
        return {}
    assert reply.status_code == 200, reply.text
    found = reply.json()
    return dict(zip(map(int, found["steps"]), found["values"], strict=True))


def until(server: Running, condition: Callable[[], Any]) -> Any:
    """Looks again whenever the server tells its pages something."""
    with Page(server) as page:
        while not (found := condition()):
            page.socket.recv(timeout=PATIENCE)
    return found


def merged(server: Running, steps: int) -> dict[int, float]:
    """The run's norm by step, once so many steps are stored."""
    found = until(server, lambda: len(rows := values(server, "global_grad_norm")) >= steps and rows)
    return {step: row[0] for step, row in found.items()}


def whole(steps: range) -> Any:
    rows = NORMS.astype(np.float64)
    return pytest.approx({step: float(np.sqrt((rows[:, step] ** 2).sum())) for step in steps}, rel=1e-6)


def alone(rank: int, steps: range) -> Any:
    rows = NORMS[rank].astype(np.float64)
    return pytest.approx({step: float(np.sqrt((rows[step] ** 2).sum())) for step in steps}, rel=1e-6)


def the_run(server: Running) -> dict[str, Any]:
    with server.owner() as api:
        run: dict[str, Any] = api.get("/api/v1/runs/run-1").json()["run"]
    return run


def ranks_present(server: Running) -> list[float]:
    return [row[0] for row in values(server, "ranks_present").values()]


def test_parts_become_one_run(server: Running) -> None:
    with Trainer(server, rank_hello(0)) as zero, Trainer(server, rank_hello(1)) as one:
        zero.send(rank_schema(0), rank_batch(1, range(20), NORMS[0], loss=2.5))
        one.send(rank_schema(1), rank_batch(1, range(20), NORMS[1]))
        assert merged(server, 20) == whole(range(20))
        rows = np.array(list(values(server, "grad_norm", "tensor").values()))
        np.testing.assert_allclose(rows, np.sqrt((NORMS[:, :20].astype(float) ** 2).sum(axis=0)), rtol=1e-6)
        zero.send(Mark(seq=2, step=3, time=1_700_000_003.0, kind="checkpoint"))
        zero.send(Bye(seq=3, state="finished", time=1_700_000_100.0))
        one.finish(2)
        run = until(server, lambda: (found := the_run(server))["state"] == "finished" and found)
        with server.owner() as api:
            marks = [mark["kind"] for mark in api.get("/api/v1/runs/run-1/marks").json()["marks"]]
        assert run["summary"]["ranks_present"] == run["summary"]["ranks"] == 2.0
        assert (run["steps"], run["last_step"], run["tensor_count"]) == (20, 19, 3)
        assert list(values(server, "loss").values()) == [[2.5]] * 20
        assert marks.count("checkpoint") == 1


def test_histograms_of_parts_are_added_up_whatever_the_order_of_their_tensors(server: Running) -> None:
    cells = RNG.integers(0, 1024, (2, 3, CELLS)).astype(np.float32)
    wide = Statistic(name="grad_histogram", scope="histogram", width=3 * CELLS, cadence=50)
    with Trainer(server, rank_hello(0)) as zero, Trainer(server, rank_hello(1)) as one:
        for rank, trainer in enumerate((zero, one)):
            schema, norms = rank_schema(rank, logged=False), rank_batch(1, range(5), NORMS[rank])
            order = slice(None, None, 1 if rank == 0 else -1)
            tensors = schema.tensors or ()
            schema = replace(schema, statistics=(*schema.statistics, wide), tensors=tensors[order])
            first = norms.blocks[0]
            rows = cells[rank, order].reshape(1, -1)
            counted = Block(statistic=3, steps=first.steps[:1], times=first.times[:1], values=rows)
            blocks = (replace(first, values=first.values[:, order]), *norms.blocks[1:], counted)
            trainer.send(schema, replace(norms, blocks=blocks))
        assert merged(server, 5) == whole(range(5))
        for tensor in range(3):
            found = server.services.store.histogram("run-1", tensor, 3)
            assert found is not None and found.step == 0
            assert found.counts.tolist() == cells[:, tensor].sum(axis=0).tolist()


def test_what_one_rank_sends_again_is_taken_once(server: Running) -> None:
    with Trainer(server, rank_hello(0)) as zero, Trainer(server, rank_hello(1)) as one:
        zero.send(rank_schema(0), rank_batch(1, range(5), NORMS[0]))
        one.send(rank_schema(1), rank_batch(1, range(5), NORMS[1]))
        merged(server, 5)
        with Trainer(server, rank_hello(1)) as again:
            assert again.welcome.next_seq == 2
            again.send(rank_batch(1, range(5), NORMS[1] * 100), rank_batch(2, range(5, 8), NORMS[1]))
            zero.send(rank_batch(2, range(5, 8), NORMS[0]))
            assert merged(server, 8) == whole(range(8))


def test_a_rank_that_stays_away_delays_and_is_told(tmp_path: Path) -> None:
    clock = FakeClock(1_700_000_000.0)
    with serving(tmp_path, clock=clock) as server, Trainer(server, rank_hello(0)) as zero:
        zero.send(rank_schema(0), rank_batch(1, range(4), NORMS[0]))
        zero.wait_acked(2)
        assert values(server, "global_grad_norm") == {}
        clock.advance(WAIT_STEPS * 1.0)
        assert merged(server, 4) == alone(0, range(4))
        assert ranks_present(server) == [1.0] * 4
        with Trainer(server, rank_hello(1)) as one:
            one.send(rank_schema(1), rank_batch(1, range(2, 8), NORMS[1]))
            zero.send(rank_batch(2, range(4, 8), NORMS[0]))
            found = merged(server, 8)
        assert {step: found[step] for step in range(4, 8)} == whole(range(4, 8))
        assert ranks_present(server)[4:] == [2.0] * 4
        with server.owner() as api:
            marks = api.get("/api/v1/runs/run-1/marks").json()["marks"]
        told = [(mark["step"], mark["data"]["present"]) for mark in marks if mark["kind"] == RANKS_MARK]
        assert told == [(0, 1), (4, 2)]
        until(server, lambda: ranks_present(server)[2] == 2.0)
        assert ranks_present(server) == [1.0, 1.0] + [2.0] * 6
        corrected = merged(server, 8)
        assert {step: corrected[step] for step in range(2, 8)} == whole(range(2, 8))
        assert {step: corrected[step] for step in range(2)} == alone(0, range(2))
        with server.owner() as api:
            marks = api.get("/api/v1/runs/run-1/marks").json()["marks"]
        counted = [mark["data"] for mark in marks if mark["kind"] == CORRECTED_MARK]
        assert counted == [{"steps": 2, "to": 3}]


def test_the_end_does_not_wait_for_ever_for_a_dead_rank(tmp_path: Path) -> None:
    clock = FakeClock(1_700_000_000.0)
    with serving(tmp_path, clock=clock) as server, Trainer(server, rank_hello(0)) as zero:
        with Trainer(server, rank_hello(1)) as one:
            one.send(rank_schema(1), rank_batch(1, range(2), NORMS[1]))
            one.wait_acked(2)
        zero.send(rank_schema(0), rank_batch(1, range(4), NORMS[0]))
        zero.finish(2)
        clock.advance(END_S + 1)
        until(server, lambda: the_run(server)["state"] == "finished")
        assert ranks_present(server) == [2.0, 2.0, 1.0, 1.0]


def test_a_restart_takes_up_the_parts_that_wait(tmp_path: Path) -> None:
    zero, one = rank_hello(0), rank_hello(1)
    with serving(tmp_path) as first, Trainer(first, zero) as leader, Trainer(first, one) as other:
        other.send(rank_schema(1), rank_batch(1, range(3), NORMS[1]))
        leader.send(rank_schema(0), rank_batch(1, range(9), NORMS[0], loss=1.0))
        merged(first, 3)
        leader.wait_acked(2)
    with serving(tmp_path) as second:
        with Trainer(second, one) as other:
            other.send(rank_batch(2, range(3, 9), NORMS[1]))
            assert merged(second, 9) == whole(range(9))
            assert ranks_present(second) == [2.0] * 9
        with Trainer(second, zero) as leader:
            leader.send(rank_batch(2, range(9, 10), NORMS[0], loss=1.0))
            leader.wait_acked(3)
            until(second, lambda: len(values(second, "loss")) == 9)


def test_replicated_ranks_stand_side_by_side_and_a_bad_one_is_reported(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        ranks = [
            stack.enter_context(Trainer(server, rank_hello(rank, parts=False, world=3))) for rank in range(3)
        ]
        for rank, trainer in enumerate(ranks):
            trainer.send(rank_schema(rank, shards=1))
            for n in range(3):
                own = 50.0 if rank == 1 else 1.0 + rank / 10
                steps = range(10 * n, 10 * n + (10 if rank == 0 else 1))
                trainer.send(rank_batch(1 + n, steps, NORMS[0], own=own))
            trainer.wait_acked(4)
        rows = until(server, lambda: len(found := values(server, "rank_grad_norm")) == 3 and found)
        assert rows == {10 * n: [1.0, 50.0, 1.2] for n in range(3)}
        assert merged(server, 30) == alone(0, range(30))
        with server.owner() as api:
            found = until(server, lambda: api.get("/api/v1/runs/run-1/incidents").json()["incidents"])
    assert [(one["kind"], one["group"]) for one in found] == [("bad_rank", "rank 1")]
    assert values(server, "replica_gap") == {10 * n: [0.0, 1.0] for n in range(3)}
