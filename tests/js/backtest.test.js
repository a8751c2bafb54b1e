import assert from "node:assert/strict";
import { test } from "node:test";

import { firstThreshold } from "../../static/js/core/backtest.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { viewOf } from "./helpers.js";

const exploded = { kind: "exploding", severity: "critical", first_step: 80, closed_step: null, dismissed: null };
const judged = (incidents) => ({ incidents, normal: { spreading: ["exploding", "spike"], least_steps: 16 } });
const windowOf = (values, shape = {}) => new SeriesWindow(viewOf([values], shape));
const calm = Array.from({ length: 20 }, (_, i) => 0.5 + 0.01 * (i % 5));

test("a threshold begins with what is usual outside of incidents", () => {
  const window = windowOf([...calm, 1e9, 2e15, NaN, Infinity], { width: 4 });
  assert.equal(firstThreshold(window, judged([exploded])), 1.1);
  assert.ok(firstThreshold(window, judged([{ ...exploded, first_step: 81, closed_step: 82 }])) > 1e15, "one that is over is left out only while it lasted");
});

test("an incident within one wide bucket leaves that bucket out", () => {
  const window = windowOf([...calm, 1e9, 0.5], { width: 4 });
  assert.equal(firstThreshold(window, judged([{ ...exploded, kind: "spike", first_step: 81, closed_step: 82 }])), 1.1);
});

test("of a run that was never well the calmest part is taken, of nothing a plain 1", () => {
  assert.equal(firstThreshold(windowOf([3, 1e6, 1e9]), judged([{ ...exploded, first_step: 0 }])), 4e4);
  assert.equal(firstThreshold(null, judged([])), 1);
  assert.equal(firstThreshold(windowOf([NaN, 0]), judged([])), 1);
});
