"""How soon after a bad frame its alert stands on another browser's screen.

``python -m tests.benchmarks.on_screen``. A trainer sends frames over the socket; one in two makes a rule fire, the next one clears it.
Another browser has the page of alerts open. Counted from sending the frame to the animation frame after the one in which the
alert was put there; both clocks are this computer's.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests.e2e.harness import CHROMIUM_ARGS
from tests.e2e.stage import LAYERS, Stage, numbers, schema_of, staged
from tests.server.live_server import Trainer, hello

ALERTS = 60

WATCH = """
() => {
  window.seen = [];
  let shown = 0;
  const look = () => {
    const now = document.querySelectorAll(".alert[data-state=open]").length;
    if (now === shown) return;
    shown = now;
    requestAnimationFrame(() => requestAnimationFrame(() => window.seen.push({ open: now, at: performance.timeOrigin + performance.now() })));
  };
  new MutationObserver(look).observe(document.querySelector("#alerts"), { childList: true, subtree: true });
}
"""


def measure(stage: Stage) -> list[float]:
    """Milliseconds for each alert, ascending."""
    rule = {"statistic": "global_grad_norm", "threshold": 12, "recover_steps": 1, "name": "hot"}
    stage.ask("POST", "/rules", rule)
    found = []
    with Trainer(stage.running, hello("live")) as trainer, sync_playwright() as playwright:
        trainer.send(schema_of(LAYERS))
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(args=list(CHROMIUM_ARGS), executable_path=executable)
        page = browser.new_page()
        page.goto(f"{stage.url}/#code={stage.code()}")
        page.wait_for_selector("body[data-ready]", state="attached")
        page.goto(f"{stage.url}/alerts")
        page.wait_for_selector("body[data-ready]", state="attached")
        page.evaluate(WATCH)
        for step in range(2 * ALERTS):
            sent = 1000 * time.time()
            trainer.send(numbers(1 + step, step, 1, len(LAYERS), spikes=(step,) if step % 2 == 0 else ()))
            page.wait_for_function("count => window.seen.length > count", arg=step)
            shown = page.evaluate("count => window.seen[count]", step)
            assert shown["open"] == (step + 1) % 2
            if step % 2 == 0:
                found.append(shown["at"] - sent)
        browser.close()
    return sorted(found)


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as folder, staged(Path(folder)) as stage:
        found = measure(stage)
    p95 = found[int(0.95 * (len(found) - 1))]
    print(
        f"bad frame to alert on a screen: p50 {statistics.median(found):.0f} ms, p95 {p95:.0f} ms, worst {found[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
