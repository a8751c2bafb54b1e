"""What browser tests need: a server and trainers as processes, and pages whose console is watched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

from gradwatch.links import fetch_code
from gradwatch.protocol import auth
from tests.ports import free_port

WAIT_S = 40.0
"""How long a condition may take at most; nothing waits so long when all is well."""

CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

T = TypeVar("T")


def until(ask: Callable[[], T], what: str) -> T:
    """The first true answer of ``ask``."""
    deadline = time.monotonic() + WAIT_S
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


class Server:
    """``gradwatch serve`` in a process of its own, with its data in ``folder`` and further ``options``."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [
            sys.executable,
            "-m",
            "gradwatch_server",
            "serve",
            "--port",
            str(self.port),
            "--dir",
            str(self.folder),
            *self._options,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=quiet_environment())
        until(self._answers, "the server to answer")

    def stop(self) -> None:
        """Ends it as a service manager would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    @property
    def token(self) -> str:
        """What trainers and scripts know it by."""
        state = json.loads((self.folder / "servers" / f"{self.port}.json").read_text())
        return str(state["token"])

    def code(self) -> str:
        """A single-use code, as ``gradwatch open`` gets it."""
        return fetch_code(self.url, auth.key_of(self.token))

    def get(self, path: str) -> Any:
        """The answer of the API to the owner's token."""
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended: {self.log.read_text()}")
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Trainer:
    """``trainer.py`` in a process of its own; see there for what it understands."""

    def __init__(self, server: Server, name: str, folder: Path) -> None:
        self.name = name
        self.record = folder / f"{name}.jsonl"
        environment = quiet_environment() | {
            "GRADWATCH_SERVER": server.url,
            "GRADWATCH_TOKEN": server.token,
            "GRADWATCH_DIR": str(folder / f"{name}.client"),
            "GRADWATCH_USER": "ann",
        }
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("trainer.py")), name, str(self.record)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )
        assert self._process.stdout is not None
        self.run_id = ""
        while not self.run_id:
            line = self._process.stdout.readline()
            assert line, f"the trainer ended: {self.log.read_text()}"
            # The link is printed there too; the id stands alone on its line.
            if re.fullmatch(r"[\w-]+\n", line):
                self.run_id = line.strip()

    def tell(self, command: str) -> None:
        """``scale 100``, ``pause``, ``go``."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Ends the training; returns when the process is gone."""
        if self._process.poll() is None:
            self.tell("finish")
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the trainer didn't end: {self.log.read_text()}") from None
        finally:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()

    def steps(self) -> list[dict[str, Any]]:
        """What it computed itself, step by step."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]


def quiet_environment() -> dict[str, str]:
    """This process's environment without what would steer gradwatch, and with one thread for numbers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GRADWATCH_")}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Watched:
    """Pages of one browser context; what their consoles complain about is kept in ``complaints``.

    ``heard`` tells for a failed test's report, with seconds since the beginning, what went wrong in the pages and on the way
    to the server: complaints, errors with their stacks, answers of 400 and above, and requests that got none.
    """

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.context = context
        self.server = server
        self.complaints: list[str] = []
        self.heard: list[str] = []
        self._began = time.monotonic()
        self._allowed: list[re.Pattern[str]] = []
        context.on("response", self._answered)
        context.on("requestfailed", self._failed)

    def allow(self, pattern: str) -> None:
        """Complaints that match are part of the test."""
        self._allowed.append(re.compile(pattern))

    def open(self, path: str, *, ready: bool = True) -> Page:
        """A page at ``path``, drawn if ``ready``."""
        page = self.context.new_page()
        page.set_default_timeout(WAIT_S * 1000)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._hear(str(error), f"{error.stack or error}"))
        self._note(f"opens {path}")
        page.goto(path if path.startswith("http") else self.server.url + path)
        if ready:
            page.wait_for_selector("body[data-ready]", state="attached")
        return page

    def sign_in(self, path: str = "/") -> Page:
        """An owner's page, by a single-use link."""
        # The page without a session answers 401, which Chromium writes to the console.
        self.allow(r"status of 401")
        return self.open(f"{path}#code={self.server.code()}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            text = f"{message.text} {message.location['url']}"
            self._hear(text, f"console {message.type}: {text}")

    def _hear(self, text: str, note: str) -> None:
        self.complaints.append(text)
        self._note(note)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"{response.status} {response.request.method} {response.url}")

    def _failed(self, request: Request) -> None:
        self._note(f"{request.failure} {request.method} {request.url}")

    def _note(self, text: str) -> None:
        self.heard.append(f"{time.monotonic() - self._began:7.2f} s  {text}")

    def unexpected(self) -> list[str]:
        """Complaints that the test didn't allow."""
        return [text for text in self.complaints if not any(p.search(text) for p in self._allowed)]


def last_step(page: Page) -> int:
    """The newest step that the run page has painted, -1 before the first."""
    return int(page.evaluate("Number(document.body.dataset.lastStep ?? -1)"))


def wait_for_step(page: Page, step: int) -> None:
    """Returns when the run page has painted ``step`` or a later one."""
    page.wait_for_function("step => Number(document.body.dataset.lastStep ?? -1) >= step", arg=step)


def frames(page: Page) -> None:
    """Returns when what was just done is on the page: the state is told in the next frame, and painted in the one after."""
    page.evaluate("async () => { for (let i = 0; i < 3; i += 1) await new Promise(requestAnimationFrame); }")
