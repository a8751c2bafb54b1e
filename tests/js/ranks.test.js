// Norms of which parts are missing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { missingIn, parted, ranksText } from "../../static/js/core/ranks.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { viewOf } from "./helpers.js";

const windowOf = (values, options) => new SeriesWindow(viewOf([values], options));

test("a bucket lacks ranks when any of its steps does, however wide the buckets are", () => {
  const present = windowOf([8, 8, 7, 8, 6, undefined]);
  const ranks = windowOf([8, 8, 8, 8, 8, undefined]);
  const at = (from, to) => missingIn(present, ranks, from, to);
  assert.deepEqual([at(0, 2), at(2, 3), at(0, 4), at(0, 6)], [null, { present: 7, of: 8 }, { present: 7, of: 8 }, { present: 6, of: 8 }]);
  assert.deepEqual([at(5, 6), at(6, 9)], [null, null], "nothing is known there");
  const wide = windowOf([8], { width: 64 });
  wide.low[0] = 7;
  assert.deepEqual(missingIn(wide, windowOf([8], { width: 64 }), 0, 64), { present: 7, of: 8 }, "the last step of the bucket was whole");
  assert.deepEqual(missingIn(wide, ranks, 3, 4), { present: 7, of: 8 }, "windows of two widths");
  assert.equal(ranksText({ present: 7, of: 8 }), "7 of 8 ranks");
});

test("the solid line breaks where ranks are missing, and the other goes from neighbour to neighbour", () => {
  const values = [1, 2, 3, 4, 5, 6];
  const { whole, part } = parted({ x: values, last: values, low: values, high: values }, [false, false, true, false, false, true]);
  assert.deepEqual(whole.last, [1, 2, NaN, 4, 5, NaN]);
  assert.deepEqual(whole.x, values);
  for (const name of ["x", "last", "low", "high"]) assert.deepEqual(part[name], [2, 3, 4, NaN, 5, 6, NaN]);
});
