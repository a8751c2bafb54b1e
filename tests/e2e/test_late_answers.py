"""Answers that come late, when something else has been asked for since."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from . import stories
from .harness import Server, Watched, frames
from .wire import send

LINES = "() => [...document.querySelectorAll('#norm path.js-line')].map((path) => path.getAttribute('d'))"
"""The curves of the norm, as drawn."""

ANSWERED = """([part, count]) =>
  performance.getEntriesByType("resource").filter(({ name, responseEnd }) => name.includes(part) && responseEnd > 0).length >= count"""


@pytest.fixture(scope="module")
def compared(server: Server) -> tuple[str, str]:
    """Two runs of different length, each with its own pace."""
    told = (stories.healthy("late short", 1, 400, 5), stories.healthy("late long", 1, 900, 6))
    first, second = (send(server, story) for story in told)
    return first, second


class Held:
    """Questions that match get no answer until they are let go."""

    def __init__(self, owner: Watched, pattern: str) -> None:
        self.waiting: list[Route] = []
        self._shut = True
        owner.context.route(pattern, self._asked)

    def _asked(self, route: Route) -> None:
        if self._shut:
            self.waiting.append(route)
        else:
            route.continue_()

    def let_go(self, page: Page) -> None:
        """Returns when the page has done what it does with the answers."""
        self._shut = False
        for route in self.waiting:
            route.continue_()
            if answer := route.request.response():
                answer.finished()
        assert self.waiting, "nothing was held back"
        frames(page)


def drawn(owner: Watched, address: str) -> list[str]:
    """The curves of a comparison that nothing disturbs."""
    page = owner.open(address)
    page.wait_for_selector("body[data-drawn]", state="attached")
    frames(page)
    lines: list[str] = page.evaluate(LINES)
    page.close()
    return lines


def test_an_axis_changed_while_runs_load_is_that_of_all(owner: Watched, compared: tuple[str, str]) -> None:
    first, second = compared
    address = f"/compare?run={first}&run={second}"
    expected = drawn(owner, f"{address}&x=time")
    held = Held(owner, f"**/runs/{second}/series?*")
    page = owner.open(address, ready=False)
    page.wait_for_function(ANSWERED, arg=[f"/runs/{first}/series", 2])
    frames(page)
    page.get_by_role("button", name="By time").click()
    held.let_go(page)
    page.wait_for_selector("body[data-drawn]", state="attached")
    frames(page)
    assert page.evaluate(LINES) == expected


def test_an_axis_chosen_and_taken_back_leaves_no_trace(owner: Watched, compared: tuple[str, str]) -> None:
    first, second = compared
    page = owner.open(f"/compare?run={first}&run={second}")
    page.wait_for_selector("body[data-drawn]", state="attached")
    frames(page)
    steps = page.evaluate(LINES)
    held = Held(owner, f"**/runs/{second}/values?*")
    with page.expect_request(f"**/runs/{second}/values?*"):
        page.get_by_role("button", name="By time").click()
    page.get_by_role("button", name="By step").click()
    held.let_go(page)
    assert page.evaluate(LINES) == steps


def test_a_hidden_trial_of_clipping_stays_hidden(owner: Watched, compared: tuple[str, str]) -> None:
    page = owner.open(f"/runs/{compared[0]}")
    panel = page.locator("#whatif")
    slider = panel.get_by_role("slider")
    slider.press("ArrowRight")
    expect(panel.locator(".whatif-code")).to_be_visible()
    held = Held(owner, "**/what-if?*")
    with page.expect_request("**/what-if?*"):
        slider.press("ArrowRight")
    panel.get_by_role("button", name="Hide").click()
    held.let_go(page)
    expect(panel.get_by_role("status")).to_have_text("Move the slider to try a limit.")
    expect(panel.locator(".whatif-code")).to_be_hidden()
