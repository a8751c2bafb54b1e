"""No serious finding of axe-core on any page and state, in both themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from . import stories
from .gallery import post
from .harness import Server, Watched, until
from .wire import send

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
CHECK = """async (rules) => (await axe.run({
  resultTypes: ["violations"], preload: false, iframes: false, ...(rules.length ? { runOnly: rules } : {}),
})).violations"""
GRAVE = ("serious", "critical")


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    assert AXE.exists(), "axe-core is not installed: npm ci"
    return AXE.read_text()


@pytest.fixture(scope="session")
def sick(server: Server) -> str:
    """A run with a card to read."""
    run = send(server, stories.exploding("sick", 2, 500, 400))
    send(server, stories.healthy("sick2", 2, 300))
    until(lambda: server.get(f"/runs/{run}/incidents")["incidents"], "the incident")
    return run


def findings(page: Page, axe: str, rules: list[str]) -> list[str]:
    """What axe finds grave by these rules (all when empty), one line each with the first places."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate(CHECK, rules)
    return [
        f"{page.url} {one['id']}: {one['help']}: {[node['target'] for node in one['nodes'][:4]]} {one['nodes'][0].get('failureSummary', '')[:200]}"
        for one in found
        if one["impact"] in GRAVE
    ]


def culprit(page: Page) -> None:
    """The card, the curve and the inspector, all filled."""
    page.locator(".strip-sentence button").click()
    expect(page.locator("#layers .legend li")).to_have_count(1)


def dialog(name: str) -> Callable[[Page], None]:
    """A dialog that a button opens."""

    def act(page: Page) -> None:
        page.get_by_role("button", name=name).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()

    return act


def chosen(page: Page) -> None:
    """A row's menu beside the bar of chosen runs."""
    page.locator("tr[data-run='sick']").get_by_role("checkbox").check()
    page.locator("tr[data-run='sick'] .c-menu button").click()


def nothing(page: Page) -> None:
    """The page as it comes."""


STATES: list[tuple[str, Callable[[Page], None]]] = [
    ("/", nothing),
    ("/", chosen),
    ("/?q=nothing+is+called+so", nothing),
    ("/runs/sick", culprit),
    ("/runs/sick", dialog("Share")),
    ("/runs/sick", dialog("Keys and help")),
    ("/runs/none", nothing),
    ("/compare?run=sick&run=sick2", nothing),
    ("/compare", nothing),
    ("/alerts", nothing),
    ("/rules", nothing),
    ("/rules", dialog("New rule")),
    ("/settings", nothing),
    ("/help", nothing),
    ("/help/exploding", nothing),
]


COLOURFUL = ("/", "/runs/sick", "/rules", "/settings", "/help/exploding")
"""Pages whose colours are looked at in the dark theme too."""


@pytest.mark.parametrize(
    ("theme", "rules"), [("light", []), ("dark", ["color-contrast"])], ids=["light", "dark"]
)
def test_no_grave_finding(
    server: Server, watched: Callable[..., Watched], sick: str, axe: str, theme: str, rules: list[str]
) -> None:
    """All rules in the light theme; in the dark one what depends on colours."""
    link = post(server, "/shares", {"run": sick})["url"]
    browser = watched(server, theme=theme)
    browser.allow("status of 404")
    browser.sign_in().close()
    found = []
    states = [*STATES, (link, culprit)]
    for path, act in states if theme == "light" else [state for state in states if state[0] in COLOURFUL]:
        page = browser.open(path)
        act(page)
        found += findings(page, axe, rules)
        page.close()
    stranger = watched(server, theme=theme)
    stranger.allow("status of 401")
    page = stranger.open("/")
    found += findings(page, axe, rules)
    assert found == []
