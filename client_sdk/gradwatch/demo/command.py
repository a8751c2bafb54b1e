"""``gradwatch demo``: a server, four trainings, one link; ``Ctrl-C`` ends all of it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from .. import local
from ..cli.command import Command
from ..config import state_directory
from ..console import proxied, tunnel_hint
from ..links import fetch_code
from ..protocol import auth

__all__ = ["COMMANDS", "configure", "run"]

SERVER_START_S: Final = 30.0
TRAININGS: Final = (("chars", False), ("chars", True), ("digits", False), ("digits", True))
HEALTHY_STEPS: Final = 6000
EXPLODING_STEPS: Final = 700
"""The learning rate begins to rise at step 250; some 150 steps later the gradients have exploded."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of ``gradwatch demo``."""
    parser.add_argument(
        "--steps", type=int, default=HEALTHY_STEPS, help="optimizer steps of the healthy runs"
    )
    parser.add_argument(
        "--rate", type=float, default=15.0, help="at most this many steps a second (default 15)"
    )
    parser.add_argument(
        "--once", action="store_true", help="end when the trainings end, instead of at Ctrl-C"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demo until it is interrupted; 0 if all went well."""
    if (missing := _missing()) is not None:
        print(missing, file=sys.stderr)
        return 2
    directory = state_directory(os.environ)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            server = stack.enter_context(_server(directory))
            if server is None:
                print(
                    f"The server did not start; see {directory / 'log' / 'demo-server.log'}", file=sys.stderr
                )
                return 1
            trainings = stack.enter_context(_trainings(args, directory))
            _greet(server, os.environ)
            return _wait(trainings, once=args.once)
    except KeyboardInterrupt:
        print("\nThe demo has ended. What it recorded is kept: gradwatch serve shows it again.")
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _missing() -> str | None:
    """What must be installed first."""
    for package, advice in (
        ("torch", "The demo trains real models and needs PyTorch: pip install torch"),
        ("gradwatch_server", "The demo needs the server: pip install 'gradwatch[server]'"),
        ("sklearn", "The demo trains on scikit-learn's digits: pip install scikit-learn"),
    ):
        if importlib.util.find_spec(package) is None:
            return advice
    return None


@contextmanager
def _server(directory: Path) -> Iterator[local.LocalServer | None]:
    """The local server that runs already, or one of our own that ends with the demo; None if it did not start."""
    running = local.find(directory)
    if running is not None:
        yield running
        return
    command = [sys.executable, "-m", "gradwatch_server", "serve", "--dir", str(directory)]
    with _spawn(command, directory, "demo-server") as process:
        deadline = time.monotonic() + SERVER_START_S
        while (found := local.find(directory)) is None and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        yield found


@contextmanager
def _trainings(args: argparse.Namespace, directory: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One process per training; what they print goes to the log folder."""
    with ExitStack() as stack:
        processes = []
        for task, explode in TRAININGS:
            steps = min(args.steps, EXPLODING_STEPS) if explode else args.steps
            command = [sys.executable, "-m", "gradwatch.demo.train", task]
            command += ["--steps", str(steps), "--rate", str(args.rate), *(["--explode"] if explode else [])]
            name = f"demo-{task}-{'exploding' if explode else 'healthy'}"
            processes.append(stack.enter_context(_spawn(command, directory, name)))
        yield processes


@contextmanager
def _spawn(command: list[str], directory: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that outlives a ``Ctrl-C`` in our terminal just long enough for us to end it in order."""
    folder = directory / "log"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    environ = {**os.environ, "GRADWATCH_DIR": str(directory), "GRADWATCH_AUTOSTART": "0"}
    environ.pop("GRADWATCH_SERVER", None)
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=sys.platform != "win32",
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _greet(server: local.LocalServer, environ: Mapping[str, str]) -> None:
    code = fetch_code(server.url, auth.key_of(server.token))
    base = server.public_url or proxied(server.url, environ)
    print("Training a Transformer on text and a CNN on digits, each once healthy and once until it explodes.")
    print("The explosions begin about half a minute from now.\n")
    print(f"    {base}/#code={code}\n" if code else f"    {base}/\n")
    if hint := tunnel_hint(server.url, environ):
        print(f"  {hint}\n")
    print(
        "The link signs in one browser within ten minutes (gradwatch open makes another). Ctrl-C ends the demo."
    )
    sys.stdout.flush()


def _wait(trainings: list[subprocess.Popen[bytes]], *, once: bool) -> int:
    """Until the trainings have ended, and then, unless ``once``, until somebody interrupts."""
    codes = [process.wait() for process in trainings]
    if any(codes):
        print("A training ended with an error; its log stands in the log folder.", file=sys.stderr)
    if once:
        return 1 if any(codes) else 0
    print("The trainings are done. The dashboard stays until Ctrl-C.")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


COMMANDS: Final = (
    Command("demo", "train small models, healthy and exploding, and watch them", configure, run),
)
