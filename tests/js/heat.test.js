import assert from "node:assert/strict";
import { test } from "node:test";

import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "../../static/js/core/codec.js";
import * as heat from "../../static/js/core/heat.js";
import { randomFrom } from "./helpers.js";

const DEVIATION = heat.deviationPriority();

/** Pools rows x n codes into an image, as the heat map does. */
function image(codes, rows, n, { width = 1, range, pixels, height, priority = DEVIATION }) {
  const lines = new Uint8Array(rows * pixels);
  for (let row = 0; row < rows; row += 1) {
    heat.poolRow(codes, row * n, n, 0, width, range, lines, row * pixels, pixels, priority);
  }
  return heat.poolRows(lines, rows, pixels, height, priority);
}

test("a single hot cell is seen, wherever it is, whatever the zoom", () => {
  const random = randomFrom(3);
  for (let round = 0; round < 300; round += 1) {
    const rows = 1 + Math.floor(random() * 1200);
    const n = 1 + Math.floor(random() * 900);
    const width = 4 ** Math.floor(random() * 4);
    const pixels = 20 + Math.floor(random() * 300);
    const height = 10 + Math.floor(random() * 300);
    const codes = new Uint8Array(rows * n).fill(heat.MIDDLE + 3);
    const row = Math.floor(random() * rows);
    const bucket = Math.floor(random() * n);
    const hot = [heat.NAN, heat.INF, heat.LEVELS, 1, heat.MIDDLE + 30][round % 5];
    codes[row * n + bucket] = hot;
    const out = image(codes, rows, n, { width, range: { from: 0, to: n * width }, pixels, height });
    const { top } = heat.rowSpan(row, rows, height);
    const x = Math.min(pixels - 1, Math.floor(((bucket + 0.5) * pixels) / n));
    const near = [x - 1, x, x + 1].some((column) => column >= 0 && column < pixels && out[top * pixels + column] === hot);
    assert.ok(near, `round ${round}: row ${row}/${rows}, bucket ${bucket}/${n}, ${pixels}x${height}`);
  }
});

test("zoomed in, each cell has its own rectangle and nothing bleeds over", () => {
  const codes = Uint8Array.from([1, 60, 121, 60]);
  const out = image(codes, 2, 2, { range: { from: 0, to: 2 }, pixels: 10, height: 6 });
  for (let y = 0; y < 6; y += 1) {
    for (let x = 0; x < 10; x += 1) assert.equal(out[y * 10 + x], codes[(y < 3 ? 0 : 2) + (x < 5 ? 0 : 1)]);
  }
});

test("absent stays absent, and every pixel of a full range is covered", () => {
  const codes = new Uint8Array(7).fill(50);
  codes[3] = heat.ABSENT;
  const out = image(codes, 1, 7, { range: { from: 0, to: 7 }, pixels: 70, height: 1 });
  out.forEach((code, x) => assert.equal(code, Math.floor(x / 10) === 3 ? heat.ABSENT : 50));
});

test("a range inside the data shows only its own buckets", () => {
  const codes = Uint8Array.from([heat.NAN, 40, 41, heat.INF]);
  const out = image(codes, 1, 4, { width: 4, range: { from: 4, to: 12 }, pixels: 8, height: 1 });
  assert.deepEqual([...out], [40, 40, 40, 40, 41, 41, 41, 41]);
});

test("NaN wins over Inf, Inf over any level, the farther level over the nearer, up over down", () => {
  const order = [heat.ABSENT, heat.MIDDLE, heat.MIDDLE - 10, heat.MIDDLE + 10, 1, heat.LEVELS, heat.INF, heat.NAN];
  for (let i = 1; i < order.length; i += 1) assert.ok(DEVIATION[order[i]] > DEVIATION[order[i - 1]]);
});

test("a cell's code: what isn't a number first, then the farther extreme", () => {
  const code = (low, high, flags) => heat.deviationCell(low, high, flags, 0, 1, 0, DEVIATION);
  assert.equal(code(1, 1, 0), heat.ABSENT);
  assert.equal(code(1, 1, PRESENT | HAS_NAN | HAS_INF), heat.NAN);
  assert.equal(code(1, 1, PRESENT | HAS_INF), heat.INF);
  assert.equal(code(0, 0, PRESENT | HAS_ZERO), heat.ZERO);
  assert.equal(code(1, 1, PRESENT), heat.MIDDLE);
  assert.equal(code(1, 8, PRESENT), heat.deviationCode(3));
  assert.equal(code(1 / 32, 8, PRESENT), heat.deviationCode(-5));
  assert.equal(code(1e-30, 1e30, PRESENT), heat.LEVELS);
});

test("a zero among usual values shows, and gives way to something hotter", () => {
  const code = (high) => heat.deviationCell(0, high, PRESENT | HAS_ZERO, 0, 1, 0, DEVIATION);
  assert.equal(code(1.1), heat.ZERO);
  assert.equal(code(2 ** 6), heat.LEVELS);
});

test("what a wide bucket explains isn't coloured", () => {
  const slack = heat.reach(4096) - 1;
  const edge = 2 ** heat.reach(4096);
  assert.ok(Math.abs(heat.deviationCell(1 / edge, edge, PRESENT, 0, 1, slack, DEVIATION) - heat.MIDDLE) <= 11);
  assert.equal(heat.deviationCell(1, 2 ** 12, PRESENT, 0, 1, slack, DEVIATION), heat.LEVELS);
});

test("sizes: larger wins, and zero is told from small", () => {
  const priority = heat.sizePriority();
  const axis = { low: -10, high: 10 };
  assert.equal(heat.sizeCell(2 ** -10, PRESENT, axis, priority), 1);
  assert.equal(heat.sizeCell(2 ** 12, PRESENT, axis, priority), heat.LEVELS);
  assert.equal(heat.sizeCell(0, PRESENT | HAS_ZERO, axis, priority), heat.ZERO);
  assert.equal(heat.sizeCell(NaN, PRESENT | HAS_NAN, axis, priority), heat.NAN);
  assert.ok(priority[80] > priority[40]);
});
