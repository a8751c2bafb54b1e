"""Pictures of every page in every state, to be looked at with a critical eye: ``python -m tests.e2e.gallery FOLDER [WORD...]``.

Starts a server with seeded runs and takes a picture of each view whose name has one of the words in it (all without any):
desk and phone, light and dark.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from . import stories
from .harness import CHROMIUM_ARGS, Server, until
from .wire import Wire, send

SIZES = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
COST = {"us_per_step": 184.0, "share_of_step": 0.0042, "bytes_per_s": 31_000.0, "queue": 0, "spooled": 0}

Act = Callable[[Page], None]


@dataclass(frozen=True)
class View:
    """One picture: where, and what is done there before it is taken."""

    name: str
    path: str
    act: Act = lambda page: None
    full: bool = False
    desk: bool = False


def painted(page: Page) -> None:
    """Waits for the charts of a run page."""
    page.wait_for_selector("body[data-last-step]", state="attached")
    page.wait_for_selector("#norm path.js-line", state="attached")


def to_culprit(page: Page) -> None:
    """The two clicks."""
    painted(page)
    page.locator(".strip-sentence button").click()
    page.wait_for_timeout(600)
    page.locator("#incident .incident-path button").first.click()
    page.wait_for_timeout(800)


def hover(page: Page) -> None:
    """A pointer over the heat map."""
    painted(page)
    box = page.locator(".heat-overlay").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4)
    page.wait_for_timeout(500)


def press(key: str) -> Act:
    """A key, on a drawn page."""

    def act(page: Page) -> None:
        page.keyboard.press(key)
        page.wait_for_timeout(500)

    return act


def choose_runs(page: Page) -> None:
    """Three runs chosen in the list."""
    for name in ("healthy", "exploding", "clipped-and-scaled"):
        page.locator(f"tr[data-run='{name}']").get_by_role("checkbox").check()


def menu(page: Page) -> None:
    """The menu of a run."""
    page.locator("tr[data-run='exploding'] .c-menu button").click()
    page.wait_for_timeout(200)


def new_rule(page: Page) -> None:
    """The form for a rule."""
    page.get_by_role("button", name="New rule").click()
    page.get_by_role("dialog").wait_for()
    page.wait_for_timeout(600)


def new_channel(page: Page) -> None:
    """The form for a channel."""
    page.get_by_role("button", name="Add a channel").click()
    page.get_by_role("dialog").wait_for()


def edited(page: Page) -> None:
    """Name, tags and notes of a run."""
    menu(page)
    page.get_by_role("menuitem", name="Name, tags and notes").click()
    page.get_by_role("dialog").wait_for()


def clipped(page: Page) -> None:
    """A limit tried, and an alert being set."""
    painted(page)
    page.locator("#whatif").get_by_role("slider").press("ArrowRight")
    page.locator(".whatif-code").wait_for()
    page.locator("#norm").get_by_role("button", name="alert").first.click()
    page.wait_for_timeout(600)


COMPARED = "/compare?run=healthy&run=exploding&run=clipped-and-scaled&run=vanishing"


def views(share: str) -> list[View]:
    """Every picture but those of a server that is gone."""
    return [
        View("runs", "/"),
        View("runs-chosen", "/", choose_runs),
        View("runs-menu", "/", menu),
        View("runs-none", "/?q=nothing+like+it"),
        View("run-live", "/runs/live", painted),
        View("run-healthy", "/runs/healthy", painted, full=True),
        View("run-healthy-hover", "/runs/healthy", hover),
        View("run-exploding", "/runs/exploding", painted, full=True),
        View("run-exploding-culprit", "/runs/exploding", to_culprit, full=True),
        View("run-nan", "/runs/not-a-number", painted),
        View("run-nan-culprit", "/runs/not-a-number", to_culprit),
        View("run-vanishing", "/runs/vanishing", painted),
        View("run-amp", "/runs/clipped-and-scaled", painted, full=True),
        View("run-1000", "/runs/one-thousand", painted),
        View("run-5000", "/runs/five-thousand", painted),
        View("run-short", "/runs/just-begun", painted),
        View(
            "run-norm-colours",
            "/runs/healthy?color=norm&pin=t%3Ablocks.1.attn.qkv.weight&pin=t%3Ablocks.4.mlp.fc2.weight",
            painted,
        ),
        *(
            View(f"run-colour-{c}", f"/runs/clipped-and-scaled?color={c}", painted)
            for c in ("ratio", "zeros", "gain")
        ),
        View("run-keys", "/runs/healthy", press("?")),
        View("run-share", "/runs/healthy", press("s")),
        View("compare", COMPARED, lambda page: page.wait_for_timeout(1500), full=True),
        View("compare-none", "/compare"),
        View("alerts", "/alerts"),
        View("alerts-all", "/alerts?show=all"),
        View("rules", "/rules"),
        View("rules-new", "/rules", new_rule),
        View("runs-edited", "/", edited),
        View("settings-channel", "/settings", new_channel),
        View("run-trials", "/runs/exploding", clipped, full=True),
        View("settings", "/settings", full=True),
        View("help", "/help"),
        View("help-exploding", "/help/exploding"),
        View("error", "/runs/nothing"),
        View("shared", share, painted),
    ]


@contextlib.contextmanager
def furnished(folder: Path) -> Iterator[tuple[Server, str]]:
    """A server with all the stories, one of them live; and a link for a teammate."""
    server = Server(folder)
    server.start()
    try:
        for story in stories.ALL:
            send(server, story())
        live = stories.healthy("live", 4, 900, 7)
        live.end = None
        with Wire(server, live) as wire:
            wire.send(live.records())
            wire.beat(COST)
            until(lambda: incidents(server, "exploding"), "the incident")
            link = post(server, "/shares", {"run": "exploding"})["url"]
            yield server, link
    finally:
        server.stop()


def incidents(server: Server, run: str) -> list[Any]:
    """Of a run."""
    found: list[Any] = server.get(f"/runs/{run}/incidents")["incidents"]
    return found


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    """The API's answer to a script."""
    request = urllib.request.Request(
        f"{server.url}/api/v1{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def context(browser: Browser, server: Server, size: str, theme: Any) -> BrowserContext:
    """A signed-in owner."""
    made = browser.new_context(viewport=SIZES[size], color_scheme=theme)  # type: ignore[arg-type]
    page = made.new_page()
    page.goto(f"{server.url}/#code={server.code()}")
    page.wait_for_selector("body[data-ready]", state="attached")
    page.close()
    return made


def take(made: BrowserContext, server: Server, view: View, target: Path) -> None:
    """One picture. What the page complains about is printed."""
    page = made.new_page()
    page.on(
        "console",
        lambda m: print(f"  {view.name}: {m.type}: {m.text}") if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: print(f"  {view.name}: {error}"))
    page.goto(view.path if view.path.startswith("http") else server.url + view.path)
    page.wait_for_selector("body[data-ready]", state="attached")
    view.act(page)
    page.wait_for_timeout(400)
    page.screenshot(path=target, full_page=view.full)
    page.close()


def gone(made: BrowserContext, server: Server, folder: Path, suffix: str) -> None:
    """What stands on an open page when the server goes."""
    page = made.new_page()
    page.goto(f"{server.url}/runs/live")
    painted(page)
    server.kill()
    page.locator("#connection").wait_for(state="visible")
    page.wait_for_timeout(2500)
    page.screenshot(path=folder / f"run-gone-{suffix}.png")
    page.close()
    server.start()


def main() -> None:
    """Takes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(CHROMIUM_ARGS)
        )
        with furnished(Path(data)) as (server, link):
            for size in args.sizes:
                for theme in args.themes:
                    made = context(browser, server, size, theme)
                    for view in views(link):
                        if view.desk and size == "phone":
                            continue
                        if not args.words or any(word in view.name for word in args.words):
                            take(made, server, view, args.folder / f"{view.name}-{size}-{theme}.png")
                    made.close()
            if not args.words or "gone" in args.words:
                gone(context(browser, server, "desk", "light"), server, args.folder, "desk-light")
        browser.close()


if __name__ == "__main__":
    main()
