import assert from "node:assert/strict";
import { test } from "node:test";

import { SeriesWindow } from "../../static/js/core/window.js";
import { randomFrom, viewOf } from "./helpers.js";

const rowOf = (window, row) =>
  Array.from({ length: window.n }, (_, i) => window.last[window.index(row, window.firstBucket + i)]);

test("deltas append, replace the open bucket and leave gaps absent", () => {
  const window = new SeriesWindow(viewOf([[1, 2], [5, 6]]));
  assert.ok(window.apply(viewOf([[9, 3], [8, 7]], { kind: 2, firstBucket: 1 })));
  assert.deepEqual(rowOf(window, 0), [1, 9, 3]);
  assert.ok(window.apply(viewOf([[4], [8]], { kind: 2, firstBucket: 5 })));
  assert.deepEqual(rowOf(window, 1), [5, 8, 7, NaN, NaN, 8]);
  assert.equal(window.flags[window.index(0, 3)], 0);
  assert.equal(window.lastStep, 5);
});

test("a delta of another width, other rows or an earlier time changes nothing", () => {
  const window = new SeriesWindow(viewOf([[1, 2]], { firstBucket: 10 }));
  for (const wrong of [viewOf([[7]], { width: 4, firstBucket: 3 }), viewOf([[7], [7]], { firstBucket: 12 }), viewOf([[7]], { firstBucket: 9 })]) {
    assert.equal(window.apply(wrong), false);
  }
  assert.deepEqual(rowOf(window, 0), [1, 2]);
  assert.equal(window.version, 0);
});

test("whatever the order of growing and dropping, it holds what a plain list would", () => {
  const random = randomFrom(7);
  const window = new SeriesWindow(viewOf([[0], [0]]));
  const lists = [[0], [0]];
  let first = 0;
  for (let round = 0; round < 400; round += 1) {
    const n = 1 + Math.floor(random() * 40);
    const at = first + lists[0].length - (random() < 0.5 ? 1 : 0);
    const rows = [0, 1].map(() => Array.from({ length: n }, () => Math.fround(random())));
    window.apply(viewOf(rows, { kind: 2, firstBucket: at }));
    rows.forEach((values, row) => lists[row].splice(at - first, n, ...values));
    if (random() < 0.4) {
      const drop = Math.floor(random() * lists[0].length);
      window.dropBefore(first + drop);
      lists.forEach((list) => list.splice(0, drop));
      first += drop;
    }
    assert.equal(window.firstBucket, first);
    assert.deepEqual([rowOf(window, 0), rowOf(window, 1)], lists);
  }
  assert.ok(window.capacity < 5000, "room is used again");
});

test("an empty snapshot takes its first bucket from the first delta", () => {
  const window = new SeriesWindow(viewOf([[], []]));
  assert.ok(window.apply(viewOf([[3], [4]], { kind: 2, firstBucket: 500 })));
  assert.equal(window.firstBucket, 500);
  assert.equal(window.bucketOf(500), 500);
  assert.equal(window.bucketOf(501), -1);
});

test("what changed since last asked", () => {
  const window = new SeriesWindow(viewOf([[1, 2, 3]]));
  assert.equal(window.takeDirty(), 0);
  assert.equal(window.takeDirty(), 3);
  window.apply(viewOf([[4, 5]], { kind: 2, firstBucket: 2 }));
  assert.equal(window.takeDirty(), 2);
});
