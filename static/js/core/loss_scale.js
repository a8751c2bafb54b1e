// The loss scale of mixed precision: its axis in powers of two, its line in steps. Pure.

const SUPERSCRIPT = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";

/** "2¹⁶" for 65,536; "" for what is no scale. */
export function powerText(scale) {
  if (!(scale > 0) || !Number.isFinite(scale)) return "";
  const digits = [...String(Math.round(Math.log2(scale)))].map((digit) => (digit === "-" ? "\u207b" : SUPERSCRIPT[digit]));
  return `2${digits.join("")}`;
}

/** Whole powers of two around all values, at least two apart: `{low, high}` as exponents, null without any. */
export function powersOf(low, high) {
  const known = [...low, ...high].filter((value) => value > 0 && value < Infinity).map(Math.log2);
  if (known.length === 0) return null;
  const bottom = Math.floor(Math.min(...known));
  const top = Math.ceil(Math.max(...known));
  return top - bottom >= 2 ? { low: bottom, high: top } : { low: bottom - 1, high: top + 1 };
}

/**
 * Corners of the step line in fractions of the plot: `[[x, y]]` with x along the range and y from the bottom. A scale holds
 * until the next is known.
 *
 * @param {{x: number[], last: number[]}} columns  @param {{from: number, to: number}} range
 */
export function stairsOf({ x, last }, range, powers) {
  const corners = [];
  const wide = range.to - range.from;
  x.forEach((step, i) => {
    if (!(last[i] > 0)) return;
    const at = Math.min(1, Math.max(0, (step - range.from) / wide));
    const y = (Math.log2(last[i]) - powers.low) / (powers.high - powers.low);
    if (corners.length > 0 && corners.at(-1)[1] !== y) corners.push([at, corners.at(-1)[1]]);
    corners.push([at, y]);
  });
  return corners;
}
