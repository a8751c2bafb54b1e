"""How soon a person finds what went wrong: clicks on a real page, and what is then in the viewport without scrolling."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from ..benchmarks.health.cases import Case, record
from ..benchmarks.health.replay import load
from .harness import WAIT_S, Server, frames, until
from .wire import send, told

SIZES = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
GLANCE_S = 1.5
"""What the first click brings is waited for so long; what is missing then may take the second one."""

QUICK = (
    "backward_nan/mlp_adam-1",
    "dead_late/mlp_sgd-1",
    "lr_x100/mlp_sgd-1",
    "detached/mlp_adam-1",
    "init_x8/mlp_sgd-1",
)
"""Cases that are recorded in a second or two each, one of each sort."""


LAYER_NAME = ".incident-path li:first-child button, .incident-body p button"


@dataclass
class Culprit:
    """A run on the server, and what the engine says of it."""

    case: Case
    run: str
    incident: dict[str, Any]
    names: frozenset[str] = frozenset()

    @property
    def tensor(self) -> str:
        """Where it began, "" for what concerns the whole model."""
        return str(self.incident["origin"]["tensor"])

    @property
    def never_normal(self) -> bool:
        """A layer that got no gradient from the first step on has no normal to be drawn against."""
        return self.incident["kind"] in ("disconnected", "dead") and self.incident["first_step"] == 0


@dataclass
class Search:
    """What was found with so many clicks, and what was not."""

    clicks: int = 0
    missing: list[str] = field(default_factory=list)
    named: str = ""
    step: int = -1


def bring(server: Server, case: Case, folder: Path) -> Culprit | None:
    """Records a case, sends it over the wire; None if nothing worse than a remark is told of it."""
    run = load(record(case, folder))
    story = told(run, case.name)
    send(server, story)
    last = run.steps - 1
    path = f"/runs/{story.run_id}/incidents"
    until(lambda: (server.get(path)["health"] or {}).get("step", -1) >= last, f"{case.name} to be judged")
    found = [
        one for one in server.get(path)["incidents"] if one["severity"] != "info" and not one["merged_into"]
    ]
    # As the page does: what is open comes before what is over, then the gravest, then what began first.
    found.sort(
        key=lambda one: (one["closed_step"] is not None, one["severity"] != "critical", one["first_step"])
    )
    names = frozenset(tensor.name for tensor in run.tensors)
    return Culprit(case, story.run_id, found[0], names) if found else None


def by_sentence(page: Page, url: str, culprit: Culprit) -> Search:
    """From the run's address: the sentence, then the layer's name if it takes a second click."""
    page.goto(url)
    page.wait_for_selector("#norm path.js-line", state="attached")
    search = Search()
    for target, wait in ((".strip-sentence button", GLANCE_S), (LAYER_NAME, WAIT_S)):
        page.locator(target).first.click()
        search.clicks += 1
        search.missing = _settled(page, lambda: _missing(page, culprit), wait)
        if not search.missing:
            break
    return search


def _missing(page: Page, culprit: Culprit) -> list[str]:
    """What of the five things is not in the viewport."""
    card = page.locator("#incident")
    curve = "#layers" if culprit.tensor else "#norm"
    step = f"{culprit.incident['origin']['step'] if culprit.tensor else culprit.incident['first_step']:,}"
    seen = {
        "tensor": card.locator(".incident-path button").first
        if culprit.tensor
        else card.locator("strong").first,
        "step": card.get_by_text(step).first,
        "curve": page.locator(f"{curve} .chart-plot", has=page.locator(".js-line")),
        "normal": page.locator(f"{curve}[data-normal] .chart-plot"),
        "cause": card.locator("section", has_text="Likely cause").locator("p").first,
        "line": card.locator(".snippet code"),
        "copy": card.locator(".snippet .button"),
    }
    if culprit.never_normal:
        # All of its curve lies in the lane of exact zero.
        seen["curve"] = page.locator(f"{curve} .chart-plot")
        del seen["normal"]
    missing = [name for name, place in seen.items() if not in_view(page, place)]
    if culprit.tensor and not missing:
        if seen["tensor"].inner_text() != culprit.tensor:
            missing.append("the right tensor")
        label = page.locator("#layers .legend-name").first.get_attribute("title") or ""
        if not label.startswith(culprit.tensor):
            missing.append("its own curve")
    return missing


def in_view(page: Page, place: Locator) -> bool:
    """Whether all of it lies in the viewport of a page that nobody scrolled."""
    if place.count() == 0 or page.evaluate("scrollY") != 0:
        return False
    box = place.bounding_box()
    size = page.viewport_size
    assert size is not None
    if box is None:
        return False
    inside_x = box["x"] >= -1 and box["x"] + box["width"] <= size["width"] + 1
    return inside_x and box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def _settled(page: Page, ask: Callable[[], list[str]], wait: float) -> list[str]:
    """The first empty answer, else the last one after so many seconds."""
    end = time.monotonic() + wait
    while (answer := ask()) and time.monotonic() < end:
        page.wait_for_timeout(50)
    return answer


HOTTEST = """() => {
  const canvas = document.querySelector(".heat-cells");
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  const wanted = ["--nan", "--inf", "--zero", "--div-6", "--div-0"].map(rgb);
  const near = (at, [r, g, b]) => Math.abs(pixels[at] - r) + Math.abs(pixels[at + 1] - g) + Math.abs(pixels[at + 2] - b) < 40;
  for (const colour of wanted) {
    let best = null;
    for (let y = 1; y < height; y += 3) {
      let run = 0;
      for (let x = 0; x <= width; x += 1) {
        if (x < width && near(4 * (y * width + x), colour)) { run += 1; continue; }
        if (run > (best?.run ?? 2)) best = { run, x: x - 1 - run / 2, y };
        run = 0;
      }
    }
    if (best) {
      const box = canvas.getBoundingClientRect();
      return { x: box.left + ((best.x + 0.5) * box.width) / width, y: box.top + ((best.y + 0.5) * box.height) / height };
    }
  }
  return null;
}"""


def _origin(page: Page, chosen: str) -> str:
    """The layer or group that the inspector names as the first, once it is another than ``chosen``; "" if it never is."""
    place = page.locator("#inspector .origin")
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if place.is_visible() and (name := place.inner_text().rpartition(" first in ")[2]) != chosen:
            return name
        page.wait_for_timeout(50)
    return ""


def by_heat_map(page: Page, url: str, culprit: Culprit) -> Search:
    """Without the engine's help: the hottest cell, where its stretch began, and the layer inside that."""
    page.goto(url)
    page.wait_for_selector("body[data-drawn]", state="attached")
    page.locator(".heat-cells").scroll_into_view_if_needed()
    place = page.evaluate(HOTTEST)
    if place is None:
        return Search(missing=["a hot cell"])
    page.mouse.click(place["x"], place["y"])
    search = Search(clicks=1)
    name = ""
    while search.clicks < 3 and name not in culprit.names:
        frames(page)
        name = _origin(page, name)
        if not name:
            break
        page.locator("#inspector .origin").click()
        search.clicks += 1
        page.locator(f"#layers .legend-name[title^={json.dumps(name)}]").first.wait_for()
    title = page.locator("#layers .legend-name").first.get_attribute("title") or ""
    search.named = title.split(":")[0]
    text = page.locator("#readout b").text_content() or ""
    digits = "".join(c for c in text if c.isdigit())
    search.step = int(digits) if digits else -1
    return search
