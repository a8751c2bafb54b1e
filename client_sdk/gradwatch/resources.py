"""What training takes from the machine, asked every few seconds in the sender's thread: numbers named ``system/...``.

What can't be known is left out, silently: a GPU's use where NVML is missing, memory on systems without ``/proc``, time spent
waiting for data where no ``DataLoader`` is used. Nothing here waits for a device.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["EVERY_S", "PREFIX", "Resources"]

PREFIX: Final = "system/"
EVERY_S: Final = 5.0
Numbers: TypeAlias = "dict[str, float]"


class CaptureLike(Protocol):
    """What is needed of :class:`gradwatch.torch_.capture.Capture`."""

    def data_wait(self) -> float | None:
        """Seconds spent so far in waiting for data, None while no loader has been used."""


class Resources:
    """Asks. Shares are of 1; memory and disk are in bytes.

    ==================  =================================================================================================
    ``cpu``             processor time of this process in the time since it was asked before; 2.0 is two cores busy
    ``rss``             resident memory of this process
    ``memory_free``     memory of the machine that is still to be had
    ``disk_free``       room where the script runs
    ``data_wait``       share of the time spent in ``next()`` of DataLoaders, their own work and waiting for workers
    ``gpu0/use``        share of the time that a kernel ran (NVML)
    ``gpu0/memory``     memory taken on the device, by everybody (NVML)
    ``gpu0/allocated_peak``  most memory that torch has had allocated
    ``gpu0/temperature``  degrees Celsius (NVML)
    ``gpu0/power``      watts (NVML)
    ==================  =================================================================================================

    Args:
        folder: whose disk is looked at.
        waited: seconds spent so far in waiting for data, None while no loader has been used.
        modules: what is imported: torch is asked only if the script has imported it and has used a GPU.
        load: imports NVML's binding.
        clock, cpu: seconds, and processor seconds of this process.
        proc: where Linux tells about processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        waited: Callable[[], float | None] = lambda: None,
        modules: Mapping[str, Any] = sys.modules,
        load: Callable[[str], Any] = importlib.import_module,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        proc: Path = Path("/proc"),
    ) -> None:
        self._folder = folder
        self._waited = waited
        self._modules = modules
        self._load = load
        self._clock = clock
        self._cpu = cpu
        self._proc = proc
        self._nvml: Any = None
        self._nvml_asked = False
        self._before = (clock(), cpu(), waited() or 0.0)

    @classmethod
    def beside(cls, capture: CaptureLike | None) -> Resources:
        """For a run that measures with ``capture``, where the script runs."""
        return cls(Path(), waited=(lambda: None) if capture is None else capture.data_wait)

    def __call__(self) -> Numbers:
        """What holds now, by names that begin with :data:`PREFIX`."""
        found = {**self._shares(), **self._memory(), **self._disk(), **self._gpus()}
        return {PREFIX + name: value for name, value in found.items()}

    def _shares(self) -> Numbers:
        waited = self._waited()
        now = (self._clock(), self._cpu(), waited or 0.0)
        passed, busy, idle = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        if passed <= 0:
            return {}
        return {"cpu": busy / passed} | ({} if waited is None else {"data_wait": min(idle / passed, 1.0)})

    def _memory(self) -> Numbers:
        found: Numbers = {}
        try:
            lines = (self._proc / "self" / "status").read_text().splitlines()
            free = (self._proc / "meminfo").read_text().splitlines()
        except OSError:
            return found
        for name, key, where in (("rss", "VmRSS:", lines), ("memory_free", "MemAvailable:", free)):
            for line in where:
                if line.startswith(key):
                    found[name] = float(line.split()[1]) * 1024
        return found

    def _disk(self) -> Numbers:
        try:
            return {"disk_free": float(shutil.disk_usage(self._folder).free)}
        except OSError:
            return {}

    def _gpus(self) -> Numbers:
        """Of the devices that torch holds memory on in this process."""
        torch = self._modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return {}
        found: Numbers = {}
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(index) > 0:
                found[f"gpu{index}/allocated_peak"] = float(torch.cuda.max_memory_allocated(index))
                for name, value in self._ask_nvml(torch, index).items():
                    found[f"gpu{index}/{name}"] = value
        return found

    def _ask_nvml(self, torch: Any, index: int) -> Numbers:
        nvml = self._bind_nvml()
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        if nvml is None or uuid is None:
            return {}
        found: Numbers = {}
        try:
            device = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except nvml.NVMLError:
            return found
        for name, ask in _ASK_NVML.items():
            try:
                found[name] = float(ask(nvml, device))
            except nvml.NVMLError:
                continue
        return found

    def _bind_nvml(self) -> Any:
        if not self._nvml_asked:
            self._nvml_asked = True
            try:
                nvml = self._load("pynvml")
            except ImportError:
                return None
            try:
                nvml.nvmlInit()
            except nvml.NVMLError:
                return None
            self._nvml = nvml
        return self._nvml


_ASK_NVML: Final[Mapping[str, Callable[[Any, Any], float]]] = {
    "use": lambda nvml, device: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
    "memory": lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).used,
    "temperature": lambda nvml, device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    "power": lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) / 1000,
}
"""What each device is asked; one that doesn't know a number is not asked less for the others."""
