"""The host never waits for the device because of us: by CUDA's own debug mode, and by counting what the runtime was asked."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gradwatch.frames import Frame, PendingFrame
from gradwatch.shield import Shield
from gradwatch.torch_.capture import Capture
from gradwatch.torch_.scalars import HostCopy, defer

from .transformer import SMALL, trainer

STEPS = 40
"""More than the ten between samples, so that sampled statistics are taken too."""

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@contextmanager
def no_sync(device: torch.device) -> Iterator[None]:
    """An error at each implicit wait for the device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def train(
    device: torch.device, *, watch: bool, wrap: Callable[[], object]
) -> tuple[list[Frame], list[torch.Tensor]]:
    """Some steps within ``wrap``, after as many that warm up; losses are read without waiting, as ``run.log`` does."""
    model, step = trainer(SMALL, device)
    pending: list[PendingFrame] = []
    capture = Capture(
        [model],
        shield=Shield(pytest.fail),
        on_frame=pending.append,
        on_schema=lambda tensors, statistics: None,
        budget=1e6,
    )
    if watch:
        capture.attach()
    for _ in range(STEPS):
        step()
    frames = [frame.resolve() for frame in pending]  # one sample waits at most: now the next can be taken
    pending.clear()
    scope = wrap()
    with scope:  # type: ignore[attr-defined]
        for _ in range(STEPS):
            defer(step())
    capture.detach()
    frames += [frame.resolve() for frame in pending]
    return frames, [p.detach().clone() for p in model.parameters()]


def test_the_loop_itself_does_not_wait(device: torch.device) -> None:
    """The control: without watching, the debug mode has nothing to say."""
    train(device, watch=False, wrap=lambda: no_sync(device))


def test_watching_does_not_wait(device: torch.device) -> None:
    frames, _ = train(device, watch=True, wrap=lambda: no_sync(device))
    assert [frame.step for frame in frames] == list(range(2 * STEPS))
    assert all(np.isfinite(frame.values["grad_norm"]).all() for frame in frames)
    assert any("update_ratio" in frame.values for frame in frames[STEPS:])


@pytest.mark.cuda
def test_the_runtime_is_asked_to_wait_no_more_often(device: torch.device) -> None:
    def waits(watch: bool) -> Counter[str]:
        torch.cuda.synchronize()
        gc.collect()
        profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
        train(device, watch=watch, wrap=lambda: profiler)
        return Counter(event.name for event in profiler.events() if event.name in WAITS)

    assert waits(True) == waits(False)


def test_weights_are_the_same_to_the_bit(device: torch.device) -> None:
    _, plain = train(device, watch=False, wrap=lambda: no_sync(device))
    _, watched = train(device, watch=True, wrap=lambda: no_sync(device))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


@pytest.mark.cuda
def test_device_numbers_come_by_pinned_memory_and_a_flag(device: torch.device) -> None:
    number = defer(torch.tensor(3.0, device=device) * 2)
    assert number is not None
    torch.cuda.synchronize()
    assert number.ready() and number() == 6.0


@pytest.mark.cuda
def test_asking_whether_numbers_have_come_breaks_no_capture_in_another_thread(device: torch.device) -> None:
    x = torch.randn(1 << 20, device=device)
    stop = threading.Event()
    copies = [HostCopy(x) for _ in range(64)]

    def ask() -> None:
        while not stop.is_set():
            if all(copy.ready() for copy in copies):
                for copy in copies:
                    copy.numpy()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(20):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(200):
                    x = x * 1.0001
            copies = [HostCopy(x) for _ in range(64)]
    finally:
        stop.set()
        thread.join()


@pytest.mark.cuda
def test_nothing_is_measured_inside_a_cuda_graph(device: torch.device) -> None:
    """A captured step must not hold our copies; what runs outside it is measured as ever."""
    model = torch.nn.Linear(8, 8).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, capturable=True)
    x = torch.randn(4, 8, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        model(x).pow(2).mean().backward()
        optimizer.step()

    pending: list[PendingFrame] = []
    capture = Capture(
        [model],
        shield=Shield(pytest.fail),
        on_frame=pending.append,
        on_schema=lambda tensors, statistics: None,
    )
    capture.attach()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(5):
        graph.replay()
    torch.cuda.synchronize()
    capture.detach()
    assert [frame.step for frame in pending] == [0, 1, 2]
    assert all(np.isfinite(frame.resolve().values["grad_norm"]).all() for frame in pending)
