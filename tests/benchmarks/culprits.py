"""Clicks to the culprit over all faulty trainings of the zoo: ``python -m tests.benchmarks.culprits [--folder ZOO]``.

Each run is recorded (once), sent to a real server over the real wire, and looked for in a real browser, desk and phone: by the
sentence, and by the heat map alone. Prints one line a run, and the shares.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright
from tests.benchmarks.health import zoo
from tests.e2e.culprits import SIZES, bring, by_heat_map, by_sentence
from tests.e2e.gallery import context
from tests.e2e.harness import CHROMIUM_ARGS, Server


def main() -> None:
    """Prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gradwatch-zoo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="cases with this in their name")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(CHROMIUM_ARGS)
        )
        server = Server(Path(data))
        server.start()
        try:
            pages = {size: context(browser, server, size, "light").new_page() for size in SIZES}
            for case in zoo.faulty(args.seed, args.seed == 0):
                if args.only not in case.name:
                    continue
                culprit = bring(server, case, args.folder)
                if culprit is None:
                    count["nothing open at the end"] += 1
                    print(f"{case.name}: nothing is open at its end", flush=True)
                    continue
                count["runs"] += 1
                for size, page in pages.items():
                    url = f"{server.url}/runs/{culprit.run}"
                    found = by_sentence(page, url, culprit)
                    count[f"{size}: all in view"] += not found.missing
                    count[f"{size}: with one click"] += not found.missing and found.clicks == 1
                    heat = by_heat_map(page, url, culprit) if size == "desk" and case.onset else None
                    if heat is not None:
                        right = not case.layer or case.layer in heat.named
                        near = abs(heat.step - case.onset) <= 2
                        count["by the heat map: tried"] += 1
                        count["by the heat map: the step"] += near
                        count["by the heat map: step and layer"] += near and right
                    told = (
                        ""
                        if heat is None
                        else f"; heat map: {heat.clicks} clicks, {heat.named} at {heat.step}"
                    )
                    print(
                        f"{case.name} {size}: {culprit.tensor or 'whole model'} at {culprit.incident['first_step']},"
                        f" {found.clicks} clicks, missing {found.missing or 'nothing'}{told}",
                        flush=True,
                    )
        finally:
            server.stop()
            browser.close()
    print()
    for label, number in sorted(count.items()):
        print(f"{label}: {number}")


if __name__ == "__main__":
    main()
