"""The server's process is killed while it has messages to send: afterwards each has arrived, with one id, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.server.notify.sinks import HttpSink, http_sink

pytestmark = pytest.mark.slow

WAIT_S = 30.0


class Sending:
    """``sending_process.py``; what it does is said line by line."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.notify.sending_process", str(folder), *words],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def wait(self, line: str) -> None:
        """Returns when it has said this."""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            if said.strip() == line:
                return
        raise AssertionError(f"it ended without saying {line!r}")

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.communicate(timeout=WAIT_S)


def ids(sink: HttpSink) -> list[str]:
    return [headers["X-Gradwatch-Id"] for headers, _ in sink.got]


@pytest.mark.parametrize(
    ("mode", "status", "attempts"),
    [("queue", 200, 1), ("fire", 503, 2), ("fire", 200, 1)],
    ids=["not sent yet", "refused", "delivered"],
)
def test_a_restart_loses_no_message_and_doubles_none(
    tmp_path: Path, mode: str, status: int, attempts: int
) -> None:
    with http_sink() as sink:
        sink.status = status
        first = Sending(tmp_path, sink.url, mode)
        first.wait("noted")
        first.kill()
        sink.status = 200
        for _ in range(2):
            again = Sending(tmp_path, sink.url, "later")
            again.wait("idle")
            again.kill()
    assert len(sink.got) == attempts
    assert len(set(ids(sink))) == 1
    assert {json.loads(body)["text"] for _, body in sink.got} == {"The loss is above 1 since step 3."}


def test_killed_between_sending_and_noting_it_goes_once_more_with_the_same_id(tmp_path: Path) -> None:
    answer = threading.Event()
    with http_sink() as sink:
        sink.hold = answer
        first = Sending(tmp_path, sink.url, "fire")
        sink.wait(1)
        first.kill()
        answer.set()
        again = Sending(tmp_path, sink.url, "later")
        again.wait("idle")
        again.kill()
    assert len(sink.got) == 2 and len(set(ids(sink))) == 1
