"""Spools left by dead processes reach a server, whatever state they and it are in."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.client.rig import Rig, row

from gradwatch.cli.sync import follow
from gradwatch.delivery import Outcome, deliver
from gradwatch.errors import ConnectionRefused
from gradwatch.leftover import SETTLED_S, SpoolReader, spools_in
from gradwatch.protocol import Bye, Lost, decode
from gradwatch.sender import Ending
from gradwatch.spool import segments_of
from gradwatch.testing import FakeServer, MemoryTransport


@pytest.fixture
def dead(tmp_path: Path) -> Rig:
    """A run of 60 steps, in several segments, whose process was killed without ever reaching a server."""
    rig = Rig(tmp_path, offline=True, segment_bytes=8_000)
    for step in range(60):
        rig.step(step)
        rig.pump(0.6, every=0.3)
    rig.pump(1.0)
    rig.die()
    return rig


def stored(server: FakeServer) -> dict[int, list[float]]:
    """Steps and values over all streams, none of them twice."""
    found: dict[int, list[float]] = {}
    for stream in server.streams.values():
        for step, values in stream.series("grad_norm").items():
            assert step not in found
            found[step] = values.tolist()
    return found


def later() -> float:
    """When nobody can be copying a spool any more that was written now."""
    return time.time() + 2 * SETTLED_S


def expected(steps: range) -> dict[int, list[float]]:
    return {step: row(step).tolist() for step in steps}


def test_all_of_it_arrives_and_the_spool_is_gone(dead: Rig) -> None:
    assert len(segments_of(dead.spool)) > 3
    assert deliver(dead.spool, dead.transport) == (Outcome.DELIVERED, "")
    assert stored(dead.server) == expected(range(60))
    assert not list(dead.folder.iterdir())


def test_what_the_server_has_already_is_not_doubled(dead: Rig, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dead.spool, copy)
    deliver(dead.spool, dead.transport)
    assert deliver(copy, dead.transport)[0] is Outcome.DELIVERED
    assert stored(dead.server) == expected(range(60))


def test_a_server_without_the_beginning_gets_the_rest_as_a_stream_of_its_own(
    dead: Rig, tmp_path: Path
) -> None:
    first, second, *_ = segments_of(dead.spool)
    first.unlink()
    second.unlink()
    copy = tmp_path / "copy"
    shutil.copytree(dead.spool, copy)
    assert deliver(dead.spool, dead.transport)[0] is Outcome.DELIVERED
    assert deliver(copy, dead.transport)[0] is Outcome.DELIVERED
    steps = stored(dead.server)
    assert steps == expected(range(min(steps), 60)) and 0 < min(steps) < 30


def test_a_damaged_place_becomes_lost_and_the_rest_arrives(dead: Rig) -> None:
    _, second, *_ = segments_of(dead.spool)
    data = bytearray(second.read_bytes())
    data[-500] ^= 0xFF
    second.write_bytes(data)
    assert deliver(dead.spool, dead.transport, clock=later)[0] is Outcome.DELIVERED
    kept = stored(dead.server)
    lost = [record for stream in dead.server.streams.values() for record in stream.of(Lost)]
    gone = {s for r in lost if isinstance(r, Lost) for s in range(r.from_step, r.to_step + 1)}
    assert gone and set(kept) | gone == set(range(60)) and not set(kept) & gone
    assert sum(r.frames for r in lost if isinstance(r, Lost)) == len(gone)


@pytest.mark.parametrize("cut", [1, 7, 300, 900])
def test_a_tail_cut_short_loses_only_the_tail(dead: Rig, cut: int) -> None:
    last = segments_of(dead.spool)[-1]
    last.write_bytes(last.read_bytes()[:-cut])
    assert deliver(dead.spool, dead.transport)[0] is Outcome.DELIVERED
    steps = stored(dead.server)
    assert 50 < len(steps) < 60 and steps == expected(range(len(steps)))


def test_a_spool_copied_by_halves_is_delivered_as_far_as_it_goes_and_whole_in_the_end(
    dead: Rig, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    segments = segments_of(dead.spool)
    for i, segment in enumerate(segments):  # the third is half there, the next one is missing
        if i != 3:
            data = segment.read_bytes()
            (copy / segment.name).write_bytes(data[: len(data) // 2] if i == 2 else data)
    outcome, why = deliver(copy, dead.transport)
    assert outcome is Outcome.ALIVE and "what is there is delivered" in why
    half = stored(dead.server)
    assert half == expected(range(len(half))) and 5 < len(half) < 60
    for segment in segments:
        shutil.copy(segment, copy)
    assert deliver(copy, dead.transport)[0] is Outcome.DELIVERED
    assert stored(dead.server) == expected(range(60))
    assert not any(stream.of(Lost) for stream in dead.server.streams.values())


def test_a_newer_process_that_connects_meanwhile_does_not_keep_an_older_spool_out(dead: Rig) -> None:
    dead.server.refuse = ConnectionRefused("fenced", "a newer process has taken over")
    attempts: list[float] = []

    def monotonic() -> float:
        attempts.append(0.0)
        if dead.transport.attempts == 2:
            dead.server.refuse = None
        return 0.0

    assert deliver(dead.spool, dead.transport, monotonic=monotonic)[0] is Outcome.DELIVERED
    assert stored(dead.server) == expected(range(60))


def test_a_spool_in_use_is_left_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, offline=True)
    rig.step(0)
    rig.pump(1.0)
    assert deliver(rig.spool, rig.transport) == (Outcome.ALIVE, "")
    assert segments_of(rig.spool)
    rig.die()


def test_without_a_server_the_spool_stays(dead: Rig) -> None:
    dead.transport.down = True
    outcome, why = deliver(dead.spool, dead.transport)
    assert outcome is Outcome.UNREACHABLE and "nobody listens" in why
    assert len(list(SpoolReader(dead.spool).read())) > 50


def test_rubbish_is_said_to_be_rubbish(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "0000000000000000.gws").write_bytes(b"GWSPOOL1" + b"\xff" * 100)
    outcome, why = deliver(folder, MemoryTransport(FakeServer()))
    assert outcome is Outcome.DAMAGED and str(folder) in why
    assert spools_in(tmp_path) == [folder]


def test_follow_delivers_while_the_run_writes_and_cleans_up_after_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, offline=True, segment_bytes=8_000)
    rig.step(0)
    rig.pump(1.0)
    over = threading.Event()
    thread = threading.Thread(
        target=follow,
        args=(tmp_path, rig.transport),
        kwargs={"stopped": over.is_set, "pause": 0.01},
        daemon=True,
    )
    thread.start()
    try:
        for step in range(1, 40):
            rig.step(step)
            rig.pump(1.2, every=0.3)
            rig.server.wait(lambda s, step=step: bool(s.streams) and step in s.stream.series("grad_norm"))
        rig.sender.end(Ending("finished", 1.0))
        rig.pump(0.1)
        rig.sender.close(rig.clock())
        rig.server.wait(lambda s: bool(s.stream.of(Bye)))
    finally:
        over.set()
        thread.join()
    assert stored(rig.server) == expected(range(40))


def test_reading_gives_every_record_in_order(dead: Rig) -> None:
    records = list(SpoolReader(dead.spool).read())
    assert [seq for seq, _ in records] == list(range(len(records)))
    assert [getattr(decode(data), "seq", None) for _, data in records] == list(range(len(records)))
