"""Rules and alerts as somebody on call meets them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.server.live_server import Trainer, hello

from .harness import Watched
from .stage import LAYERS, Stage, numbers, schema_of, staged

Watch = Callable[..., Watched]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("alerting")) as made:
        made.run("calm", name="calm", project="digits")
        made.run("spiky", name="spiky", project="digits", spikes=(80, 200))
        yield made


@pytest.fixture
def owner(stage: Stage, watched: Watch) -> Watched:
    made = watched(stage)
    made.sign_in().close()
    return made


def test_a_draft_says_and_shows_when_it_would_have_fired(owner: Watched) -> None:
    owner.allow("status of 422")  # Chromium tells of each refused back-test
    page, list_page = owner.open("/runs/spiky"), owner.open("/rules")
    page.wait_for_selector("#norm path.js-line", state="attached")
    page.keyboard.press("a")
    form = page.get_by_role("form", name="New alert")
    form.get_by_label("Threshold").fill("12")
    told = form.get_by_role("status")
    expect(told).to_contain_text("Would have fired 2 times in this run (steps 80, 200)")
    expect(told).to_contain_text("and not in your last healthy run.")
    plot = page.locator("#norm .chart-plot")
    expect(plot).to_have_attribute("data-fired", "80 200")
    form.get_by_label("Threshold").fill("5000")
    expect(told).to_contain_text("Would not have fired in this run")
    expect(plot).not_to_have_attribute("data-fired", re.compile(".*"))
    form.get_by_role("button", name=re.compile("Use .* which this run suggests")).click()
    expect(form.get_by_label("Threshold")).not_to_have_value("5000")
    form.get_by_label("Threshold").fill("12")
    form.get_by_role("button", name="Set alert").click()
    expect(page.locator("#norm .handle", has_text="> 12")).to_be_visible()
    expect(list_page.locator(".rule", has_text="Global norm above 12")).to_be_visible()
    list_page.locator(".rule", has_text="Global norm above 12").get_by_role("button", name="Edit").click()
    dialog = list_page.get_by_role("dialog")
    dialog.get_by_label("Threshold").fill("twelve")
    expect(dialog.locator("[data-field=threshold] .error")).to_be_visible()
    dialog.get_by_label("Threshold").fill("13")
    dialog.get_by_role("button", name="Save").click()
    expect(list_page.locator("#toasts")).to_contain_text("It starts anew")
    expect(page.locator("#norm .handle", has_text="> 13")).to_be_visible()


def test_an_alert_is_live_elsewhere_seen_muted_and_cleared(stage: Stage, owner: Watched) -> None:
    rule = {"statistic": "global_grad_norm", "threshold": 12, "recover_steps": 1, "name": "hot"}
    stage.ask("POST", "/rules", {**rule, "project": "live"})
    page, other = owner.open("/alerts"), owner.open("/alerts")
    with Trainer(stage.running, hello("now", name="now", project="live")) as trainer:
        trainer.send(schema_of(LAYERS), numbers(1, 0, 100, len(LAYERS), spikes=(99,)))
        trainer.wait_acked(2)
        for each in (page, other):
            expect(each.locator(".alert", has_text="hot")).to_contain_text("since step 99")
        acknowledge(page)
        expect(other.locator(".alert-note")).to_have_text("a bad batch")
        page.get_by_role("button", name="Mute").click()
        page.get_by_role("menuitem", name="for 8 hours").click()
        for each in (page, other):
            expect(each.get_by_role("button", name="unmute")).to_contain_text("Muted for")
        other.get_by_role("button", name="unmute").click()
        expect(page.get_by_role("button", name="Mute", exact=True)).to_be_visible()
        trainer.send(numbers(2, 100, 20, len(LAYERS)))
        trainer.wait_acked(3)
        for each in (page, other):
            expect(each.locator(".alert")).to_have_count(0)
    page.get_by_role("button", name="All").click()
    past = page.locator(".alert", has_text="hot")
    expect(past).to_contain_text("Cleared at step 100")
    past.locator("a").click()
    page.wait_for_url("**/runs/now?*alert=*")
    expect(page.locator("#alerts .alert[aria-current=true]")).to_contain_text("hot")


def test_the_settings_tell_who_changed_what(stage: Stage, owner: Watched) -> None:
    rule = stage.ask("POST", "/rules", {"statistic": "loss", "threshold": 99})["rule"]
    stage.ask("DELETE", f"/rules/{rule['id']}")
    page = owner.open("/settings")
    changes = page.get_by_role("list", name="Changes").get_by_role("listitem")
    expect(changes.nth(0)).to_contain_text("removed a rule")
    expect(changes.nth(0)).to_contain_text(rule["id"])
    expect(changes.nth(1)).to_contain_text("made a rule")
    expect(changes.nth(0)).to_contain_text("with the server's token, from 127.0.0.1")


def acknowledge(page: Page) -> None:
    """Marks the alert as seen, with a note."""
    page.get_by_role("button", name="Mark as seen").click()
    page.get_by_label("Note").fill("a bad batch")
    page.get_by_role("dialog").get_by_role("button", name="Mark as seen").click()
