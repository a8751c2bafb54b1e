"""Snapshot files as a browser without network opens them. Shared by the tests."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def zoom_offline(path: Path, *, plots: int, title: str) -> list[str]:
    """Opens the file without network, looks for that many charts, zooms; what the page complained about."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=executable, args=args)
        context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
        page = context.new_page()
        complaints: list[str] = []
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append("a dialog"))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready='1']", state="attached")
        assert page.locator(".js-plotly-plot").count() == plots
        assert title in page.locator("h1").inner_text()
        chart = page.locator(".chart").first
        before = page.evaluate("document.querySelector('.chart').layout.xaxis.range")
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 300, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 500, box["y"] + 102, steps=5)
        page.mouse.up()
        page.wait_for_function(
            "before => JSON.stringify(document.querySelector('.chart').layout.xaxis.range) !== JSON.stringify(before)",
            arg=before,
        )
        page.screenshot(path=path.with_suffix(".png"), full_page=True)
        browser.close()
    return complaints
