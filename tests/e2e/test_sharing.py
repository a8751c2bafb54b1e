"""Links as their makers and their viewers see them."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .harness import Watched
from .stage import Stage, staged

Watch = Callable[..., Watched]
ICON = '<!doctype html><link rel=icon href="data:,">'


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("sharing")) as made:
        made.run("one", name="baseline", project="digits", spikes=(150,))
        made.run("two", name="warm-up", project="digits", spikes=(80, 200))
        yield made


def make_link(page: Page) -> str:
    """The link that the open dialog makes."""
    page.get_by_role("button", name="Make link").click()
    return page.get_by_label("The link", exact=True).input_value()


def test_a_comparison_is_shared_as_it_is_seen(stage: Stage, watched: Watch) -> None:
    owner = watched(stage)
    owner.sign_in().close()
    page = owner.open("/compare?run=one&run=two")
    page.get_by_role("button", name="By time").click()
    page.get_by_role("button", name="Share").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("sees these 2 runs")
    link = make_link(page)
    expect(dialog.locator(".share-made")).to_contain_text("Only this computer can open this link.")
    expect(dialog.locator(".share-ways pre")).to_have_count(2)
    expect(dialog.locator(".share-list")).to_contain_text("comparison of 2 runs")
    overflow = dialog.locator(".dialog-body").evaluate("box => box.scrollWidth - box.clientWidth")
    assert overflow <= 0
    seen = watched(stage, phone=True).open(link)
    expect(seen.get_by_role("button", name="By time")).to_have_attribute("aria-pressed", "true")
    expect(seen.locator("#verdict thead .compare-name")).to_have_text(["baseline", "warm-up"])
    expect(seen.locator("#verdict a, #legend a, #share, nav")).to_have_count(0)
    seen.wait_for_selector("body[data-drawn]", state="attached")
    expect(seen.locator("#norm path.js-line")).not_to_have_count(0)
    assert seen.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    seen.get_by_role("button", name="By step").click()
    seen.reload()
    expect(seen.get_by_role("button", name="By step")).to_have_attribute("aria-pressed", "true")


def test_a_private_setting_has_a_lock_and_is_not_on_the_links_page(stage: Stage, watched: Watch) -> None:
    owner = watched(stage)
    owner.sign_in().close()
    page = owner.open("/runs/one")
    configuration = page.get_by_role("region", name="Configuration")
    locks = configuration.get_by_role("img", name="Private: share links don't show this")
    expect(locks).to_have_count(3)
    expect(configuration.locator("dt:has(.lock)")).to_have_text(["data.shards", "cache", "api_key"])
    page.get_by_role("button", name="Share").click()
    seen = watched(stage).open(make_link(page))
    expect(seen.get_by_role("region", name="Configuration").locator("dt")).to_have_text(["lr", "data.seed"])
    expect(seen.locator(".lock")).to_have_count(0)


def test_a_moment_keeps_range_layer_step_and_theme(stage: Stage, watched: Watch) -> None:
    owner = watched(stage, theme="dark")
    owner.sign_in().close()
    page = owner.open("/runs/one?from=100&to=200&at=150&layer=t:blocks.1.attn.qkv.weight&color=norm")
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("button", name="This moment")).to_have_attribute("aria-pressed", "true")
    moment = make_link(page)
    page.get_by_role("button", name="Live", exact=True).click()
    make_link(page)
    made = page.get_by_label("The link", exact=True)
    expect(made).not_to_have_value(moment)
    live = made.input_value()
    browser = watched(stage, theme="light")
    seen = browser.open(moment)
    expect(seen.locator("html")).to_have_attribute("data-theme", "dark")
    expect(seen.locator("#readout")).to_contain_text("150")
    expect(seen.locator("#layers")).to_be_visible()
    expect(seen.locator("[data-colouring=norm]")).to_have_attribute("aria-pressed", "true")
    following = browser.open(live)
    expect(following.locator("html")).to_have_attribute("data-theme", "light")
    expect(following.locator("[data-colouring=deviation]")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not allowed"])
def test_a_link_shows_in_a_frame_of_another_page_where_that_is_allowed(
    tmp_path: Path, watched: Watch, allowed: bool
) -> None:
    with contextlib.ExitStack() as stack:
        origin, write = stack.enter_context(notebook())
        ancestors = f"'self' {origin}" if allowed else "'self'"
        stage = stack.enter_context(staged(tmp_path, frame_ancestors=ancestors))
        stage.run("one", name="baseline", project="digits")
        made = stage.ask("POST", "/shares", {"run": "one"})
        write(ICON)
        browser = watched(stage)
        if not allowed:
            browser.allow("frame-ancestors")
        page = browser.open(origin, ready=False)
        write(f'{ICON}<iframe src="{made["url"]}"></iframe>')
        if allowed:
            page.goto(origin)
            frame = page.frame_locator("iframe")
            expect(frame.locator("#run-name")).to_have_text("baseline")
            expect(frame.locator("body[data-ready]")).to_have_count(1)
        else:
            with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
                page.goto(origin)
            expect(page.frame_locator("iframe").locator("#run-name")).to_have_count(0)


@contextlib.contextmanager
def notebook() -> Iterator[tuple[str, Callable[[str], None]]]:
    """Another server with one page: its origin, and what sets the page."""
    text = [b""]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text[0])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", lambda page: text.__setitem__(0, page.encode())
        finally:
            server.shutdown()
            thread.join()
