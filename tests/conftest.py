"""What holds for every test: nothing swallowed goes unseen, and no thread outlives its test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from gradwatch.shield import observe

THREAD_GRACE_S = 5.0


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
