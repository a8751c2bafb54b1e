"""Nothing on a live run page moves by itself: not while numbers stream, nor when an incident opens and ends, nor when the server
goes and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from gradwatch.protocol import Record

from . import stories
from .harness import Server, Watched, wait_for_step
from .wire import Wire

LANDMARKS = ("#strip", "#timeline", "#norm", "#heat", "#loss", "#below", "#inspector", "#incident")

CARD_MAY = 0.01
"""Most of all shifts of lines within the card, as the browser adds them up."""

SHIFTS = """() => {
  window.shifts = [];
  const name = (node) => (node?.closest?.(".incident-body") ? "card" : node?.id || node?.className || node?.nodeName || "gone");
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      window.shifts.push({ value: entry.value, input: entry.hadRecentInput, what: entry.sources.map(({ node }) => name(node)) });
    }
  }).observe({ type: "layout-shift" });
}"""


def _troubled(name: str) -> stories.Story:
    """Healthy for 600 steps, then one layer explodes for 160 and comes back."""
    story = stories.healthy(name, 3, 1_200, 11)
    norms = story.series[0].values
    burst = np.zeros(len(norms))
    burst[600:760] = np.minimum(np.linspace(1, 16, 160), 8)
    norms[:, 12:24] *= np.exp(burst)[:, None]
    story.series[1].values[:] = np.sqrt(np.square(norms).sum(axis=1))[:, None]
    story.series[2].values[600:760] *= np.exp(np.minimum(np.linspace(0, 8, 160), 4))[:, None]
    story.end, story.marks = None, ()
    return story


def _send(wire: Wire, records: Iterator[Record], count: int, page: Page) -> None:
    """So many batches, each seen on the page before the next."""
    for record in islice(records, count):
        wire.send([record])
        wire.beat(
            {"us_per_step": 180.0, "share_of_step": 0.004, "bytes_per_s": 3e4, "queue": 0, "spooled": 0}
        )
        page.wait_for_timeout(60)


def _boxes(page: Page) -> dict[str, Any]:
    """Where the landmarks begin; the card may end lower than before, nothing may begin elsewhere."""
    return {
        mark: [round(box["x"]), round(box["y"])]
        for mark in LANDMARKS
        if (box := page.locator(mark).bounding_box()) is not None
    }


def _said(page: Page) -> list[str]:
    """What the card says, but for its curves: they go on in their place until the steps after the incident are in them."""
    return page.locator(".incident-body > :not(.incident-curves)").all_inner_texts()


def _card_stands_still(page: Page, wire: Wire, records: Iterator[Record]) -> None:
    """Under a moving pointer nothing of the card changes; afterwards only what changed is another, and not the curves.

    The pointer moves before and after each thing that takes time: one that rests for four seconds no longer holds the card.
    """
    card = page.locator("#incident")
    expect(card.locator(".incident-curve")).to_have_count(3)
    page.evaluate(
        "document.querySelectorAll('.incident-body > *').forEach((node) => (node.dataset.seen = 1))"
    )
    title = card.locator(".incident-title")
    title.hover(position={"x": 5, "y": 5})
    said = _said(page)
    title.hover(position={"x": 9, "y": 5})
    _send(wire, records, 1, page)
    title.hover(position={"x": 5, "y": 5})
    assert said == _said(page)
    page.mouse.move(700, 400)
    expect(card.locator(".incident-curves")).to_have_attribute("data-seen", "1")


@pytest.mark.slow
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_nothing_moves_while_a_run_is_live(
    own_server: Server, watched: Callable[..., Watched], phone: bool
) -> None:
    browser = watched(own_server, phone=phone)
    browser.sign_in().close()
    browser.allow("WebSocket|ERR_CONNECTION|Failed to load resource")
    story = _troubled("troubled")
    records = story.records()
    with Wire(own_server, story) as wire:
        wire.send(islice(records, 9))
        page = browser.open(f"/runs/{story.run_id}")
        page.wait_for_selector("body[data-charts]", state="attached")
        wait_for_step(page, 390)
        page.evaluate(SHIFTS)
        stood = _boxes(page)
        _send(wire, records, 5, page)  # to step 649
        expect(page.locator("#strip")).to_have_attribute("data-tone", "critical")
        expect(page.locator("#incident")).to_have_attribute("data-tone", "critical")
        assert _boxes(page) == stood
        if not phone:
            _card_stands_still(page, wire, records)
        _send(wire, records, 10 if not phone else 11, page)  # to step 1,199
        wait_for_step(page, 1_190)
        expect(page.locator("#strip")).to_have_attribute("data-tone", "ok")
        assert _boxes(page) == stood
    own_server.kill()
    expect(page.locator("#connection")).to_be_visible()
    expect(page.locator("#strip .strip-state")).to_have_text("Not live")
    expect(page.locator("#run")).to_have_attribute("data-stale", "")
    expect(page.locator(".header .dot")).not_to_have_attribute("data-tone", "live")
    own_server.start()
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator("#strip .strip-state")).not_to_have_text("Not live")
    expect(page.locator("#run")).not_to_have_attribute("data-stale", "")
    assert _boxes(page) == stood
    shifts = [one for one in page.evaluate("window.shifts") if not one["input"]]
    # A card that learns more grows within its own place; nothing else moves by a single pixel.
    assert [one for one in shifts if set(one["what"]) != {"card"}] == []
    assert sum(one["value"] for one in shifts) < CARD_MAY
