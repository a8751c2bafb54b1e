// The compare page's pure parts.

import assert from "node:assert/strict";
import test from "node:test";

import { clockOf, columnsOf, differences, faded, firstBad, firstBadStep, firstIncident, flatten, whoFirst } from "../../static/js/ui/compare_data.js";

test("settings become rows, and only those that differ are shown", () => {
  assert.deepEqual([...flatten({ a: { b: 1, c: "x" }, d: [1, 2] })], [["a.b", "1"], ["a.c", "x"], ["d", "[1,2]"]]);
  const run = (config, commit) => ({ context: { config, git: { commit } } });
  const rows = differences([run({ lr: 0.1, seed: 1 }, "abc"), run({ lr: 0.2, seed: 1, drop: 0 }, "abc")]);
  assert.deepEqual(rows, [{ key: "drop", values: [undefined, "0"] }, { key: "lr", values: ["0.1", "0.2"] }]);
  assert.deepEqual(differences([{ context: {} }, {}]), []);
});

const view = { n: 4, firstBucket: 10, width: 4, flags: [1, 0, 1 | 2, 1], last: [1, NaN, NaN, 3], low: [0.5, NaN, 1, 3], high: [2, NaN, 4, 3] };

test("columns leave out absent buckets and keep what isn't finite as gaps", () => {
  const { x, last, low, bad } = columnsOf(view);
  assert.deepEqual(x, [41.5, 49.5, 53.5]);
  assert.deepEqual(last, [1, NaN, 3]);
  assert.deepEqual(low, [0.5, 1, 3]);
  assert.deepEqual(bad, [49.5]);
  assert.equal(firstBad(view), 48);
  assert.equal(firstBad({ ...view, n: 2 }), null);
});

const bucketed = (from, width, n, bad) => {
  const flags = Array.from({ length: n }, (_, i) => (bad >= from + i * width && bad < from + (i + 1) * width ? 3 : 1));
  return { n, width, firstBucket: from / width, flags, last: new Array(n).fill(1) };
};

test("the first NaN is told by its own step, however wide the first look was", async () => {
  const asked = [];
  const ask = async (from, to) => {
    asked.push([from, to]);
    const width = to - from > 64 ? 16 : 1;
    return bucketed(from, width, (to - from) / width, 70_123);
  };
  assert.equal(await firstBadStep(bucketed(0, 1024, 100, 70_123), ask), 70_123);
  assert.deepEqual(asked, [[69_632, 70_656], [70_112, 70_128]]);
  assert.equal(await firstBadStep(bucketed(0, 1024, 100, -1), ask), null);
  assert.equal(await firstBadStep(bucketed(0, 1024, 100, 70_123), async () => bucketed(69_632, 1024, 1, 70_123)), 69_632);
});

test("a step's time lies between the known ones, and goes on at the last pace", () => {
  const clock = clockOf([{ step: 0, time: 100 }, { step: 10, time: 110 }, { step: 20, time: 150 }]);
  assert.deepEqual([0, 5, 10, 15, 20, 30].map(clock), [0, 5, 10, 30, 50, 90]);
  assert.equal(clockOf([{ step: 3, time: 7 }])(3), 0);
  assert.ok(Number.isNaN(clockOf([])(3)));
});

test("the first to leave its normal is named, with the layer", () => {
  const incident = (first_step, tensor) => ({ kind: "exploding", first_step, origin: { tensor } });
  const entries = [
    { name: "a", incident: incident(3000, "x"), kind: "NaN or Inf" },
    { name: "b", incident: incident(1204, "fc.weight"), kind: "Exploding" },
    { name: "c", incident: null },
  ];
  assert.equal(whoFirst(entries), "First to leave its normal: “b” at step 1,204 (Exploding), in fc.weight; then “a” at step 3,000 (NaN or Inf). “c” stayed healthy.");
  assert.equal(whoFirst([{ name: "c", incident: null }]), "None of these runs had an incident.");
  const found = firstIncident([{ severity: "info", first_step: 1 }, { severity: "critical", first_step: 9 }, { severity: "warning", first_step: 5 }]);
  assert.equal(found.first_step, 5);
  assert.equal(firstIncident([]), null);
});

test("a token's colour fades as Plotly takes it", () => {
  assert.equal(faded("#2a5fd0", 0.16), "rgba(42,95,208,0.16)");
});
