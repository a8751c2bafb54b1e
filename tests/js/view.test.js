import assert from "node:assert/strict";
import { test } from "node:test";

import * as view from "../../static/js/core/view.js";

test("the whole run grows, the newest steps slide, a stretch stands still", () => {
  assert.deepEqual(view.rangeOf(view.WHOLE, 0, 999), { from: 0, to: 1000 });
  assert.deepEqual(view.rangeOf({ from: null, to: null, last: 200 }, 0, 999), { from: 800, to: 1000 });
  assert.deepEqual(view.rangeOf({ from: 10, to: 60, last: null }, 0, 999), { from: 10, to: 60 });
  assert.deepEqual(view.rangeOf(view.WHOLE, -1, -1), { from: 0, to: view.MIN_SPAN });
  assert.deepEqual(view.rangeOf(view.WHOLE, 5000, 5100), { from: 5000, to: 5101 });
});

test("zooming keeps the step under the pointer in place", () => {
  const range = { from: 0, to: 1000 };
  const closer = view.zoomed(range, 300, 0.5, 0, 999);
  assert.deepEqual(closer, { from: 150, to: 650, last: null });
  assert.equal((300 - closer.from) / (closer.to - closer.from), 0.3);
});

test("zooming out over everything follows the run again", () => {
  assert.equal(view.zoomed({ from: 100, to: 900 }, 500, 2, 0, 999), view.WHOLE);
  assert.ok(view.isLive(view.WHOLE));
});

test("no zoom or pan leaves the run or gets narrower than allowed", () => {
  assert.deepEqual(view.panned({ from: 100, to: 200 }, -500, 0, 999), { from: 0, to: 100, last: null });
  assert.deepEqual(view.panned({ from: 100, to: 200 }, 5000, 0, 999), { from: 900, to: 1000, last: null });
  const tight = view.zoomed({ from: 100, to: 110 }, 105, 0.01, 0, 999);
  assert.equal(tight.to - tight.from, view.MIN_SPAN);
});
