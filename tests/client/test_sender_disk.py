"""The sender and the disk: what is kept there until it is acknowledged, and what is lost without it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tests.client.rig import TENSORS, Rig, row

from gradwatch.protocol import Batch, Lost, decode
from gradwatch.sender import Ending
from gradwatch.spool import BINARY, read_segment, segments_of


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_is_not_acknowledged_is_on_disk_and_freed_when_it_is(rig: Rig) -> None:
    rig.server.acks = False
    rig.step(0)
    rig.pump(0.2)
    assert not list(rig.folder.iterdir())
    rig.pump(0.3)
    (segment,) = segments_of(rig.folder / "run-stream")
    assert [entry.seq for entry in read_segment(segment)][2:] == list(range(1, rig.journal.next_seq))
    rig.server.acks = True
    rig.step(1)
    rig.pump(0.3)
    assert rig.journal.outstanding == 0
    assert not segments_of(rig.folder / "run-stream")
    rig.sender.close(rig.clock())
    assert not list(rig.folder.iterdir())


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("apart", [0.004, 0.014, 0.093, 0.11, 0.37, 1.3])
def test_half_a_second_after_its_step_a_frame_is_on_disk(tmp_path: Path, apart: float, offline: bool) -> None:
    rig = Rig(tmp_path, offline=offline)
    rig.server.acks = False
    rig.pump()
    steps = [0.05 + apart * k for k in range(int(6 / apart))]
    stored: set[float] = set()
    for now in rig.live(steps, 6):
        assert {step for step, at in enumerate(steps) if at < now - 0.5} <= stored, f"just before {now:.3f} s"
        stored = {step for batch in _spooled(rig) for block in batch.blocks for step in block.steps.tolist()}
    assert stored


def _spooled(rig: Rig) -> list[Batch]:
    entries = itertools.chain(*map(read_segment, segments_of(rig.spool))) if rig.spool.exists() else ()
    batches = [decode(entry.payload) for entry in entries if entry.kind == BINARY]
    return [batch for batch in batches if isinstance(batch, Batch)]


def test_more_than_memory_holds_is_read_back_from_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path, memory_limit=20_000)
    rig.transport.down = True
    for step in range(200):
        rig.step(step)
        rig.pump(0.3, every=0.1)
    assert len(rig.journal._kept) < 100
    rig.transport.down = False
    rig.sender.end(Ending("finished", 1.0))
    rig.pump(20)
    assert rig.sender.delivered
    assert sorted(rig.server.stream.series("grad_norm")) == list(range(200))


def test_a_full_spool_loses_the_oldest_steps_and_says_which(tmp_path: Path) -> None:
    rig = Rig(tmp_path, spool_limit=200_000, memory_limit=10_000)
    rig.transport.down = True
    for step in range(600):
        rig.step(step)
        rig.pump(0.3, every=0.1)
    rig.transport.down = False
    rig.sender.end(Ending("finished", 1.0))
    rig.pump(30)
    assert rig.sender.delivered
    kept = set(rig.server.stream.series("grad_norm"))
    lost: set[int] = set()
    for record in rig.server.stream.of(Lost):
        assert isinstance(record, Lost)
        lost |= set(range(record.from_step, record.to_step + 1))
    assert kept | lost == set(range(600)) and not kept & lost
    assert 0 in lost and 599 in kept
    assert rig.sender.lost_frames == len(lost)
    assert [text for text in rig.told if "lost" in text] == [
        "some steps could not be kept and are lost; the page shows which"
    ]


def test_without_disk_the_oldest_steps_are_lost_and_counted(tmp_path: Path) -> None:
    (tmp_path / "run-stream").write_text("a file where the folder should be")
    rig = Rig(tmp_path, memory_limit=150_000)
    rig.transport.down = True
    for step in range(300):
        rig.step(step)
        rig.pump(0.3, every=0.1)
    rig.transport.down = False
    rig.sender.end(Ending("finished", 1.0))
    rig.pump(30)
    kept = set(rig.server.stream.series("grad_norm"))
    assert rig.sender.delivered and 0 < len(kept) < 300 and 299 in kept
    assert rig.sender.lost_frames == 300 - len(kept)
    assert any("memory only" in text for text in rig.told)


def test_offline_writes_everything_to_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path, offline=True)
    for step in range(5):
        rig.step(step)
    rig.pump()
    rig.sender.end(Ending("finished", 1.0))
    rig.pump()
    assert rig.sender.ended.is_set()
    rig.sender.close(rig.clock())
    entries = list(itertools.chain(*map(read_segment, segments_of(tmp_path / "run-stream"))))
    assert [e.seq for e in entries if e.kind >= 2] == list(range(rig.journal.next_seq))


def test_a_spool_that_somebody_deletes_costs_what_was_in_it_and_no_more(tmp_path: Path) -> None:
    rig = Rig(tmp_path, memory_limit=20_000, segment_bytes=30_000)
    rig.transport.down = True
    for step in range(200):
        rig.step(step)
        rig.pump(0.3, every=0.1)
    _, second, third, *_ = segments_of(rig.spool)
    second.unlink()
    third.write_bytes(third.read_bytes()[:-400])
    rig.transport.down = False
    rig.sender.end(Ending("finished", 1.0))
    rig.pump(20)
    assert rig.sender.delivered
    kept, lost = set(rig.server.stream.series("grad_norm")), set[int]()
    for record in rig.server.stream.of(Lost):
        assert isinstance(record, Lost)
        lost |= set(range(record.from_step, record.to_step + 1)) if record.frames else set()
    assert kept | lost == set(range(200)) and not kept & lost and len(kept) > 100
    assert rig.sender.lost_frames == len(lost)


def test_a_schema_that_somebody_deletes_is_sent_from_memory(tmp_path: Path) -> None:
    rig = Rig(tmp_path, memory_limit=20_000, segment_bytes=30_000)
    rig.transport.down = True
    for step in range(100):
        rig.step(step)
        rig.pump(0.3, every=0.1)
    segments_of(rig.spool)[0].unlink()
    rig.transport.down = False
    rig.sender.end(Ending("finished", 1.0))
    rig.pump(20)
    assert rig.sender.delivered and rig.server.stream.tensors == TENSORS
    kept = rig.server.stream.series("grad_norm")
    assert sorted(kept) == list(range(100)) and all((kept[step] == row(step)).all() for step in kept)
