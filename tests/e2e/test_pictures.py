"""Charts as files: what is on the page is in the picture, and a name in it does no harm."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from .harness import Watched
from .stage import Stage, staged

Watch = Callable[..., Watched]
NAME = '<script>alert(1)</script> & "x"\x01\u202e'
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("pictures")) as made:
        made.run("one", name=NAME, project="digits", spikes=(150,))
        made.run("two", name="other", project="digits")
        yield made


@pytest.fixture
def page(stage: Stage, watched: Watch) -> Page:
    owner = watched(stage)
    owner.sign_in().close()
    page = owner.open("/runs/one")
    page.wait_for_selector("body[data-drawn]", state="attached")
    return page


def saved(page: Page, chart: str, kind: str) -> tuple[str, bytes]:
    """Name and content of the file."""
    page.locator(f"{chart} .chart-menu").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=f"Save as {kind.upper()}").click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def colours(png: bytes) -> dict[tuple[int, ...], int]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return {colour: count for count, colour in image.getcolors(1 << 24) or ()}  # type: ignore[misc]


@pytest.mark.parametrize("chart", ["#norm", "#loss", "#heat"])
def test_a_chart_is_saved_as_it_looks(page: Page, chart: str) -> None:
    name, png = saved(page, chart, "png")
    assert name.startswith("digits-script-alert-1-script-x-") and name.endswith(".png")
    assert name.isascii() and not set(name) & set('<>"&/\\ ')
    seen = colours(png)
    assert len(seen) > 30
    box = page.locator(chart).bounding_box()
    assert box is not None
    assert Image.open(io.BytesIO(png)).width >= 2 * int(box["width"])
    token = "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
    line = {"#norm": "--chart-0", "#loss": "--chart-1"}.get(chart)
    if line is not None:
        wanted = page.evaluate(token, line).lstrip("#")
        assert seen.get(tuple(bytes.fromhex(wanted)), 0) > 50, "the line is there"


@pytest.mark.parametrize("chart", ["#norm", "#heat"])
def test_an_svg_holds_lines_and_text_and_nothing_that_runs(page: Page, chart: str) -> None:
    name, text = saved(page, chart, "svg")
    assert name.endswith(".svg")
    root = ET.fromstring(text)
    tags = {element.tag for element in root.iter()}
    assert f"{SVG}script" not in tags and f"{SVG}foreignObject" not in tags
    assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
    links = {
        value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")
    }
    assert all(link.startswith(("data:image/png;", "#")) for link in links)
    words = " ".join("".join(element.itertext()) for element in root.iter(f"{SVG}text"))
    assert "<script>alert(1)</script>" in words and ("norm" if chart == "#norm" else "blocks") in words
    if chart == "#norm":
        assert any("js-line" in element.get("class", "") for element in root.iter(f"{SVG}path"))


def test_a_layers_menu_begins_a_rule_about_it(page: Page) -> None:
    page.locator(".heat-label", has_text="attn").first.click(button="right")
    page.get_by_role("menuitem", name="Alert on blocks.0.attn").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[data-field=groups] input")).to_have_value("blocks.0.attn")
    expect(dialog.locator(".backtest")).to_contain_text("in this run")
    dialog.get_by_role("button", name="Cancel").click()
    page.locator("#norm .chart-menu").click()
    page.get_by_role("menuitem", name="Alert on this").click()
    expect(page.get_by_role("dialog").locator("[data-field=statistic] input")).to_have_value(
        "global_grad_norm"
    )


def test_the_holder_of_a_link_saves_pictures_and_makes_no_rules(stage: Stage, watched: Watch) -> None:
    made = stage.ask("POST", "/shares", {"run": "one", "others": ["two"]})
    page = watched(stage).open(made["url"])
    page.wait_for_selector("body[data-drawn]", state="attached")
    page.locator("#norm .chart-menu").click()
    expect(page.get_by_role("menuitem")).to_have_text(["Save as PNG", "Save as SVG"])
    page.keyboard.press("Escape")
    name, png = saved(page, "#norm", "png")
    assert "other" in name and len(colours(png)) > 30
