import assert from "node:assert/strict";
import { test } from "node:test";

import * as format from "../../static/js/core/format.js";

const spaced = (text) => text.replaceAll("\u00a0", " ").replaceAll("\u2212", "-");

test("numbers are short, and never lose what they are", () => {
  const cases = [
    [0, "0"], [NaN, "NaN"], [Infinity, "Inf"], [-Infinity, "-Inf"], [0.812, "0.812"], [0.8, "0.8"], [1, "1"], [12.44, "12.4"],
    [100, "100"], [999.4, "999"], [999.6, "1 k"], [1234, "1.23 k"], [12400, "12.4 k"], [999999, "1 M"], [1.5e6, "1.5 M"],
    [0.00012, "1.2e-4"], [1e-4, "1e-4"], [0.001, "0.001"], [1e9, "1e9"], [3.456e19, "3.46e19"], [-2.5, "-2.5"], [1e-45, "1e-45"],
  ];
  for (const [value, text] of cases) assert.equal(spaced(format.formatNumber(value)), text, String(value));
  for (const [value, text] of [[113, "110"], [996, "1 k"], [4_480, "4.5 k"], [12, "12"], [0.116, "0.12"]]) assert.equal(spaced(format.formatNumber(value, 2)), text, String(value));
});

test("JSON numbers that JSON can't hold come back as themselves", () => {
  assert.ok(Number.isNaN(format.numberOf("NaN")));
  assert.ok(Number.isNaN(format.numberOf(null)));
  assert.equal(format.numberOf("-Infinity"), -Infinity);
  assert.equal(format.numberOf(2), 2);
});

test("steps are never rounded; axis ticks are shortened without loss", () => {
  assert.equal(format.formatCount(12047), "12,047");
  assert.equal(format.formatCount(1234567), "1,234,567");
  assert.equal(format.formatCount(12), "12");
  assert.equal(spaced(format.formatTick(12500)), "12.5 k");
  assert.equal(spaced(format.formatTick(800)), "800");
  assert.equal(spaced(format.formatTick(1250000)), "1.25 M");
});

test("durations hold at most two units", () => {
  const cases = [
    [0.4, "0.4 s"], [12, "12 s"], [59.6, "1 min"], [300, "5 min"], [6 * 3600 + 720, "6 h 12 min"], [7200, "2 h"],
    [3 * 86400 + 4 * 3600 + 300, "3 d 4 h"], [-3, "0.0 s"], [NaN, "unknown"],
  ];
  for (const [seconds, text] of cases) assert.equal(spaced(format.formatDuration(seconds)), text);
  assert.equal(format.formatAgo(0.5), "just now");
  assert.equal(spaced(format.formatAgo(12)), "12 s ago");
});

test("rates turn over into seconds per step when slow", () => {
  assert.equal(spaced(format.formatRate(12.44)), "12.4 steps/s");
  assert.equal(spaced(format.formatRate(0.3125)), "3.2 s/step");
  assert.equal(format.formatRate(0), "");
});

test("UTC and local time name the same moment", () => {
  assert.equal(format.formatUtc(1740830709), "2025-03-01 12:05:09 UTC");
  const local = format.formatTime(1740830709).replace("\u2212", "-");
  const [day, clock, zone] = local.split(" ");
  assert.equal(Date.parse(`${day}T${clock}${zone}`), 1740830709000);
});

test("bytes and counted nouns", () => {
  assert.equal(spaced(format.formatBytes(812)), "812 B");
  assert.equal(spaced(format.formatBytes(4830)), "4.83 kB");
  assert.equal(spaced(format.plural(1, "step")), "1 step");
  assert.equal(spaced(format.plural(1200, "step")), "1,200 steps");
});
