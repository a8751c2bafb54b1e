"""What the machine gives: against independent readings, with a GPU that is a stand-in, and where there is nothing to read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest
from tests.client.rig import Rig

import gradwatch
from gradwatch.resources import EVERY_S, Resources
from gradwatch.testing import FakeServer, MemoryTransport


def test_memory_and_disk_are_what_others_say(tmp_path: Path) -> None:
    found = Resources(tmp_path, modules={}, clock=iter([0.0, 5.0]).__next__, cpu=iter([1.0, 8.5]).__next__)()
    process = psutil.Process(os.getpid())
    assert found["system/rss"] == pytest.approx(process.memory_info().rss, rel=0.1)
    assert found["system/memory_free"] == pytest.approx(psutil.virtual_memory().available, rel=0.3)
    assert found["system/disk_free"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert found["system/cpu"] == 1.5
    assert set(found) == {"system/rss", "system/memory_free", "system/disk_free", "system/cpu"}


def test_the_share_of_waiting_is_of_the_time_between(tmp_path: Path) -> None:
    waited = iter([None, 0.5, 2.0])
    times = iter([0.0, 5.0, 10.0])
    ask = Resources(tmp_path, waited=waited.__next__, modules={}, clock=times.__next__, cpu=lambda: 0.0)
    assert ask()["system/data_wait"] == 0.1
    assert ask()["system/data_wait"] == 0.3


class Cuda:
    """Two devices, of which this process uses the second."""

    def __init__(self, used: bool = True) -> None:
        self.is_initialized = lambda: used
        self.device_count = lambda: 2
        self.memory_reserved = lambda i: 4_096 * i
        self.max_memory_allocated = lambda i: 1_000 * i
        self.get_device_properties = lambda i: SimpleNamespace(uuid=f"uuid-{i}")


class Nvml:
    """A driver that knows all but the power."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self) -> None:
        self.begun = 0

    def nvmlInit(self) -> None:
        self.begun += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetUtilizationRates(self, device: str) -> Any:
        return SimpleNamespace(gpu={"GPU-uuid-1": 87}[device])

    def nvmlDeviceGetMemoryInfo(self, device: str) -> Any:
        return SimpleNamespace(used=5_000)

    def nvmlDeviceGetTemperature(self, device: str, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 61

    def nvmlDeviceGetPowerUsage(self, device: str) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_gpus_that_are_used(tmp_path: Path) -> None:
    nvml = Nvml()
    ask = Resources(tmp_path, modules={"torch": SimpleNamespace(cuda=Cuda())}, load=lambda name: nvml)
    for _ in range(2):
        found = {name: value for name, value in ask().items() if "gpu" in name}
        assert found == {
            "system/gpu1/use": 0.87,
            "system/gpu1/memory": 5_000.0,
            "system/gpu1/temperature": 61.0,
            "system/gpu1/allocated_peak": 1_000.0,
        }
    assert nvml.begun == 1


def no_module(name: str) -> Any:
    raise ImportError(name)


@pytest.mark.parametrize("load", [lambda name: pynvml, no_module], ids=["no driver", "not installed"])
def test_without_nvml_torchs_own_numbers_are_left(tmp_path: Path, load: Any) -> None:
    """The binding as published, on a machine without the driver, and a machine without the binding."""
    ask = Resources(tmp_path, modules={"torch": SimpleNamespace(cuda=Cuda())}, load=load)
    assert [name for name in ask() if "gpu" in name] == ["system/gpu1/allocated_peak"]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    cold = SimpleNamespace(cuda=Cuda(used=False))
    ask = Resources(tmp_path / "gone", modules={"torch": cold}, load=no_module, proc=tmp_path / "none")
    assert set(ask()) <= {"system/cpu"}


def test_the_sender_asks_every_five_seconds_at_the_newest_step(tmp_path: Path) -> None:
    asked: list[float] = []

    def resources() -> dict[str, float]:
        asked.append(rig.clock.now)
        return {"system/rss": float(len(asked))}

    rig = Rig(tmp_path)
    rig.sender._resources = resources
    for step in range(120):
        rig.step(step)
        rig.pump(0.1)
    rig.pump(120.0)
    assert len(asked) == 3, "at a step that was told already nothing more can be told"
    rows = rig.server.stream.scalar("system/rss")
    assert list(rows.values()) == [1.0, 2.0, 3.0]
    first, second, third = rows
    assert second - first == pytest.approx(EVERY_S / 0.1, abs=2) and third == 119
    assert not rig.told


def test_what_is_told_afterwards_has_no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    transport = MemoryTransport(FakeServer())
    with (
        gradwatch.watch(transport=transport) as live,
        gradwatch.watch(transport=transport, started_at=1.0) as told,
    ):
        threads = [run._thread for run in (live, told)]
        assert [thread is not None and thread._sender._resources is not None for thread in threads] == [
            True,
            False,
        ]
