"""From ``optimizer.step()`` to the painted point: a real trainer, a real server, a real Chromium.

Prints the median and the 95th percentile of the time between the end of ``optimizer.step()`` in the training process and
the animation frame in which the page shows that step, and the same as a multiple of a baseline from the same run: one
HTTP request from the same page to the same server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from gradwatch import local
from gradwatch.links import fetch_code
from gradwatch.protocol import auth

TRAINER = """
import json, sys, time
import torch
from torch import nn
import gradwatch

tensors, rate, steps = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(tensors // 2)])
optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
x = torch.randn(4, 8)
run = gradwatch.watch(model, project="benchmark", name="latency")
print(json.dumps({"run": run.id}), flush=True)
for step in range(steps):
    started = time.time()
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    print(json.dumps({"step": step, "time": time.time()}), flush=True)
    run.log(loss=loss)
    time.sleep(max(0.0, 1 / rate - (time.time() - started)))
run.finish()
"""

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PAINTED = """() => performance.getEntriesByName("painted").map(
    (mark) => [mark.detail.step, performance.timeOrigin + mark.startTime])"""

REQUEST = """async () => {
    const started = performance.now();
    await (await fetch("/healthz", {cache: "no-store"})).text();
    return performance.now() - started;
}"""


@contextlib.contextmanager
def server(directory: Path) -> Iterator[local.LocalServer]:
    """A server on a free port with an empty store."""
    command = [sys.executable, "-m", "gradwatch_server", "serve", "--port", "0", "--dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while (found := local.find(directory)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server did not start")
            time.sleep(0.05)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def measure(page: Page, base: str, code: str, run: str, trainer: subprocess.Popen[str]) -> dict[int, float]:
    """Seconds from step to paint, by step, over the whole life of the trainer."""
    page.goto(f"{base}/runs/{run}#code={code}")
    page.wait_for_selector("body[data-ready='1']", timeout=60_000)
    opened = time.time()
    taken: dict[int, float] = {}
    assert trainer.stdout is not None
    for line in trainer.stdout:
        point = json.loads(line)
        if point["time"] > opened + 2:
            taken[point["step"]] = point["time"]
    deadline = time.monotonic() + 20
    while (seen := int(page.evaluate("document.body.dataset.lastStep ?? -1"))) < max(taken):
        if time.monotonic() > deadline:
            raise SystemExit(f"the page shows step {seen} of {max(taken)}")
        time.sleep(0.1)
    painted = sorted((int(step), at / 1e3) for step, at in page.evaluate(PAINTED))
    return {step: min(at for s, at in painted if s >= step) - then for step, then in taken.items()}


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=100)
    parser.add_argument("--rate", type=float, default=10.0, help="steps a second")
    parser.add_argument("--seconds", type=float, default=25.0)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = stack.enter_context(server(directory))
        environ = {**os.environ, "GRADWATCH_DIR": str(directory), "GRADWATCH_AUTOSTART": "0"}
        steps = int(args.seconds * args.rate)
        trainer = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", TRAINER, str(args.tensors), str(args.rate), str(steps)],
                stdout=subprocess.PIPE,
                text=True,
                env=environ,
            )
        )
        assert trainer.stdout is not None
        run = json.loads(trainer.stdout.readline())["run"]
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        code = fetch_code(found.url, auth.key_of(found.token))
        waits = sorted(measure(page, found.url, code, run, trainer).values())
        baseline = statistics.median(page.evaluate(REQUEST) for _ in range(50)) / 1e3
        browser.close()
    p50, p95 = waits[len(waits) // 2], waits[int(len(waits) * 0.95)]
    print(f"{args.tensors} tensors at {args.rate:g} steps/s, {len(waits)} steps")
    print(
        f"step to painted point: p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, worst {waits[-1] * 1e3:.0f} ms"
    )
    print(f"one HTTP request from the page: {baseline * 1e3:.1f} ms; p95 is {p95 / baseline:.0f} x that")


if __name__ == "__main__":
    main()
