"""While answers are awaited the pages show quiet shapes as large as what will come, so that nothing moves when it comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from . import stories
from .harness import Server, Watched, until
from .wire import send

GATE = """(() => {
  let shut, open;
  window.hold = () => (shut = new Promise((resolve) => (open = resolve)));
  window.letGo = () => open();
  hold();
  const ask = window.fetch;
  window.fetch = (...question) => shut.then(() => ask(...question));
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    set onmessage(hear) {
      super.onmessage = (event) => shut.then(() => hear(event));
    }
  };
})()"""
"""Answers reach the page only when the test lets them go."""

SHIFTS = """() => {
  window.shifts = [];
  const name = ({ node }) => node?.id || node?.className || node?.nodeName || "gone";
  new PerformanceObserver((list) => {
    for (const { value, sources } of list.getEntries()) window.shifts.push([value, ...sources.map(name)]);
  }).observe({ type: "layout-shift" });
}"""

SHAPES = """() => [...document.querySelectorAll("[data-loading]")].filter((element) => element.checkVisibility()).flatMap((element) =>
  [element, ...element.querySelectorAll("*")].flatMap((one) => ["::before", "::after"].map((part) => getComputedStyle(one, part))))
  .map(({ animationName }) => animationName).filter((name) => name.startsWith("wait"))"""
"""Animations of the shapes that stand there now."""

Watch = Callable[..., Watched]


@pytest.fixture(scope="module")
def runs(server: Server) -> dict[str, str]:
    """A healthy run, one that went wrong, and one with clipping and a loss scale."""
    told = (
        stories.healthy("awaited", 3, 600),
        stories.exploding("awaited and sick", 3, 800, 600),
        stories.clipped("awaited and scaled", 2, 800),
    )
    ids = [send(server, story) for story in told]
    until(lambda: server.get(f"/runs/{ids[1]}/incidents")["incidents"], "the incident")
    return dict(zip(("healthy", "sick", "scaled"), ids, strict=True))


def held(watched: Watched, path: str) -> Page:
    """A page whose answers are held back. Its scripts have run."""
    watched.context.add_init_script(f"window.hold || {GATE}")
    watched.allow("preloaded using link preload")  # Plotly has to wait too
    return watched.open(path, ready=False)


def let_go(page: Page) -> list[Any]:
    """What moved from the moment in which answers come until all of them are drawn."""
    page.evaluate(SHIFTS)
    page.evaluate("letGo()")
    page.wait_for_selector("body[data-ready]", state="attached")
    expect(page.locator("[data-loading]:visible")).to_have_count(0)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    moved: list[Any] = page.evaluate("window.shifts")
    return moved


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", ["healthy", "sick", "scaled"])
def test_a_run_page_has_its_shape_before_its_numbers(
    server: Server, watched: Watch, runs: dict[str, str], kind: str, phone: bool
) -> None:
    browser = watched(server, phone=phone)
    browser.sign_in().close()
    page = held(browser, f"/runs/{runs[kind]}")
    for part in ("#norm", "#heat", "#loss", "#inspector", "#timeline"):
        expect(page.locator(part)).to_have_attribute("data-loading", "")
    shapes = page.evaluate(SHAPES)
    assert len(shapes) >= 5
    assert set(shapes) == {"wait-in, wait"}
    expect(page.locator("#heat-note")).to_be_hidden()
    assert let_go(page) == []
    expect(page.locator("#heat .heat-cells")).to_be_visible()


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_lists_and_comparisons_too(server: Server, watched: Watch, runs: dict[str, str], phone: bool) -> None:
    browser = watched(server, phone=phone)
    browser.sign_in().close()
    for path, part, there in (
        ("/", "#runs", "tr[data-run]"),
        (f"/compare?run={runs['healthy']}&run={runs['sick']}", "#compared", "#verdict td"),
    ):
        page = held(browser, path)
        expect(page.locator(part)).to_have_attribute("data-loading", "")
        assert set(page.evaluate(SHAPES)) == {"wait-in, wait"}
        assert let_go(page) == []
        expect(page.locator(there).first).to_be_visible()


def test_shapes_stand_still_for_those_who_ask_for_it(
    server: Server, owner: Watched, runs: dict[str, str]
) -> None:
    page = held(owner, f"/runs/{runs['healthy']}")
    page.emulate_media(reduced_motion="reduce")
    assert set(page.evaluate(SHAPES)) == {"wait-in"}


def test_a_long_question_dims_what_is_of_before(server: Server, owner: Watched, runs: dict[str, str]) -> None:
    page = held(owner, f"/runs/{runs['healthy']}")
    let_go(page)
    page.wait_for_selector("#norm path.js-line", state="attached")
    page.evaluate("void hold()")
    page.locator(".timeline-plot").focus()
    page.get_by_role("button", name="200", exact=True).click()
    expect(page.locator("#busy")).to_be_visible()
    expect(page.locator("#run")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".heat-cells")).to_have_css("opacity", "0.4")
    page.evaluate("letGo()")
    expect(page.locator("#busy")).to_be_hidden()
    expect(page.locator("#run")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".heat-cells")).to_have_css("opacity", "1")


def test_a_run_without_steps_awaits_none(server: Server, owner: Watched) -> None:
    story = stories.healthy("not begun", 1, 0)
    page = owner.open(f"/runs/{send(server, story)}")
    expect(page.locator("#heat-note")).to_have_text("Waiting for the first steps.")
    expect(page.locator("[data-loading]:visible")).to_have_count(0)
    expect(page.locator("#strip")).to_have_text(re.compile("before its first step"))
