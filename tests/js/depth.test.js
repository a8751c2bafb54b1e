import assert from "node:assert/strict";
import { test } from "node:test";

import { gainsOf, gainText, pooledOver } from "../../static/js/core/depth.js";

const order = (n) => Array.from({ length: n }, (_, place) => ({ place }));

test("a profile keeps the largest of each column and lets no NaN go", () => {
  assert.deepEqual(pooledOver(order(4), [1, 3, 2, null], 2), [3, 2]);
  assert.deepEqual(pooledOver(order(4), [NaN, 9, null, null], 2), [NaN, null]);
  assert.deepEqual(pooledOver(order(3), [0, 0, 5], 3), [0, 0, 5]);
  assert.equal(pooledOver(order(5000), Array.from({ length: 5000 }, (_, i) => (i === 4321 ? 7 : 1)), 120).filter((v) => v === 7).length, 1);
});

test("gains are ratios of neighbouring weights in depth, whatever order they were declared in", () => {
  const tensors = [8, 1, 2, 4].map((_, i) => ({ name: `w${i}`, depth: [3, 0, 1, 2][i], kind: "weight" }));
  const { mean, most } = gainsOf(tensors, [8, 1, 2, 4]);
  assert.equal(mean, 0.5);
  assert.equal(most.gain, 0.5);
  assert.equal(gainsOf(tensors, [8, 16, 2, 4]).most.into, "w1");
  assert.match(gainText({ mean: 0.5, most }), /^Toward the input \u00d70\.5 a layer, most \u00d70\.5 into w/);
});

test("what is zero, absent or no weight says nothing about gain", () => {
  const tensors = ["weight", "bias", "weight", "weight"].map((kind, i) => ({ name: `t${i}`, depth: i, kind }));
  assert.equal(gainsOf(tensors, [1, 5, 0, 1]), null);
  assert.equal(gainText(null), "");
  assert.equal(gainsOf(tensors, [4, 500, 2, 1]).mean, 2);
});
