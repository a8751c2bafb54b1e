import assert from "node:assert/strict";
import { test } from "node:test";

import { HAS_INF, HAS_NAN, HAS_ZERO } from "../../static/js/core/codec.js";
import { laneSpans, LANES, LEAST_TICK, outliers } from "../../static/js/core/lanes.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { viewOf } from "./helpers.js";

test("each special value is in its own lane, at its own place", () => {
  const window = new SeriesWindow(viewOf([[1, NaN, Infinity, 0, 1, 1, 1, 1, 1, 1]]));
  const range = { from: 0, to: 10 };
  assert.deepEqual(laneSpans(window, 0, HAS_NAN, range, 100), [{ x0: 10, x1: 20 }]);
  assert.deepEqual(laneSpans(window, 0, HAS_INF, range, 100), [{ x0: 20, x1: 30 }]);
  assert.deepEqual(laneSpans(window, 0, HAS_ZERO, range, 100), [{ x0: 30, x1: 40 }]);
  assert.deepEqual(LANES.map((lane) => lane.edge), ["top", "top", "bottom"]);
});

test("one NaN in a hundred thousand steps is still seen", () => {
  const values = Array(10_000).fill(1);
  values[9_999] = NaN;
  const window = new SeriesWindow(viewOf([values]));
  const [span] = laneSpans(window, 0, HAS_NAN, { from: 0, to: 10_000 }, 800);
  assert.ok(span.x1 - span.x0 >= LEAST_TICK);
  assert.ok(span.x1 <= 800);
});

test("neighbours join, strangers don't, and what is out of range isn't there", () => {
  const window = new SeriesWindow(viewOf([[NaN, NaN, 1, NaN, 1, 1, NaN]]));
  assert.deepEqual(laneSpans(window, 0, HAS_NAN, { from: 0, to: 6 }, 60), [{ x0: 0, x1: 20 }, { x0: 30, x1: 40 }]);
});

test("values beyond the axis give one arrow each stretch, with the farthest value", () => {
  const window = new SeriesWindow(viewOf([[1, 50, 90, 1, 1, 1, 1, 1, 1e-9, 60]]));
  const found = outliers(window, 0, { from: 0, to: 10 }, { low: 0.1, high: 10 }, 200);
  assert.deepEqual(found.map(({ edge, value }) => [edge, Math.fround(value)]), [["top", 90], ["bottom", Math.fround(1e-9)], ["top", 60]]);
});
