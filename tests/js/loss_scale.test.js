import assert from "node:assert/strict";
import { test } from "node:test";

import { powersOf, powerText, stairsOf } from "../../static/js/core/loss_scale.js";

test("a scale is named as a power of two", () => {
  assert.equal(powerText(65536), "2\u00b9\u2076");
  assert.equal(powerText(0.25), "2\u207b\u00b2");
  assert.equal(powerText(0), "");
  assert.equal(powerText(NaN), "");
});

test("the axis has whole powers, and a scale that never changes lies in its middle", () => {
  assert.deepEqual(powersOf([1024, 2048], [4096, 8192]), { low: 10, high: 13 });
  assert.deepEqual(powersOf([65536], [65536]), { low: 15, high: 17 });
  assert.equal(powersOf([], [NaN, 0]), null);
});

test("the line goes in steps, not in slopes", () => {
  const stairs = stairsOf({ x: [0, 10, 20, 30], last: [8, 8, NaN, 4] }, { from: 0, to: 40 }, { low: 1, high: 3 });
  assert.deepEqual(stairs, [[0, 1], [0.25, 1], [0.75, 1], [0.75, 0.5]]);
});
