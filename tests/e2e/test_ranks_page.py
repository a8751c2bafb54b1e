"""A run that lacks a rank for a while, as its open page shows it, and how the page mends when the late part comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect

from gradwatch.testing import FakeClock
from gradwatch_server.rank_merge import WAIT_STEPS
from tests.server.live_server import Trainer, serving
from tests.server.web.test_ranks import merged, rank_batch, rank_hello, rank_schema

from .harness import Watched, wait_for_step
from .stage import Stage

STEPS = 60
LATE = range(20, STEPS)
NORMS = np.random.default_rng(5).uniform(0.5, 2.0, (2, STEPS, 3)).astype(np.float32)
DASHED = "#norm path.js-line[style*='stroke-dasharray: 3px']"


def point_at(page: Page, step: int) -> None:
    """Puts the cursor on a step of the chart of norms, all steps being shown."""
    canvas = page.locator("#norm canvas.chart-overlay")
    left, right = canvas.evaluate(
        "at => ['--plot-left', '--plot-right'].map(key => parseFloat(getComputedStyle(at).getPropertyValue(key)))"
    )
    size = canvas.bounding_box()
    assert size is not None
    inside = size["width"] - left - right
    canvas.hover(position={"x": left + (step + 0.5) / STEPS * inside, "y": size["height"] / 2})


def test_a_norm_that_lacks_ranks_is_not_drawn_as_whole(
    tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    clock = FakeClock(time.time())  # the browser lets an older session lapse
    with (
        serving(tmp_path, clock=clock) as server,
        Trainer(server, rank_hello(0)) as zero,
        Trainer(server, rank_hello(1)) as one,
    ):
        zero.send(rank_schema(0), rank_batch(1, range(STEPS), NORMS[0]))
        one.send(rank_schema(1), rank_batch(1, range(LATE.start), NORMS[1]))
        merged(server, LATE.start)
        zero.wait_acked(2)
        clock.advance(WAIT_STEPS * 1.0)
        merged(server, STEPS)
        owner = watched(Stage(server, tmp_path))
        owner.sign_in().close()
        page = owner.open("/runs/run-1")
        expect(page.locator(DASHED)).to_have_count(1)
        expect(page.locator("#strip")).to_contain_text("1 of 2 ranks")
        wait_for_step(page, STEPS - 1)
        point_at(page, 30)
        expect(page.locator("#readout")).to_contain_text("1 of 2 ranks")
        point_at(page, 10)
        expect(page.locator("#readout")).to_contain_text("Step 10")
        expect(page.locator("#readout")).not_to_contain_text("ranks")
        one.send(rank_batch(2, LATE, NORMS[1]))
        expect(page.locator(DASHED)).to_have_count(0)
        point_at(page, 30)
        whole = float(np.sqrt((NORMS[:, 30].astype(np.float64) ** 2).sum()))
        expect(page.locator("#norm .legend b").first).to_have_text(f"{whole:.3g}")
