"""Signing in, the runs list, and the pages around it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import expect

from . import stories
from .harness import Server, Trainer, Watched
from .wire import send

StartTrainer = Callable[[Server, str], Trainer]
Watch = Callable[..., Watched]


def row(trainer: Trainer) -> str:
    """Selector of a run's row."""
    return f"tr[data-run='{trainer.run_id}']"


def test_a_printed_link_opens_the_dashboard_once(server: Server, watched: Watch) -> None:
    link = f"/#code={server.code()}"
    first, second = watched(server), watched(server)
    for browser in (first, second):
        browser.allow("status of 401")
    page = first.open(link)
    expect(page.get_by_role("link", name="Runs", exact=True)).to_have_attribute("aria-current", "page")
    assert "code" not in page.url, "the code is gone from the address"
    refused = second.open(link)
    expect(refused.get_by_role("alert")).to_contain_text("used already")
    expect(refused.locator("#explain")).to_contain_text("gradwatch open")
    assert "code" not in refused.url


def test_a_page_is_a_handful_of_files(owner: Watched, training: Trainer) -> None:
    """What people get is what the other tests drive: the bundle, one script for a page."""
    page = owner.open(f"/runs/{training.run_id}")
    scripts = page.evaluate("""() => performance.getEntriesByType("resource")
        .filter(({ initiatorType, name }) => name.endsWith(".js") && !name.includes("plotly"))
        .map(({ name }) => name.replace(/^.*\\/static\\/\\w+\\//, ""))""")
    assert sorted(scripts) == ["dist/js/early.js", "dist/js/pages/run.js"], "not bundled: make bundle"


def test_an_empty_list_teaches(own_server: Server, watched: Watch) -> None:
    page = watched(own_server).sign_in()
    expect(page.locator("#empty")).to_contain_text("gradwatch.watch(model")
    expect(page.locator("#empty")).to_contain_text("gradwatch demo")
    expect(page.locator("#runs")).to_be_hidden()


def test_the_list_is_live(owner: Watched, training: Trainer) -> None:
    page = owner.open("/")
    line = page.locator(row(training))
    expect(line.locator(".chip")).to_have_text("running")
    expect(line.locator(".c-norm .num")).not_to_be_empty()
    expect(line.locator(".c-norm .spark-line")).to_have_attribute("d", re.compile("^M.*L"))
    before = line.locator(".c-step").inner_text()
    expect(line.locator(".c-step")).not_to_have_text(before)


def test_filters_stand_in_the_address(owner: Watched, training: Trainer) -> None:
    page = owner.open("/")
    page.get_by_role("searchbox").fill(training.name)
    page.wait_for_url(f"**/?q={training.name}")
    expect(page.locator(row(training))).to_be_visible()
    page.get_by_label("State", exact=True).select_option("killed")
    expect(page.locator("#none")).to_be_visible()
    assert page.url.endswith(f"/?q={training.name}&state=killed")
    page.go_back()
    expect(page.locator(row(training))).to_be_visible()
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value(training.name)
    expect(page.locator("tr[data-run]")).to_have_count(1)


def test_runs_are_found_by_who_started_them(owner: Watched, training: Trainer) -> None:
    page = owner.open("/")
    expect(page.locator(row(training)).locator(".run-who")).to_have_text("ann")
    page.get_by_role("searchbox").fill("who:bob")
    expect(page.locator("#none")).to_be_visible()
    page.get_by_role("searchbox").fill("who:ann")
    expect(page.locator(row(training))).to_be_visible()
    page = owner.open(f"/runs/{training.run_id}")
    expect(page.get_by_role("region", name="About this run")).to_contain_text(re.compile("by\\s*ann"))


def test_a_run_ends_gets_a_name_is_compared_and_goes(
    server: Server, owner: Watched, training: Trainer, train: StartTrainer
) -> None:
    page, other = owner.open("/"), owner.open("/")
    trainer = train(server, "short")
    line = page.locator(row(trainer))
    expect(line.locator(".chip")).to_have_text("running")
    trainer.finish()
    expect(line.locator(".chip")).to_have_text("finished")
    line.locator(".c-menu button").click()
    page.get_by_role("menuitem", name="Name, tags and notes").click()
    page.get_by_label("Name", exact=True).fill("<b>renamed</b> & kept")
    page.get_by_label("Tags", exact=True).fill("paper, baseline")
    page.get_by_role("button", name="Save").click()
    for each in (page, other):
        expect(each.locator(row(trainer)).locator(".run-name")).to_have_text("<b>renamed</b> & kept")
        expect(each.locator(row(trainer)).locator(".tag")).to_have_text(["paper", "baseline"])
    compare(owner, [trainer, training])
    line.locator(".c-menu button").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(line).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(line).to_be_visible()
    line.locator(".c-menu button").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.goto("about:blank")
    expect(other.locator(row(trainer))).to_have_count(0)


def compare(owner: Watched, trainers: list[Trainer]) -> None:
    """Chooses the runs in the list and looks at them side by side."""
    page = owner.open("/")
    for trainer in trainers:
        page.locator(row(trainer)).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("body[data-drawn]", state="attached")
    expect(page.locator("#verdict thead .compare-name")).to_have_count(len(trainers))
    expect(page.locator("#norm path.js-line")).not_to_have_count(0)
    page.close()


def test_the_comparison_tells_the_exact_step_of_one_nan_in_a_long_run(owner: Watched, server: Server) -> None:
    calm, story = (
        stories.healthy("fifteen thousand", 1, 15_000),
        stories.healthy("one bad step", 1, 15_000, 2),
    )
    norms, whole = story.series[0].values, story.series[1].values
    norms[13_337, 4] = whole[13_337] = np.nan
    page = owner.open(f"/compare?run={send(server, calm)}&run={send(server, story)}")
    line = page.locator("#verdict tr", has=page.get_by_role("rowheader", name="First NaN or Inf"))
    expect(line.get_by_role("cell")).to_have_text(["none", "step 13,337"])


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_no_page_scrolls_sideways(server: Server, owner: Watched, training: Trainer, phone: bool) -> None:
    owner.allow("status of 404")
    page = owner.open("/")
    page.set_viewport_size({"width": 390, "height": 844} if phone else {"width": 1440, "height": 900})
    run = training.run_id
    for path in (
        "/",
        "/alerts",
        "/rules",
        "/settings",
        "/help",
        f"/compare?run={run}",
        f"/runs/{run}",
        "/runs/none",
    ):
        page.goto(server.url + path)
        page.wait_for_selector("body[data-ready]", state="attached")
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, f"{path} is {overflow} px too wide"


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_a_menu_at_the_edge_stays_on_the_page(
    server: Server, watched: Watch, training: Trainer, phone: bool
) -> None:
    page = watched(server, phone=phone).sign_in()
    page.locator(row(training)).locator(".c-menu button").click()
    box = page.get_by_role("menu").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.evaluate("document.documentElement.getBoundingClientRect().right")


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_menus_of_charts_stand_in_the_upper_right_corner(
    server: Server, watched: Watch, training: Trainer, phone: bool
) -> None:
    page = watched(server, phone=phone).sign_in(f"/runs/{training.run_id}")
    page.wait_for_selector("body[data-ready]", state="attached")
    for panel in ("#norm", "#heat", "#loss"):
        box, menu = (page.locator(part).bounding_box() for part in (panel, f"{panel} .chart-menu"))
        assert box is not None
        assert menu is not None
        assert box["x"] + box["width"] - menu["x"] - menu["width"] <= 14, panel
        assert 0 <= menu["y"] - box["y"] <= 14, panel
