import assert from "node:assert/strict";
import { test } from "node:test";

import * as scale from "../../static/js/core/scale.js";
import { normalFrom } from "./helpers.js";

test("step ticks are whole and round", () => {
  assert.deepEqual(scale.stepTicks(0, 1000, 5), [0, 200, 400, 600, 800]);
  assert.deepEqual(scale.stepTicks(12_000, 12_020, 4), [12_000, 12_005, 12_010, 12_015]);
  assert.deepEqual(scale.stepTicks(3, 6, 10), [3, 4, 5]);
});

test("log ticks: few, on powers of ten, closer when the axis is short", () => {
  assert.deepEqual(scale.logTicks(0.01, 100, 5), [0.01, 0.1, 1, 10, 100]);
  assert.deepEqual(scale.logTicks(0.5, 20, 4), [0.5, 1, 2, 5, 10, 20]);
  assert.ok(scale.logTicks(1e-30, 1e30, 5).length <= 7);
  assert.ok(scale.logTicks(3.1, 3.9, 4).length >= 2);
});

test("linear ticks cover the range", () => {
  assert.deepEqual(scale.linearTicks(0, 1, 4), [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual(scale.linearTicks(-0.3, 0.3, 3), [-0.2, 0, 0.2]);
  assert.deepEqual(scale.linearTicks(0.4, 3.6, 3), [1, 2, 3], "one alone says nothing");
});

test("one spike of 1e9 doesn't flatten history, an alert line is always inside", () => {
  const normal = normalFrom(1);
  const values = Array.from({ length: 1000 }, () => 2 ** (0.3 * normal()));
  values[500] = 1e9;
  const range = scale.fitRange(values, [], true);
  assert.ok(range.high < 10, `${range.high}`);
  assert.ok(range.low > 0.1);
  const wider = scale.fitRange(values, [50], true);
  assert.ok(wider.high > 50);
  assert.deepEqual(scale.fitRange(values, [1e6], true), range, "a line far off doesn't flatten the curve");
});

test("what can't be on the axis doesn't count; nothing gives nothing", () => {
  assert.equal(scale.fitRange([NaN, 0, -1, Infinity], [], true), null);
  assert.equal(scale.fitRange([], [], false), null);
  const flat = scale.fitRange([3, 3, 3], [], false);
  assert.ok(flat.low < 3 && flat.high > 3);
});

test("a live axis only grows", () => {
  const before = { low: 1, high: 10 };
  assert.equal(scale.widened(before, { low: 2, high: 9 }), before);
  assert.deepEqual(scale.widened(before, { low: 2, high: 20 }), { low: 1, high: 20 });
  assert.equal(scale.widened(before, null), before);
});

test("value and position undo each other", () => {
  for (const log of [true, false]) {
    const range = { low: 0.2, high: 30 };
    for (const value of [0.2, 1, 7, 30]) {
      assert.ok(Math.abs(scale.valueAt(scale.position(value, range, log), range, log) - value) < 1e-9);
    }
  }
});
