"""Pinned memory where numbers of a CUDA device arrive, with no call to CUDA but in the thread that trains.

While one thread captures a CUDA graph (in torch's default mode, ``global``), a call such as ``cudaEventQuery`` in any other thread
breaks the capture (CUDA Runtime API, ``cudaThreadExchangeStreamCaptureMode``; it had to be kept out of torch's NCCL watchdog, too).
So no event is asked: behind the numbers, in the same stream, the device writes a flag, and the host looks at that. The memory is used
again and not freed, since freeing it would record events.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

__all__ = ["Landing", "give_back", "land", "lands"]

WAIT_S: Final = 60.0
"""After so long a device is taken for broken; a queue of work that long is unheard of."""

_LOOK_S: Final = 2e-4

_Kind: TypeAlias = "tuple[torch.Size, torch.dtype]"
_free: Final[dict[_Kind, deque[Landing]]] = {}
_ones: Final[dict[tuple[torch.device, int], Tensor]] = {}


class Landing:
    """Memory for numbers of one shape and type, and the flag that they have arrived."""

    __slots__ = ("_flag", "_seen", "numbers")

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.numbers = _pinned(shape, dtype)
        self._flag = _pinned(torch.Size([1]), torch.uint8)
        self._seen = self._flag.numpy()

    def send(self, tensor: Tensor) -> None:
        """Puts both copies into the current stream, and does not wait."""
        self._seen[0] = 0
        self.numbers.copy_(tensor, non_blocking=True)
        self._flag.copy_(_one(tensor.device), non_blocking=True)

    @property
    def arrived(self) -> bool:
        """Whether the numbers are there."""
        return bool(self._seen[0])

    def wait(self) -> None:
        """Until they are.

        Raises:
            TimeoutError: the device doesn't deliver.
        """
        give_up = time.monotonic() + WAIT_S
        while not self.arrived:
            if time.monotonic() > give_up:
                raise TimeoutError(f"the device has not delivered its numbers within {WAIT_S:.0f} seconds")
            time.sleep(_LOOK_S)


def lands(tensor: Tensor) -> bool:
    """Whether a tensor comes this way."""
    return tensor.device.type == "cuda"


def land(tensor: Tensor) -> Landing:
    """Sends a tensor of a CUDA device on its way.

    Raises:
        RuntimeError: a CUDA graph is being captured here: each replay would write to memory that others use by then.
    """
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a CUDA graph is being captured, and its numbers come later: log them after a replay"
        )
    free = _free.setdefault((tensor.shape, tensor.dtype), deque())
    landing = None
    if free:
        landing = free.popleft()
        if not landing.arrived:  # nobody waited for it
            free.append(landing)
            landing = None
    landing = landing or Landing(tensor.shape, tensor.dtype)
    landing.send(tensor)
    return landing


def give_back(landing: Landing) -> None:
    """Its numbers have been read, or nobody wants them."""
    _free[landing.numbers.shape, landing.numbers.dtype].append(landing)


def _pinned(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def _one(device: torch.device) -> Tensor:
    """What the flag becomes: one for each stream, so that it is written before it is read."""
    stream: Any = torch.cuda.current_stream(device)
    key = (device, int(stream.cuda_stream))
    one = _ones.get(key)
    if one is None:
        one = _ones[key] = torch.ones(1, dtype=torch.uint8, device=device)
    return one
