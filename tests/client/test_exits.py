"""How a run's end reaches the server, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.serving import serving

import gradwatch
from gradwatch.protocol import Bye
from gradwatch.testing import FakeServer

PREAMBLE = """
import os, signal, sys, time
import gradwatch
run = gradwatch.watch()
run.record(0, {"a": 1.0}, loss=1.0)
"""
TRAIN_FOR_EVER = """
step = 0
while True:
    step += 1
    run.record(step, {"a": 1.0})
    time.sleep(0.01)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    server = FakeServer()
    with serving(server) as port:
        monkeypatch.setenv("GRADWATCH_SERVER", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        yield server


def script(body: str) -> list[str]:
    return [sys.executable, "-c", PREAMBLE + textwrap.dedent(body)]


def bye_of(server: FakeServer) -> Bye:
    (bye,) = server.stream.of(Bye)
    assert isinstance(bye, Bye)
    assert 0 in server.stream.series("grad_norm")
    return bye


@pytest.mark.parametrize(
    ("body", "status", "state", "reason"),
    [
        ("", 0, "finished", ""),
        ("sys.exit(0)", 0, "finished", ""),
        ("sys.exit(3)", 3, "failed", "exit status 3"),
        ("raise SystemExit", 0, "finished", ""),
        ("raise KeyboardInterrupt", None, "killed", "SIGINT"),
        ("run.finish('preempted')", 0, "preempted", ""),
    ],
)
def test_ends_by_itself(fake: FakeServer, body: str, status: int | None, state: str, reason: str) -> None:
    done = subprocess.run(script(body), capture_output=True, timeout=60)
    assert status is None or done.returncode == status, done.stderr.decode()
    bye = bye_of(fake)
    assert (bye.state, bye.reason, bye.error) == (state, reason, None)


def test_an_exception_is_failed_with_type_and_message(fake: FakeServer) -> None:
    done = subprocess.run(script("raise ValueError('bad batch')"), capture_output=True, timeout=60)
    assert done.returncode == 1 and b"ValueError: bad batch" in done.stderr
    bye = bye_of(fake)
    assert bye.state == "failed" and bye.error is not None
    assert (bye.error["type"], bye.error["message"]) == ("ValueError", "bad batch")


@pytest.mark.parametrize(
    ("name", "environ", "state"),
    [
        ("SIGTERM", {}, "killed"),
        ("SIGTERM", {"SLURM_JOB_ID": "7"}, "preempted"),
        ("SIGUSR1", {"SLURM_JOB_ID": "7"}, "preempted"),
        ("SIGHUP", {}, "killed"),
        ("SIGINT", {}, "killed"),
    ],
)
def test_a_signal_ends_the_run_and_then_the_process_as_without_us(
    fake: FakeServer, name: str, environ: dict[str, str], state: str
) -> None:
    number = signal.Signals[name]
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, which the child would inherit
        signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(
        script(TRAIN_FOR_EVER), env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    fake.wait(lambda s: bool(s.streams) and len(s.stream.series("grad_norm")) > 3)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert (bye_of(fake).state, bye_of(fake).reason) == (state, name)


def test_sigkill_says_nothing_and_loses_little(fake: FakeServer) -> None:
    process = subprocess.Popen(script(TRAIN_FOR_EVER), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fake.wait(lambda s: bool(s.streams) and len(s.stream.series("grad_norm")) > 20)
    process.kill()
    process.communicate(timeout=60)
    assert not fake.stream.of(Bye)


def test_the_scripts_own_handler_still_runs_and_may_go_on(fake: FakeServer) -> None:
    chained = [
        sys.executable,
        "-c",
        "import signal\nstop = []\nsignal.signal(signal.SIGTERM, lambda *_: stop.append(1))\n"
        + PREAMBLE
        + TRAIN_FOR_EVER.replace("while True", "while not stop")
        + "run.mark('checkpoint')\nprint('saved')\n",
    ]
    process = subprocess.Popen(chained, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fake.wait(lambda s: bool(s.streams) and len(s.stream.series("grad_norm")) > 3)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert out == b"saved\n" and process.returncode == 0
    assert (bye_of(fake).state, bye_of(fake).reason) == ("killed", "SIGTERM")


def test_a_forked_child_is_inert(fake: FakeServer) -> None:
    body = """
    if os.fork() == 0:
        run.record(1, {"a": 5.0}, loss=5.0)
        run.finish("failed")
        sys.exit(9)
    os.wait()
    run.record(2, {"a": 2.0})
    """
    done = subprocess.run(script(body), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert bye_of(fake).state == "finished"
    assert fake.stream.scalar("global_grad_norm") == {0: 1.0, 2: 2.0}


def test_hooks_are_taken_back(fake: FakeServer) -> None:
    before = sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)
    with gradwatch.watch():
        assert (sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)) != before
    assert (sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)) == before


class Cells:
    """The part of IPython's shell that we use."""

    def __init__(self) -> None:
        self.events = self
        self.callbacks: dict[str, Any] = {}

    def register(self, name: str, callback: Any) -> None:
        self.callbacks[name] = callback

    def unregister(self, name: str, callback: Any) -> None:
        assert self.callbacks.pop(name) is callback

    def cell(self, work: Any, error: BaseException | None) -> None:
        self.callbacks["pre_run_cell"](None)
        work()
        if after := self.callbacks.get("post_run_cell"):
            after(types.SimpleNamespace(error_before_exec=None, error_in_exec=error))


@pytest.mark.parametrize(
    ("error", "state", "reason"), [(KeyboardInterrupt(), "killed", "SIGINT"), (ValueError("x"), "failed", "")]
)
def test_a_notebook_cell_that_breaks_off_training_ends_the_run(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, error: BaseException, state: str, reason: str
) -> None:
    shell = Cells()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    run = gradwatch.watch()
    run.record(0, {"a": 1.0})
    shell.cell(lambda: None, NameError("a typo in another cell"))
    shell.cell(lambda: run.record(1, {"a": 1.0}), None)
    shell.cell(lambda: run.record(2, {"a": 1.0}), error)
    assert (bye_of(fake).state, bye_of(fake).reason) == (state, reason)
    assert not shell.callbacks
