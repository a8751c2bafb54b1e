import assert from "node:assert/strict";
import { test } from "node:test";

import { Baseline, LEAST_SCALE, robust } from "../../static/js/core/baseline.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { normalFrom, viewOf } from "./helpers.js";

const zOf = (baseline, step, value) => {
  const at = baseline.at(0, step);
  return (Math.log2(value) - baseline.centre[at]) / baseline.scale[at];
};

function noisy(n, seed = 1, spread = 0.4) {
  const normal = normalFrom(seed);
  return Array.from({ length: n }, () => 2 ** (spread * normal()));
}

test("median and MAD, by hand", () => {
  assert.deepEqual(robust([1, 2, 3, 4, 100]), { centre: 3, scale: 1.4826 });
  assert.ok(Number.isNaN(robust([]).centre));
});

test("a healthy row stays calm, and its scale is that of its noise", () => {
  const values = noisy(400);
  const baseline = new Baseline();
  baseline.update(new SeriesWindow(viewOf([values])));
  const far = values.filter((value, step) => Math.abs(zOf(baseline, step, value)) > 4);
  assert.ok(far.length <= 2, `${far.length} of 400 beyond 4`);
  const end = baseline.scale[baseline.at(0, 399)];
  assert.ok(end > 0.3 && end < 0.6, `scale ${end}`);
});

test("an explosion stands out for long, also when it fills most of the run", () => {
  const values = [...noisy(60), ...noisy(140, 2).map((value) => value * 1e5)];
  const baseline = new Baseline();
  baseline.update(new SeriesWindow(viewOf([values])));
  assert.ok(zOf(baseline, 60, values[60]) > 6);
  assert.ok(zOf(baseline, 90, values[90]) > 6);
});

test("growing bit by bit gives what one look over the whole gives", () => {
  const values = noisy(300, 5);
  const whole = new Baseline();
  whole.update(new SeriesWindow(viewOf([values])));
  const window = new SeriesWindow(viewOf([values.slice(0, 3)]));
  const grown = new Baseline();
  for (let at = 3; at < 300; at += 9) {
    grown.update(window);
    window.apply(viewOf([values.slice(at, at + 9)], { kind: 2, firstBucket: at }));
  }
  grown.update(window);
  for (let step = 0; step < 300; step += 1) {
    assert.equal(grown.centre[grown.at(0, step)], whole.centre[whole.at(0, step)], `step ${step}`);
  }
});

test("absent values, zeros, NaN and Inf teach nothing, and a late start is a start", () => {
  const values = [...Array(40).fill(undefined), NaN, Infinity, 0, ...Array(40).fill(8)];
  const baseline = new Baseline();
  baseline.update(new SeriesWindow(viewOf([values])));
  const at = baseline.at(0, 82);
  assert.equal(baseline.centre[at], 3);
  assert.equal(baseline.scale[at], LEAST_SCALE);
});
