import assert from "node:assert/strict";
import { test } from "node:test";

import { LANES } from "../../static/js/core/lanes.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { fakeContext, installBrowser } from "./browser.js";
import { viewOf } from "./helpers.js";

installBrowser();
const { laneTop, LANES_BOTTOM, LANES_TOP, paintLanes, paintOutliers } = await import("../../static/js/ui/lanes.js");

const BOX = { left: 40, right: 140, top: LANES_TOP, bottom: 60 };
const HEIGHT = 60 + LANES_BOTTOM + 2;

function painted(values, range) {
  const canvas = fakeContext(200, HEIGHT);
  const window = new SeriesWindow(viewOf([values]));
  paintLanes(canvas.context, BOX, range, [{ window, row: 0 }]);
  return canvas;
}

test("each lane shows exactly the steps of its kind, pixel by pixel, and nothing spills", () => {
  const values = [1, NaN, 2, Infinity, 0, 3, 0, NaN, -Infinity, 1];
  const { pixels } = painted(values, { from: 0, to: 10 });
  const expected = { NaN: Number.isNaN, Inf: (v) => Math.abs(v) === Infinity, 0: (v) => v === 0 };
  for (const lane of LANES) {
    const line = pixels[laneTop(lane, BOX) + 3];
    for (let x = 0; x < 200; x += 1) {
      const inside = x >= BOX.left && x < BOX.right;
      const step = Math.floor((x - BOX.left) / 10);
      const wanted = !inside ? "" : expected[lane.name](values[step]) ? lane.token : "--surface-2";
      assert.equal(line[x], wanted, `${lane.name} lane at pixel ${x}`);
    }
  }
});

test("lanes lie apart from each other and outside the plot", () => {
  const rows = LANES.map((lane) => [laneTop(lane, BOX), laneTop(lane, BOX) + 7]);
  for (const [top, bottom] of rows) assert.ok(bottom <= BOX.top || top >= BOX.bottom);
  const sorted = [...rows].sort((a, b) => a[0] - b[0]);
  for (let i = 1; i < sorted.length; i += 1) assert.ok(sorted[i][0] >= sorted[i - 1][1]);
});

test("one bad step in ten thousand is seen, also at the very end", () => {
  for (const at of [0, 5000, 9999]) {
    const values = Array(10_000).fill(1);
    values[at] = NaN;
    const { pixels } = painted(values, { from: 0, to: 10_000 });
    const line = pixels[laneTop(LANES[0], BOX) + 3].filter((colour) => colour === "--nan");
    assert.ok(line.length >= 2 && line.length <= 3, `${line.length} pixels for step ${at}`);
  }
});

test("a lane's name is lit only when it holds something", () => {
  const { texts } = painted([1, NaN], { from: 0, to: 2 });
  assert.deepEqual(texts.map(({ text, colour }) => [text, colour]), [["NaN", "--nan"], ["Inf", "--text-3"], ["0", "--text-3"]]);
});

test("outliers are told with their value, one number where two would overlap", () => {
  const canvas = fakeContext(200, HEIGHT);
  const first = new SeriesWindow(viewOf([[1, 900, 1, 1, 1, 1, 1, 1, 1, 1]]));
  const second = new SeriesWindow(viewOf([[1, 1, 500, 1, 1, 1, 1, 1, 1, 0.001]]));
  const rows = [{ window: first, row: 0, colour: "--a" }, { window: second, row: 0, colour: "--b" }];
  paintOutliers(canvas.context, BOX, { from: 0, to: 10 }, { low: 0.1, high: 10 }, rows);
  assert.deepEqual(canvas.texts.map(({ text }) => text), ["900", "0.001"]);
});
