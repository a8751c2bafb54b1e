import assert from "node:assert/strict";
import { test } from "node:test";

import { gainsOf, gainText, outside, outsideText, profileOf, rangeAmong } from "../../static/js/core/depth.js";

const order = (n) => Array.from({ length: n }, (_, place) => ({ place }));

const shown = (profile) => profile.map((one) => one && one.value);

test("without a normal range a profile keeps the largest of each column and lets no NaN go", () => {
  assert.deepEqual(shown(profileOf(order(4), [1, 3, 2, null], null, 2)), [3, 2]);
  assert.deepEqual(shown(profileOf(order(4), [NaN, 9, null, null], null, 2)), [NaN, null]);
  assert.deepEqual(shown(profileOf(order(4), [9, NaN, null, null], null, 2)), [NaN, null]);
  assert.deepEqual(shown(profileOf(order(3), [0, 0, 5], null, 3)), [0, 0, 5]);
  assert.equal(shown(profileOf(order(5000), Array.from({ length: 5000 }, (_, i) => (i === 4321 ? 7 : 1)), null, 120)).filter((v) => v === 7).length, 1);
});

test("with one it keeps whoever is furthest outside, be it far too small", () => {
  const normals = { low: [1, 1, 100, null], high: [2, 2, 200, null] };
  const [left, right] = profileOf(order(4), [1.5, 8, 25, 5000], normals, 2);
  assert.deepEqual(left, { value: 8, low: 1, high: 2, out: 2 });
  assert.deepEqual(right, { value: 25, low: 100, high: 200, out: -2 });
  assert.equal(outside(0, 1, 2), -Infinity);
  assert.equal(outside(NaN, null, null), Infinity);
  assert.equal(outside(0, null, null), 0);
});

test("how many are outside is told in words", () => {
  const normals = { low: [1, 1, null], high: [2, 2, null] };
  assert.equal(outsideText([1.5, 8, 7], normals), "1 of 2 unusual");
  assert.equal(outsideText([1.5, 2, 7], normals), "all 2 as usual");
  assert.equal(outsideText([1.5, null, 7], normals), "all 1 as usual");
  assert.equal(outsideText([1, 2, 3], null), "");
});

test("layers that were never normal are set against those of their kind", () => {
  const tensors = [...Array(8).fill({ kind: "weight" }), { kind: "bias" }];
  const values = [1e9, 1.1e9, 0.9e9, 1e9, NaN, 0, 1e9, 1e3, 5];
  const range = rangeAmong(tensors, values);
  assert.ok(range.low[0] > 1e8 && range.high[0] < 1e10, "the middle of six, whatever their size");
  assert.equal(range.low[8], null, "one bias has no others");
  assert.equal(outsideText(values, range, true), "3 of 8 unlike the others");
  assert.equal(outsideText(values.with(4, 1e9).with(5, 1e9).with(7, 1e9), range, true), "all 8 alike");
});

test("gains are ratios of neighbouring weights in depth, whatever order they were declared in", () => {
  const tensors = [8, 1, 2, 4].map((_, i) => ({ name: `w${i}`, depth: [3, 0, 1, 2][i], kind: "weight" }));
  const { mean, most } = gainsOf(tensors, [8, 1, 2, 4]);
  assert.equal(mean, 0.5);
  assert.equal(most.gain, 0.5);
  assert.equal(gainsOf(tensors, [8, 16, 2, 4]).most.into, "w1");
  assert.match(gainText({ mean: 0.5, most }), /^Toward the input \u00d70\.5 per layer; largest jump \u00d70\.5 at w/);
});

test("what is zero, absent or no weight says nothing about gain", () => {
  const tensors = ["weight", "bias", "weight", "weight"].map((kind, i) => ({ name: `t${i}`, depth: i, kind }));
  assert.equal(gainsOf(tensors, [1, 5, 0, 1]), null);
  assert.equal(gainText(null), "");
  assert.equal(gainsOf(tensors, [4, 500, 2, 1]).mean, 2);
});
