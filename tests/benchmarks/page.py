"""How fast the run page opens, zooms and follows, whatever the length of the run: a real server, a real Chromium.

    python -m tests.benchmarks.page [open | live | hour | weight ...] [--steps 10000 1000000] [--tensors 1000]

``open``: from navigation, cold (nothing cached) and warm, to the sentence and numbers, to the heat map and the norm on our own
canvas, to all of Plotly's charts; then zooms and pans until the new stretch is drawn. Each for every length of run.
``live``: main thread and long tasks while steps come in. ``hour``: memory over an hour of steps, sent as fast as they are taken.
``weight``: bytes of the page as they travel. Runs are made by the store's own writer and kept in ``--keep`` if given.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright
from tests.benchmarks.store import begin, ingest, norms
from tests.e2e import stories
from tests.e2e.harness import CHROMIUM_ARGS, Server
from tests.e2e.wire import Wire

from gradwatch.protocol import Batch, Record
from gradwatch_server.assets import Assets, find
from gradwatch_server.store import Store

RUN = "bench"
DESK = {"width": 1440, "height": 900}
REPEATS = 3
HOUR = 36_000
"""Steps in an hour at 10 steps a second."""

MARKS = """() => Object.fromEntries(["sentence", "numbers", "charts"].map(
    (name) => [name, performance.getEntriesByName(name)[0]?.startTime ?? null]))"""


def build(folder: Path, tensors: int, steps: int) -> None:
    """A store with one run, unless it is there."""
    if (folder / "built").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(str(folder / "gradwatch.db"))
    stream = begin(store, tensors, groups=True)
    started = time.perf_counter()
    ingest(store, stream, norms(tensors, 4_000), 1_000, lambda n, _: n < steps)
    store.compact()
    store.close()
    gc.collect()
    (folder / "built").write_text("1")
    print(f"built {tensors:,} tensors x {steps:,} steps in {time.perf_counter() - started:.0f} s")


def signed_in(browser: Browser, server: Server) -> BrowserContext:
    """A new browser context with the owner's session, and nothing of ours in its cache."""
    context = browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{server.url}/#code={server.code()}")
    page.wait_for_selector("body[data-ready]", state="attached")
    cookies = context.cookies()
    context.close()
    fresh = browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    fresh.add_cookies(cookies)  # type: ignore[arg-type]
    return fresh


def opened(page: Page, url: str) -> dict[str, float]:
    """Milliseconds from navigation to each mark."""
    page.goto(url)
    page.wait_for_selector("body[data-charts][data-numbers][data-drawn]", state="attached", timeout=60_000)
    found: dict[str, float] = page.evaluate(MARKS)
    return found


WATCH = """() => { window.acted = 0; for (const kind of ["pointerup", "pointermove"])
    addEventListener(kind, (event) => { if (event.buttons || kind === "pointerup") window.acted = performance.now(); }, true); }"""

DRAWN = """() => new Promise((done) => {
    const look = () => {
        const { drawn, shown } = document.body.dataset;
        const at = performance.getEntriesByName("drawn").at(-1).startTime;
        if (drawn === shown && at > window.acted) done(at - window.acted);
        else requestAnimationFrame(look);
    };
    look();
})"""


def moved(page: Page, act: str) -> float:
    """Milliseconds from the last of a person's movements to the drawn new stretch."""
    page.wait_for_timeout(700)
    box = page.locator(".heat-overlay").bounding_box()
    assert box is not None
    y = box["y"] + 40
    left, right = box["x"] + 196, box["x"] + box["width"] - 60
    if act == "pan":
        page.keyboard.down("Shift")
    page.mouse.move(left + 0.3 * (right - left), y)
    page.mouse.down()
    page.mouse.move(left + 0.6 * (right - left), y)
    if act == "zoom":
        page.mouse.up()
    found: float = page.evaluate(DRAWN)
    if act == "pan":
        page.mouse.up()
        page.keyboard.up("Shift")
    return found


def report_open(browser: Browser, folder: Path, tensors: int, lengths: list[int]) -> None:
    """Opening and moving, for every length."""
    for steps in lengths:
        data = folder / f"{tensors}x{steps}"
        build(data, tensors, steps)
        server = Server(data)
        server.start()
        try:
            url = f"{server.url}/runs/{RUN}"
            cold, warm = [], []
            moves: dict[str, list[float]] = {"zoom": [], "pan": []}
            for _ in range(REPEATS):
                context = signed_in(browser, server)
                page = context.new_page()
                cold.append(opened(page, url))
                warm.append(opened(page, url))
                page.evaluate(WATCH)
                for act in ("zoom", "pan", "zoom", "pan"):
                    moves[act].append(moved(page, act))
                context.close()
            print(f"{tensors:,} tensors x {steps:,} steps")
            for label, found in (("cold", cold), ("warm", warm)):
                line = "   ".join(
                    f"{name} {statistics.median(one[name] for one in found):.0f} ms" for name in found[0]
                )
                print(f"  {label}: {line}")
            for act, times in moves.items():
                print(f"  {act}: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms")
        finally:
            server.stop()


@contextlib.contextmanager
def live_run(folder: Path, tensors: int, steps: int) -> Iterator[tuple[Server, Wire, Iterator[Record]]]:
    """A server, an open wire with 500 steps sent, and the records that follow."""
    story = stories.wide("live", tensors, steps)
    story.end = None
    story.began = time.time() - 50
    folder.mkdir()
    server = Server(folder)
    server.start()
    try:
        with Wire(server, story) as wire:
            records = story.records()
            wire.send(next(records) for _ in range(11))
            yield server, wire, records
    finally:
        server.stop()


def singles(record: Record) -> Iterator[Record]:
    """A batch as batches of one step each, all with the number of the whole: to be numbered by who sends them."""
    assert isinstance(record, Batch)
    for i in range(len(record.blocks[0].steps)):
        blocks = tuple(_only(block, record.blocks[0].steps[i]) for block in record.blocks)
        yield Batch(seq=0, schema=record.schema, blocks=tuple(b for b in blocks if b is not None))


def _only(block: Any, step: float) -> Any:
    at = np.flatnonzero(block.steps == step)
    if len(at) == 0:
        return None
    return type(block)(
        statistic=block.statistic,
        steps=block.steps[at],
        times=np.array([time.time()]),
        values=block.values[at],
    )


def report_live(browser: Browser, folder: Path, tensors: int, rate: float, seconds: float) -> None:
    """Main thread, long tasks, and lag while steps come in."""
    count = int(rate * seconds)
    with live_run(folder / "live", tensors, 500 + count + 50) as (server, wire, records):
        page, cdp = watched(browser, server)
        page.wait_for_timeout(2000)
        page.evaluate("""() => { window.long = []; new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) window.long.push(entry.duration); }).observe({ type: "longtask" }); }""")
        stop = threading.Event()
        sender = threading.Thread(target=_pace, args=(wire, records, rate, count, stop))
        before, started = metrics(cdp), time.perf_counter()
        sender.start()
        try:
            while sender.is_alive():
                page.wait_for_timeout(500)
        finally:
            stop.set()
            sender.join()
        after, passed = metrics(cdp), time.perf_counter() - started
        long = page.evaluate("window.long")
        busy = (after["TaskDuration"] - before["TaskDuration"]) / passed
        script = (after["ScriptDuration"] - before["ScriptDuration"]) / passed
        print(f"live, {tensors:,} tensors at {rate:g} steps/s for {passed:.0f} s")
        print(
            f"  main thread busy {busy:.0%} (script {script:.0%}); tasks over 50 ms: {len(long)}, longest {max(long, default=0):.0f} ms"
        )


def _pace(wire: Wire, records: Iterator[Record], rate: float, count: int, stop: threading.Event) -> None:
    seq, sent, start = 11, 0, time.perf_counter()
    for record in records:
        for one in singles(record):
            if stop.wait(max(0.0, start + sent / rate - time.perf_counter())) or sent >= count:
                return
            wire.send([Batch(seq=seq, schema=one.schema, blocks=one.blocks)])  # type: ignore[union-attr]
            seq, sent = seq + 1, sent + 1


def report_hour(browser: Browser, folder: Path, tensors: int) -> None:
    """The page's heap before and after an hour of steps."""
    with live_run(folder / "hour", tensors, 500 + HOUR) as (server, wire, records):
        page, cdp = watched(browser, server)
        page.wait_for_timeout(3000)
        sizes = [heap(cdp)]
        pending = list(records)
        for part in np.array_split(np.arange(len(pending)), 6):
            wire.send(pending[i] for i in part)
            page.wait_for_timeout(1500)
            sizes.append(heap(cdp))
        last = 500 + HOUR - 1
        page.wait_for_selector(f"body[data-last-step='{last}']", state="attached", timeout=60_000)
        print(
            f"an hour of {tensors:,} tensors at 10 steps/s, sent at once: heap in MB after each ten minutes"
        )
        print("  " + ", ".join(f"{size / 1e6:.1f}" for size in sizes))


def watched(browser: Browser, server: Server) -> tuple[Page, CDPSession]:
    """An open, drawn page of the live run."""
    page = signed_in(browser, server).new_page()
    opened(page, f"{server.url}/runs/live")
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    return page, cdp


def metrics(cdp: CDPSession) -> dict[str, float]:
    """What Chromium counts."""
    return {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}


def heap(cdp: CDPSession) -> float:
    """Bytes that the page's scripts hold, garbage collected."""
    cdp.send("HeapProfiler.collectGarbage")
    return metrics(cdp)["JSHeapUsedSize"]


def report_weight(browser: Browser, folder: Path) -> None:
    """Bytes over the wire of each page, without plotly.js and without data."""
    with live_run(folder / "weight", 12, 500) as (server, _, _records):
        for path in ("/", "/runs/live", "/compare?run=live"):
            context = signed_in(browser, server)
            page = context.new_page()
            cdp = context.new_cdp_session(page)
            cdp.send("Network.enable")
            kinds: dict[str, tuple[str, str]] = {}
            sizes: dict[str, float] = {}
            cdp.on(
                "Network.responseReceived",
                lambda e, kinds=kinds: kinds.update({e["requestId"]: (e["type"], e["response"]["url"])}),
            )
            cdp.on(
                "Network.loadingFinished",
                lambda e, sizes=sizes: sizes.update({e["requestId"]: e["encodedDataLength"]}),
            )
            page.goto(server.url + path)
            page.wait_for_load_state("networkidle")
            ours = {
                key: size
                for key, size in sizes.items()
                if kinds[key][0] in ("Document", "Script", "Stylesheet", "Image", "Other")
                and "plotly" not in kinds[key][1]
            }
            plotly = sum(size for key, size in sizes.items() if "plotly" in kinds[key][1])
            print(
                f"{path}: {sum(ours.values()) / 1e3:.0f} kB in {len(ours)} files; plotly.js {plotly / 1e3:.0f} kB"
            )
            context.close()


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["open", "live", "hour", "weight"])
    parser.add_argument("--tensors", type=int, default=1_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if not Assets(find("static")).look().bundled:
        print("The scripts are measured as they stand, not bundled: make bundle")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = args.keep or Path(made)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*CHROMIUM_ARGS, "--enable-precise-memory-info"]
        )
        if "weight" in args.what:
            report_weight(browser, Path(made))
        if "open" in args.what:
            report_open(browser, folder, args.tensors, args.steps)
        if "live" in args.what:
            report_live(browser, Path(made), args.tensors, args.rate, args.seconds)
        if "hour" in args.what:
            report_hour(browser, Path(made), args.tensors)
        browser.close()


if __name__ == "__main__":
    main()
