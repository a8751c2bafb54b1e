"""How soon a shared link shows something on a phone, and how soon a withdrawn one shows nothing any more.

``python -m tests.benchmarks.shared``. A browser of 390 x 844 with an empty cache opens a link to a live run of 100 tensors at
4 Mbit/s and 40 ms of delay. Counted from the navigation: the health sentence, the newest norm, and five layers with a number.
Then links are withdrawn, and the time is taken until the page's socket is cut.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from tests.e2e.conftest import CHROMIUM_ARGS
from tests.e2e.stage import Stage, numbers, schema_of, staged
from tests.server.live_server import Page as Socket
from tests.server.live_server import Trainer, hello
from websockets.exceptions import ConnectionClosed

LAYERS = tuple(f"blocks.{i}.mlp.weight" for i in range(100))
BITS = 4_000_000
DELAY_MS = 40
OPENINGS = 4
WITHDRAWALS = 40

SEEN = """
() => new Promise((resolve) => {
  const marks = {};
  const look = () => {
    const note = (name, seen) => { if (seen && !(name in marks)) marks[name] = performance.now(); };
    note("sentence", document.querySelector(".strip-sentence")?.textContent.trim());
    note("norm", /\\d/.test(document.querySelector("#norm .legend b")?.textContent ?? ""));
    note("layers", [...document.querySelectorAll("#inspector li")].filter((row) => /\\d/.test(row.textContent)).length >= 5);
    note("charts", document.querySelector("#norm path.js-line"));
    if (Object.keys(marks).length === 4 || performance.now() > 20000) resolve(marks);
    else requestAnimationFrame(look);
  };
  look();
})
"""


def opening(browser: Browser, link: str) -> dict[str, float]:
    """Milliseconds until each thing is seen, and how many pixels too wide the page is."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=3, is_mobile=True
    )
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": DELAY_MS, "downloadThroughput": BITS / 8, "uploadThroughput": BITS / 8},
    )
    page.goto(link, wait_until="commit")
    marks: dict[str, float] = page.evaluate(SEEN)
    marks["too wide"] = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    context.close()
    return marks


def withdrawal(stage: Stage) -> float:
    """Seconds from asking for it to the page's socket being closed."""
    made = stage.ask("POST", "/shares", {"run": "live"})
    with Socket(stage.running, share=made["token"]) as page:
        closed: list[float] = []

        def listen() -> None:
            try:
                while True:
                    page.socket.recv()
            except ConnectionClosed:
                closed.append(time.perf_counter())

        listener = threading.Thread(target=listen)
        listener.start()
        began = time.perf_counter()
        stage.ask("DELETE", f"/shares/{made['share']['id']}")
        listener.join()
    return closed[0] - began


def measure(stage: Stage) -> tuple[list[dict[str, float]], list[float]]:
    """What each opening saw, and the seconds that each withdrawal took, ascending."""
    with Trainer(stage.running, hello("live", name="live")) as trainer, sync_playwright() as playwright:
        trainer.send(schema_of(LAYERS), numbers(1, 0, 2000, len(LAYERS)))
        trainer.wait_acked(2)
        link = stage.ask("POST", "/shares", {"run": "live"})["url"]
        browser = playwright.chromium.launch(args=list(CHROMIUM_ARGS), executable_path=_chromium())
        found = [opening(browser, link) for _ in range(OPENINGS)]
        browser.close()
        return found, sorted(withdrawal(stage) for _ in range(WITHDRAWALS))


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as folder, staged(Path(folder)) as stage:
        found, cut = measure(stage)
    for name in ("sentence", "norm", "layers", "charts"):
        times = [marks[name] for marks in found if name in marks]
        worst = f"worst {max(times):,.0f} ms, median {statistics.median(times):,.0f} ms" if times else "never"
        print(f"phone at 4 Mbit/s: {name:8} {worst} ({len(times)} of {OPENINGS})")
    print(f"phone: the page is {max(marks['too wide'] for marks in found):.0f} px too wide at most")
    print(
        f"withdrawn link: socket cut after {1000 * statistics.median(cut):.0f} ms, worst {1000 * cut[-1]:.0f} ms"
    )


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


if __name__ == "__main__":
    main()
