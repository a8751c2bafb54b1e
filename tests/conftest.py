"""What holds for every test: nothing swallowed goes unseen, and no thread outlives its test."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Generator, Iterator

import pytest

from gradwatch.shield import observe

# For this process and those that it starts, before any of them loads torch: two workers on two processors leave nothing for more
# threads, and threads that wait for one another take many times as long where a machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

THREAD_GRACE_S = 20.0
GARBAGE = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting imports is there until the end: the garbage collector needs to look at it neither then nor in each test.

    Nor need it look at the rest after every 700 objects. What tests say of garbage they collect themselves.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(GARBAGE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each worker begins with its part of the slow tests, so that at the end none works on alone at a long one."""
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    size = -(-len(items) // workers)
    items.clear()
    for worker in range(workers):
        mine = slow[worker::workers]
        items += mine + quick[: size - len(mine)]
        del quick[: size - len(mine)]
    items += quick


@pytest.fixture(autouse=True)
def swallowed() -> Iterator[list[Exception]]:
    """The errors that shields swallow during the test. What is in it at the end fails the test.

    A test that means a shield to swallow something looks at the list and clears it.
    """
    errors: list[Exception] = []
    stop = observe(lambda where, error: errors.append(error))
    yield errors
    stop()
    if errors:
        raise AssertionError(
            "a shield swallowed this error; clear `swallowed` if it is expected"
        ) from errors[0]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A gradwatch thread, or any non-daemon one, must be gone soon after the test that started it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_GRACE_S
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon or thread.name.startswith("gradwatch"):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"thread {thread.name!r} outlives the test"
