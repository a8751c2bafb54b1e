// A gradient's histogram over powers of two, as the API gives it: what lies below a number format's limit. Pure.

/** Exponent of the smallest normal number: below it a format loses precision, and soon everything. */
const SMALLEST_NORMAL = { float16: -14, bfloat16: -126, float32: -126, float64: -1022, float8_e4m3fn: -6, float8_e5m2: -14 };

/**
 * Where a tensor's gradient begins to underflow: `{exponent, format, scale}`, null where that is not known. A loss scale says
 * that it has passed through float16, multiplied by it; otherwise it is in the tensor's own format.
 */
export function limitOf(dtype, lossScale = null) {
  const scaled = lossScale !== null && lossScale > 0 && Number.isFinite(lossScale);
  const format = scaled ? "float16" : dtype;
  const exponent = SMALLEST_NORMAL[format];
  if (exponent === undefined) return null;
  return { exponent: exponent - (scaled ? Math.log2(lossScale) : 0), format, scale: scaled ? lossScale : null };
}

/** How many elements were looked at. */
export function totalOf({ zero, below, octaves, above, not_finite: notFinite }) {
  return octaves.reduce((sum, count) => sum + count, zero + below + above + notFinite);
}

/** The share of elements that are not zero and smaller than `2^exponent`; of an octave that it cuts, its part. */
export function shareBelow(histogram, exponent) {
  const total = totalOf(histogram);
  if (total === 0) return NaN;
  const first = histogram.lowest_exponent;
  if (exponent < first) return 0;
  const inside = histogram.octaves.reduce((sum, count, k) => sum + count * Math.min(1, Math.max(0, exponent - first - k)), histogram.below);
  return inside / total;
}

const percent = (share) => (share === 0 ? "0\u00a0%" : share < 0.001 ? "<\u00a00.1\u00a0%" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`);

/** `2⁻¹⁶`, and 1 for `2⁰`. */
export function powerText(exponent) {
  const raised = [...String(exponent)].map((letter) => (letter === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[letter])).join("");
  return exponent === 0 ? "1" : `2${raised}`;
}

/** What a histogram says in a sentence: zeros, what underflows, and what is not finite. */
export function saying(histogram, limit) {
  const total = totalOf(histogram);
  if (total === 0) return "";
  const parts = [];
  if (limit !== null) {
    const where = limit.scale === null ? limit.format : `float16 at a loss scale of ${limit.scale.toLocaleString("en")}`;
    const seen = limit.exponent >= histogram.lowest_exponent || histogram.below > 0;
    parts.push(seen ? `${percent(shareBelow(histogram, limit.exponent))} too small for ${where}` : `nothing near the limit of ${where}`);
  }
  parts.push(`${percent(histogram.zero / total)} exactly zero`);
  if (histogram.not_finite > 0) parts.push(`${percent(histogram.not_finite / total)} not finite`);
  const text = parts.join(", ");
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

/** Bars from left to right: `[{kind, count, exponent}]`, an octave's exponent that of its lower end. */
export function barsOf({ zero, below, octaves, above, not_finite: notFinite, lowest_exponent: first }) {
  return [
    { kind: "zero", count: zero, exponent: null },
    { kind: "below", count: below, exponent: null },
    ...octaves.map((count, k) => ({ kind: "octave", count, exponent: first + k })),
    { kind: "above", count: above, exponent: null },
    { kind: "nan", count: notFinite, exponent: null },
  ];
}
