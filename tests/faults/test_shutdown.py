"""SIGTERM while trainers send and pages look: commits are finished, everybody is told, and whoever sends goes on later."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.faults.evidence import compare, record
from tests.faults.test_server_killed import trainers
from tests.ports import free_port
from tests.server.live_server import Page
from tests.server.processes import serve, wait_for
from websockets.exceptions import ConnectionClosed

GRACE_S = 15.0
"""Five seconds are promised; a machine that does other things as well gets three times that."""


@pytest.mark.slow
def test_a_server_that_is_stopped_tells_everybody_and_ends_soon(home: Path, tmp_path: Path) -> None:
    folder, port, token = tmp_path / "server", free_port(), "a token of the tests"
    server = serve(folder, "--port", str(port), GRADWATCH_TOKEN=token)
    try:
        wait_for(folder)
        with trainers(port, token) as runs:
            for run in runs:
                record(run, 0)
            address: Any = SimpleNamespace(socket_url=f"ws://127.0.0.1:{port}")
            pages = [Page(address, bearer=token) for _ in range(4)]
            for page, run in zip(pages, runs, strict=False):
                page.say(type="subscribe", id=1, run=run.id, statistic="grad_norm", points=500)
            sending = threading.Event()
            steps = [1]

            def send() -> None:
                while not sending.wait(0.005):
                    for run in runs:
                        record(run, steps[0])
                    steps[0] += 1

            thread = threading.Thread(target=send)
            thread.start()
            time.sleep(1.0)
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=GRACE_S)
            assert server.returncode == 0 and "Traceback" not in err, err
            for page in pages:
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        page.next()
                assert closed.value.rcvd is not None and closed.value.rcvd.code in (1001, 1012)
                page.__exit__(None, None, None)
            server = serve(folder, "--port", str(port), GRADWATCH_TOKEN=token)
            wait_for(folder)
            sending.set()
            thread.join()
            taken = {run.id: steps[0] for run in runs}
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=GRACE_S)
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()
    compare(folder / "gradwatch.db", taken)
