import assert from "node:assert/strict";
import { test } from "node:test";

import * as heat from "../../static/js/core/heat.js";
import { firstUnusual, isUnusual, stretchStart } from "../../static/js/core/origin.js";

const OK = heat.MIDDLE;
const HOT = heat.LEVELS;

function column(name, depth, codes, width = 1) {
  const window = { width, firstBucket: 0, bucketOf: (step) => (step < codes.length * width ? Math.floor(step / width) : -1) };
  return { row: { name, depth }, window, codeAt: (bucket) => codes[bucket] ?? heat.ABSENT };
}

test("unusual is far off, zero, Inf and NaN; absent and near are not", () => {
  for (const code of [1, HOT, heat.ZERO, heat.INF, heat.NAN, heat.deviationCode(3), heat.deviationCode(-3.2)]) assert.ok(isUnusual(code));
  for (const code of [heat.ABSENT, OK, heat.deviationCode(2.8), heat.deviationCode(-2)]) assert.ok(!isUnusual(code));
});

test("a stretch begins where it began, over a short lull but not over calm", () => {
  const codes = [HOT, OK, OK, OK, HOT, OK, HOT, HOT];
  assert.equal(stretchStart((i) => codes[i], 7, 0), 4);
  assert.equal(stretchStart((i) => codes[i], 5, 0), -1);
});

test("the layer that began first is found, not the hottest", () => {
  const columns = [
    column("late", 1, [OK, OK, OK, HOT, heat.NAN]),
    column("first", 1, [OK, HOT, HOT, HOT, HOT]),
    column("calm", 1, [OK, OK, OK, OK, OK]),
  ];
  assert.deepEqual(firstUnusual(columns, 4), { row: columns[1].row, step: 1 });
  assert.equal(firstUnusual([columns[2]], 4), null);
});

test("a tensor says more than its group", () => {
  const columns = [column("group", 0, [OK, HOT]), column("tensor", 2, [OK, HOT])];
  assert.equal(firstUnusual(columns, 1).row.name, "tensor");
});

test("NaN that came to several layers at once began nearest the output, unless no layer was spared", () => {
  const bad = (name) => column(name, 1, [OK, heat.NAN]);
  const spared = column("head", 1, [OK, OK]);
  assert.equal(firstUnusual([bad("in"), bad("mid"), spared], 1).row.name, "mid");
  assert.equal(firstUnusual([bad("in"), bad("mid")], 1).row.name, "in");
  const later = (name) => column(name, 1, [OK, OK, heat.NAN]);
  assert.equal(firstUnusual([{ ...bad("in") }, bad("mid"), later("head")], 1).row.name, "mid");
});
