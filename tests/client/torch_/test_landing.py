"""Numbers on their way from a device, with a device that delivers when a test says so."""

from __future__ import annotations

import gc

import pytest
import torch

from gradwatch.torch_ import landing, scalars
from gradwatch.torch_.landing import Landing
from gradwatch.torch_.scalars import HostCopy


class Device:
    """What was sent, and not yet delivered."""

    def __init__(self) -> None:
        self.queue: list[tuple[Landing, torch.Tensor]] = []
        self.capturing = False

    def deliver(self) -> None:
        """In the order in which it was sent: the numbers, then the flag."""
        for where, tensor in self.queue:
            where.numbers.copy_(tensor)
            where._flag.fill_(1)
        self.queue.clear()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()

    def send(self: Landing, tensor: torch.Tensor) -> None:
        self._flag.zero_()
        made.queue.append((self, tensor.clone()))

    monkeypatch.setattr(Landing, "send", send)
    monkeypatch.setattr(landing, "_pinned", lambda shape, dtype: torch.empty(shape, dtype=dtype))
    monkeypatch.setattr(landing, "_free", {})
    monkeypatch.setattr(scalars, "lands", lambda tensor: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: made.capturing)
    for name in ("Event", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: pytest.fail("another thread may capture a graph"))
    return made


def memory() -> list[Landing]:
    return [one for free in landing._free.values() for one in free]


def test_numbers_are_there_when_the_device_has_delivered_them(device: Device) -> None:
    copy = HostCopy(torch.tensor([1.0, 2.5], dtype=torch.bfloat16))
    assert not copy.ready()
    device.deliver()
    assert copy.ready() and copy.numpy().tolist() == [1.0, 2.5] == copy.numpy().tolist()
    assert copy.ready()


def test_memory_is_used_again_once_its_numbers_are_read(device: Device) -> None:
    first = HostCopy(torch.ones(3))
    device.deliver()
    assert first.numpy().tolist() == [1.0] * 3
    (freed,) = memory()
    second, other = HostCopy(torch.full((3,), 2.0)), HostCopy(torch.ones(4))
    assert second._landing is freed and other._landing is not freed and not second.ready()
    device.deliver()
    assert (first.numpy().tolist(), second.numpy().tolist()) == ([1.0] * 3, [2.0] * 3)


def test_memory_that_nobody_waited_for_is_used_again_only_after_its_numbers_have_arrived(
    device: Device,
) -> None:
    dropped = HostCopy(torch.ones(3))
    where = dropped._landing
    del dropped
    gc.collect()
    assert memory() == [where]
    before = HostCopy(torch.ones(3))
    assert before._landing is not where
    device.deliver()
    assert HostCopy(torch.ones(3))._landing is where


def test_a_device_that_delivers_nothing_is_given_up(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "WAIT_S", 0.01)
    copy = HostCopy(torch.ones(3))
    with pytest.raises(TimeoutError, match="has not delivered"):
        copy.numpy()
    device.deliver()
    assert copy.numpy().tolist() == [1.0] * 3


def test_nothing_is_sent_into_a_graph_that_is_being_captured(device: Device) -> None:
    device.capturing = True
    with pytest.raises(RuntimeError, match="log them after a replay"):
        HostCopy(torch.ones(3))
    assert not device.queue
