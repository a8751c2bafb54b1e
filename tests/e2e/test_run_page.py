"""The run page over runs that were made elsewhere: what it says, where it leads, and what keys and addresses do."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from . import stories
from .harness import Server, Watched, frames, until
from .wire import Wire, send


@pytest.fixture(scope="session")
def exploding(server: Server) -> str:
    """A run whose blocks.3.mlp.fc2 goes wrong near step 600."""
    run = send(server, stories.exploding("explodes", steps=800, at=600))
    until(lambda: server.get(f"/runs/{run}/incidents")["incidents"], "the incident")
    return run


@pytest.fixture(scope="session")
def calm(server: Server) -> str:
    """A healthy run of 51 tensors."""
    return send(server, stories.healthy("calm", 4, 600))


def drawn(owner: Watched, run: str, query: str = "") -> Page:
    """The run's page with its charts."""
    page = owner.open(f"/runs/{run}{query}")
    page.wait_for_selector("#norm path.js-line", state="attached")
    return page


def test_a_calm_run_says_what_is_least_calm_and_what_to_follow(owner: Watched, calm: str) -> None:
    page = drawn(owner, calm)
    rows = page.locator("#unusual li:visible")
    expect(rows).to_have_count(5)
    expect(rows.first.locator(".number").first).to_have_text(re.compile(r"^[+\u2212]\d+\.\d$"))
    chips = page.locator("#suggest button")
    expect(chips.first).to_be_visible()
    chips.last.click()
    expect(page.locator("#layers .legend li")).to_have_count(1)
    expect(page.locator("#layers path.js-line")).not_to_have_count(0)
    expect(page.locator("#suggest")).to_be_hidden()
    page.wait_for_url("**pin=t:*")


def test_the_step_inspector_tells_gains(owner: Watched, calm: str) -> None:
    page = drawn(owner, calm)
    expect(page.locator("#inspector .gain")).to_have_text(
        re.compile(r"Toward the input ×[\d.]+ per layer; largest jump ×")
    )


def test_the_step_inspector_asks_again_while_nothing_comes(owner: Watched, server: Server) -> None:
    owner.allow("status of 503")
    story = stories.healthy("patient", 2, 300)
    story.end = None
    refusal = {"status": 503, "json": {"error": {"code": "busy", "message": "Come back later."}}}
    nothing = {"json": {"steps": [], "times": [], "values": []}}
    answers = [nothing]

    def answer(route: Route) -> None:
        if "from=299" not in route.request.url or not (held or answers):
            route.continue_()
        else:
            route.fulfill(**(refusal if held else answers.pop()))

    held = True
    owner.context.route("**/patient/values?*", answer)
    with Wire(server, story) as wire:
        wire.send(story.records())
        page = drawn(owner, story.run_id)
        where = page.locator("#inspector .panel-head .push")
        expect(where).to_have_text("Come back later.")
        page.evaluate("dispatchEvent(new Event('resize'))")
        frames(page)
        expect(where).to_have_text("Come back later.")
        held = False
        expect(page.locator("#inspector .inspector-rows li")).to_have_count(5)
        expect(where).to_have_text("newest")
    assert answers == []


def test_the_depth_profile_shows_who_is_outside_its_normal_range(
    owner: Watched, exploding: str, calm: str
) -> None:
    page = drawn(owner, calm)
    expect(page.locator("#scale")).to_be_hidden()
    expect(page.locator("#inspector")).to_contain_text(
        re.compile(r"Norm from input to output: (all 51 as usual|\d of 51 unusual)")
    )
    page = drawn(owner, exploding)
    page.locator(".strip-sentence button").click()
    expect(page.locator("#inspector")).to_contain_text(
        re.compile(r"Norm from input to output: \d+ of 75 unusual")
    )
    label = "document.querySelector('#inspector canvas').getAttribute('aria-label')"
    assert "75 layers" in page.evaluate(label)


def test_a_run_that_was_never_normal_says_so_and_sets_its_layers_against_each_other(
    owner: Watched, server: Server
) -> None:
    story = stories.healthy("never normal", 3, 600)
    norms = story.series[0].values
    norms *= 10.0 ** (-8 * np.linspace(1, 0, norms.shape[1]))
    story.series[1].values[:] = np.sqrt(np.square(norms).sum(axis=1))[:, None]
    story.series[2].values[:] = 2.3
    run = send(server, story)
    until(lambda: server.get(f"/runs/{run}/incidents")["incidents"], "the incident")
    page = drawn(owner, run)
    expect(page.locator("#inspector")).to_contain_text("This run was never normal: it went wrong at step 0.")
    expect(page.locator("#inspector")).to_contain_text(
        re.compile(r"Norm from input to output: (all 39 alike|\d+ of 39 unlike the others)")
    )


def test_an_alert_begins_with_what_was_usual_before_the_run_exploded(owner: Watched, exploding: str) -> None:
    page = drawn(owner, exploding)
    page.locator("#norm .handle.add").click()
    typed = float(page.locator("#norm .handle-form input").first.input_value())
    assert 0.1 < typed < 10
    page.get_by_label("Clip by norm at").fill("60")
    expect(page.locator("#whatif .whatif-result")).to_have_text(re.compile(r"Suggested: 0?\.\d+\.$"))


def test_a_long_sentence_pushes_nothing_out_of_the_page(owner: Watched, calm: str) -> None:
    page = drawn(owner, calm)
    page.locator(".strip-sentence").evaluate(
        "(said) => (said.textContent = 'Went wrong on the way. '.repeat(40))"
    )
    gap = (
        "document.documentElement.clientWidth - document.querySelector('.rail').getBoundingClientRect().right"
    )
    assert page.evaluate(gap) >= 8


def test_a_heat_map_that_gets_another_size_is_never_seen_empty(owner: Watched, calm: str) -> None:
    owner.allow("willReadFrequently")
    page = drawn(owner, calm)
    page.evaluate("""() => {
        window.inked = [];
        const cells = document.querySelector('.heat-cells');
        const look = () => inked.push(cells.getContext('2d').getImageData(0, 0, cells.width, 1).data.some((part, i) => i % 4 === 3 && part > 0));
        new ResizeObserver(look).observe(document.querySelector('.heat-body'));
    }""")
    page.wait_for_function("() => window.inked.length === 1")
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_function("() => window.inked.length >= 2")
    assert all(page.evaluate("window.inked"))


def test_what_asks_to_show_all_covers_nothing_at_the_end_of_the_card(owner: Watched, exploding: str) -> None:
    page = drawn(owner, exploding)
    expect(page.locator("#slot")).to_have_attribute("data-held", "card")
    page.locator("#slot").evaluate("(slot) => (slot.style.height = '300px')")
    page.locator("#incident").evaluate("(card) => (card.style.height = `${card.offsetHeight + 2}px`)")
    more = page.get_by_role("button", name="Show all", exact=True)
    expect(more).to_be_visible()
    page.locator("#slot").evaluate("(slot) => slot.scrollTo(0, slot.scrollHeight)")
    end = page.get_by_role("link", name="What this means").bounding_box()
    button = more.bounding_box()
    assert end is not None and button is not None
    assert end["y"] + end["height"] <= button["y"]
    more.click()
    expect(more).to_be_hidden()


def test_rarer_colours_are_kept_in_the_address_and_what_is_not_sampled_stays_empty(
    owner: Watched, server: Server
) -> None:
    run = send(server, stories.clipped("sampled", 2, 400))
    page = drawn(owner, run, "?color=zeros&from=100&to=200")
    expect(page.locator("#scale")).to_contain_text("scale65,536step")
    painted_share = """() => {
        const {width, height} = document.querySelector('.heat-cells');
        const pixels = document.querySelector('.heat-cells').getContext('2d').getImageData(0, 0, width, 1).data;
        let seen = 0;
        for (let x = 0; x < width; x += 1) seen += pixels[4 * x + 3] > 0;
        return seen / width;
    }"""
    until(lambda: 0.03 < page.evaluate(painted_share) < 0.07, "one column in twenty")
    expect(page.locator("#heat-key")).to_contain_text("gradients of zero0 %100 %")
    expect(page.locator("#heat-note")).to_be_hidden()
    page.locator(".heat-overlay").hover(position={"x": 240, "y": 6})
    expect(page.locator("#readout")).to_contain_text(
        re.compile(r"zeros [\d.]+\s%(, sampled at step 1\d\d)?  norm [\d.]+")
    )
    page.get_by_role("button", name="Gain", exact=True).click()
    page.wait_for_url("**color=gain*")
    page.locator(".heat-overlay").hover(position={"x": 500, "y": 40})
    expect(page.locator("#readout")).to_contain_text(re.compile(r"gain (×[\d.]+ over \S+|: none here)"))
    expect(page.locator("#heat-key")).to_contain_text("over the next block")


def test_a_colour_that_was_never_sampled_says_so(owner: Watched, calm: str) -> None:
    page = drawn(owner, calm, "?color=ratio")
    note = page.locator("#heat-note")
    expect(note).to_have_text("This run has no samples of the update/weight ratio.")
    page.get_by_role("button", name="Norm", exact=True).click()
    expect(note).to_be_hidden()


def test_the_step_inspector_shows_how_a_gradient_spreads(owner: Watched, server: Server) -> None:
    run = send(server, stories.clipped("spreads", 2, 400))
    page = drawn(owner, run, "?pin=t:blocks.1.mlp.fc1.weight")
    spread = page.locator("#inspector .spread")
    expect(spread.locator("h3")).to_have_text("Sizes of gradients in blocks.1.mlp.fc1.weight")
    expect(spread.locator("p")).to_have_text(
        re.compile(
            r"^[<\s\d.]+% too small for float16 at a loss scale of 65,536, [\d.]+\s% exactly zero\. Sampled at step 350, 49 before\.$"
        )
    )
    inked = """() => {
        const canvas = document.querySelector('#inspector .spread canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.filter((value, at) => at % 4 === 3 && value > 0).length;
    }"""
    assert page.evaluate(inked) > 500
    page.locator("#inspector .inspector-rows button").last.click()
    expect(spread.locator("h3")).not_to_contain_text("blocks.1.mlp.fc1.weight")


def test_what_somebody_calls_no_problem_is_red_on_no_screen(owner: Watched, server: Server) -> None:
    run = send(server, stories.exploding("false-alarm", steps=800, at=600))
    until(lambda: server.get(f"/runs/{run}/incidents")["incidents"], "the incident")
    mine, other = drawn(owner, run), drawn(owner, run)
    expect(other.locator("#incident")).to_have_attribute("data-tone", "critical")
    mine.get_by_role("button", name="Not a problem").click()
    for page in (mine, other):
        expect(page.locator("#incident")).to_have_attribute("data-tone", "")
        expect(page.locator("#strip")).not_to_have_attribute("data-tone", "critical")
        expect(page.locator(".incident-said")).to_contain_text("Said to be no problem")
    other.get_by_role("button", name="It is a problem").click()
    for page in (mine, other):
        expect(page.locator("#incident")).to_have_attribute("data-tone", "critical")
        expect(page.locator("#strip")).to_have_attribute("data-tone", "critical")


def test_a_viewer_is_led_to_no_page_that_asks_for_a_sign_in(
    owner: Watched, server: Server, watched: Callable[..., Watched], exploding: str
) -> None:
    page = drawn(owner, exploding)
    expect(page.get_by_role("link", name="What this means")).to_be_visible()
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make link").click()
    seen = watched(server).open(page.get_by_label("The link", exact=True).input_value())
    expect(seen.locator("#incident .incident-sentence")).to_be_visible()
    expect(seen.get_by_role("link", name="What this means")).to_have_count(0)


def test_keys_lead_to_incidents_and_back(owner: Watched, exploding: str) -> None:
    page = drawn(owner, exploding)
    expect(page.locator("#incident .incident-curve")).to_have_count(3)
    expect(page.locator("#incident .spark-mark")).to_have_count(3)
    expect(page.locator(".strip-sentence button")).to_be_visible()
    page.keyboard.press("j")
    page.wait_for_url(re.compile("[?&](incident|alert)="))
    expect(page.locator("#golive")).to_be_visible()
    page.locator("#norm .chart-menu").click()
    expect(page.locator(".menu")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".menu")).to_have_count(0)
    expect(page.locator("#golive")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#golive")).to_be_hidden()
    page.keyboard.press("k")
    expect(page.locator("#golive")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("#golive")).to_be_hidden()


def test_back_and_forward_restore_views_and_an_address_opens_the_same(owner: Watched, exploding: str) -> None:
    page = drawn(owner, exploding)
    page.locator(".strip-sentence button").click()
    page.wait_for_url("**from=*")
    zoomed = page.url
    shown = page.locator("#layers .legend-name").first
    expect(shown).to_be_visible()
    name = shown.inner_text()
    page.go_back()
    expect(page.locator("#golive")).to_be_hidden()
    page.go_forward()
    expect(page.locator("#golive")).to_be_visible()
    other = owner.open(zoomed)
    expect(other.locator("#layers .legend-name").first).to_have_text(name)
    expect(other.locator("#readout b")).to_contain_text("Step")
    assert len(zoomed) < 2048


def test_what_the_script_did_is_listed_with_what_came_of_it(
    owner: Watched, server: Server, calm: str
) -> None:
    cut = {"action": "lr_cut", "reason": "the loss left its level", "old": 1.0, "new": 0.5, "bounds": {}}
    story = dataclasses.replace(stories.healthy("acts", 4, 600), marks=[(300, "action", cut)])
    page = drawn(owner, send(server, story))
    item = page.locator("#actions li")
    expect(item).to_have_count(1)
    expect(item.locator("strong")).to_have_text("Learning rate cut: ×1 to ×0.5")
    expect(item.locator("[data-verdict]")).to_have_text(re.compile("^It .*: the norm went from"))
    item.locator("button").click()
    page.wait_for_url("**at=300*")
    drawn(owner, calm)
    expect(owner.context.pages[-1].locator("#actions")).to_be_hidden()


def test_runs_are_chosen_for_comparison_on_a_phone(owner: Watched, calm: str, exploding: str) -> None:
    page = owner.open("/")
    page.set_viewport_size({"width": 390, "height": 844})
    for run in (calm, exploding):
        page.locator(f"tr[data-run='{run}']").get_by_role("checkbox").check()
    expect(page.get_by_role("button", name="Compare")).to_be_in_viewport()
    expect(page.locator("tbody .group .muted").first).to_have_text(re.compile(r"runs?, .*\d\s.?B"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
