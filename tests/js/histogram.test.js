// Histograms over powers of two: what lies below a format's limit, and where the bars stand.

import assert from "node:assert/strict";
import { test } from "node:test";

import { barsOf, limitOf, powerText, saying, shareBelow, totalOf } from "../../static/js/core/histogram.js";

const histogram = (counts = {}, more = {}) => ({ step: 0, zero: 0, below: 0, above: 0, not_finite: 0, lowest_exponent: -38, octaves: Array.from({ length: 44 }, (_, k) => counts[k - 38] ?? 0), ...more });

test("the limit is that of the tensor's format, or of float16 under a loss scale", () => {
  assert.deepEqual(limitOf("float16"), { exponent: -14, format: "float16", scale: null });
  assert.deepEqual(limitOf("float32", 65536), { exponent: -30, format: "float16", scale: 65536 });
  assert.equal(limitOf("bfloat16").exponent, -126);
  assert.equal(limitOf("float32", NaN).format, "float32");
  assert.equal(limitOf("complex64"), null);
});

test("the share below a limit counts whole octaves, a part of the one it cuts, and no zeros", () => {
  const found = histogram({ "-15": 30, "-14": 50 }, { zero: 10, below: 10 });
  assert.equal(totalOf(found), 100);
  assert.equal(shareBelow(found, -14), 0.4);
  assert.equal(shareBelow(found, -13.5), 0.65);
  assert.equal(shareBelow(found, -38), 0.1);
  assert.equal(shareBelow(found, -126), 0);
  assert.ok(Number.isNaN(shareBelow(histogram(), -14)));
});

const said = (...given) => saying(...given).replaceAll("\u00a0", " ");

test("a sentence says what is lost", () => {
  const found = histogram({ "-20": 1, "-10": 98 }, { zero: 1 });
  assert.equal(said(found, limitOf("float16")), "1.0 % too small for float16, 1.0 % exactly zero.");
  assert.equal(said(found, limitOf("float32", 1024)), "0 % too small for float16 at a loss scale of 1,024, 1.0 % exactly zero.");
  assert.equal(said(histogram({ "-20": 1 }), limitOf("float32")), "Nothing near the limit of float32, 0 % exactly zero.");
  assert.equal(said(histogram({ 0: 3 }, { not_finite: 1 }), null), "0 % exactly zero, 25 % not finite.");
  assert.equal(said(histogram(), limitOf("float16")), "");
});

test("powers are written with raised digits", () => {
  assert.deepEqual([-32, 0, 4].map(powerText), ["2⁻³²", "1", "2⁴"]);
});

test("bars run from zeros over the octaves to what is not finite, and none is left out", () => {
  const bars = barsOf(histogram({ "-38": 2, 5: 3 }, { zero: 1, below: 4, above: 5, not_finite: 6 }));
  assert.equal(bars.length, 48);
  assert.deepEqual(bars.filter(({ count }) => count > 0).map(({ kind, exponent, count }) => [kind, exponent, count]), [["zero", null, 1], ["below", null, 4], ["octave", -38, 2], ["octave", 5, 3], ["above", null, 5], ["nan", null, 6]]);
});
