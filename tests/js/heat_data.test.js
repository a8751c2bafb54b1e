import assert from "node:assert/strict";
import { test } from "node:test";

import * as heat from "../../static/js/core/heat.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { HeatCodes } from "../../static/js/ui/heat_data.js";
import { normalFrom, viewOf } from "./helpers.js";

function feedOf(rows) {
  return { window: new SeriesWindow(viewOf(rows)), rows: null };
}

function noise(n, seed) {
  const normal = normalFrom(seed);
  return Array.from({ length: n }, () => 2 ** (0.4 * normal()));
}

test("codes worked out bit by bit are those worked out at once", () => {
  const values = noise(200, 2);
  values[120] = 1e6;
  values[150] = NaN;
  const whole = feedOf([values]);
  const once = new HeatCodes();
  assert.ok(once.update(whole, feedOf([values]), "deviation", null));
  const overview = feedOf([values]);
  const grown = feedOf([values.slice(0, 10)]);
  const steps = new HeatCodes();
  steps.update(grown, overview, "deviation", null);
  for (let at = 10; at < 200; at += 7) {
    grown.window.apply(viewOf([values.slice(at, at + 7)], { kind: 2, firstBucket: at }));
    steps.update(grown, overview, "deviation", null);
  }
  const codesOf = (codes, feed) => Array.from({ length: 200 }, (_, i) => codes.codes[feed.window.index(0, i)]);
  assert.deepEqual(codesOf(steps, grown), codesOf(once, whole));
  assert.equal(once.codes[whole.window.index(0, 120)], heat.LEVELS);
  assert.equal(once.codes[whole.window.index(0, 150)], heat.NAN);
});

test("numbers of other rows than the baseline's are not coloured by it", () => {
  const codes = new HeatCodes();
  const feed = { ...feedOf([noise(30, 1)]), rows: [4] };
  assert.equal(codes.update(feed, { ...feedOf([noise(30, 1)]), rows: [9] }, "deviation", null), false);
  assert.equal(codes.update({ window: null, rows: null }, feed, "deviation", null), false);
});

test("sizes need no baseline", () => {
  const codes = new HeatCodes();
  const feed = feedOf([[0.001, 1, 1000, 0]]);
  assert.ok(codes.update(feed, { window: null, rows: null }, "norm", { low: -10, high: 10 }));
  const row = [0, 1, 2, 3].map((i) => codes.codes[feed.window.index(0, i)]);
  assert.ok(row[0] < row[1] && row[1] < row[2]);
  assert.equal(row[3], heat.ZERO);
});

test("what is normal is known whatever the colours show", () => {
  const codes = new HeatCodes();
  const feed = feedOf([noise(60, 3)]);
  assert.ok(codes.update(feed, feedOf([noise(60, 3)]), "norm", { low: -10, high: 10 }));
  assert.ok(Number.isFinite(codes.baseline.centre[codes.baseline.at(0, 59)]));
});
