// The three lanes at a chart's edge, for what a log axis can't hold: NaN and Inf above, exact zero below. And the arrows for
// values beyond the axis. Pure: buckets in, pixel spans out.

import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "./codec.js";

/** Lanes from the outside in: name, the flag that fills it, and the edge it lies at. */
export const LANES = [
  { name: "NaN", flag: HAS_NAN, edge: "top", token: "--nan" },
  { name: "Inf", flag: HAS_INF, edge: "top", token: "--inf" },
  { name: "0", flag: HAS_ZERO, edge: "bottom", token: "--zero" },
];

/** Height of a lane in CSS pixels, and the least width of a tick in it. */
export const LANE = 8;
export const LEAST_TICK = 2;

/**
 * Pixel spans `[x0, x1)` of buckets of `row` whose flags hold `flag`, joined where they touch. `range` is the steps shown
 * over `pixels`. Each is at least LEAST_TICK wide and inside the chart.
 */
export function laneSpans(window, row, flag, range, pixels) {
  const scale = pixels / (range.to - range.from);
  const begin = Math.max(window.firstBucket, Math.floor(range.from / window.width));
  const end = Math.min(window.endBucket, Math.ceil(range.to / window.width));
  const spans = [];
  for (let bucket = begin; bucket < end; bucket += 1) {
    const flags = window.flags[window.index(row, bucket)];
    if ((flags & PRESENT) === 0 || (flags & flag) === 0) continue;
    const left = (bucket * window.width - range.from) * scale;
    const x0 = Math.min(pixels - LEAST_TICK, Math.max(0, left));
    const x1 = Math.min(pixels, Math.max(x0 + LEAST_TICK, left + window.width * scale));
    const before = spans.at(-1);
    if (before && before.x1 >= x0 - 0.5) before.x1 = Math.max(before.x1, x1);
    else spans.push({ x0, x1 });
  }
  return spans;
}

/** A value hardly beyond the axis needs no arrow: it has to be so many times its end. */
const WORTH = 1.5;

/**
 * Values well beyond the axis, for arrows at its edge: `{x, edge, value, step}`, the farthest of each stretch of `apart`
 * pixels. At the lower edge only positive values count.
 */
export function outliers(window, row, range, axis, pixels, apart = 28) {
  const scale = pixels / (range.to - range.from);
  const begin = Math.max(window.firstBucket, Math.floor(range.from / window.width));
  const end = Math.min(window.endBucket, Math.ceil(range.to / window.width));
  const found = [];
  const add = (edge, bucket, value, farther) => {
    const step = bucket * window.width;
    const x = Math.min(pixels, Math.max(0, (step + window.width / 2 - range.from) * scale));
    const near = found.findLast((item) => item.edge === edge && x - item.x < apart);
    if (!near) found.push({ x, edge, value, step });
    else if (farther(value, near.value)) Object.assign(near, { x, value, step });
  };
  for (let bucket = begin; bucket < end; bucket += 1) {
    const cell = window.index(row, bucket);
    if ((window.flags[cell] & PRESENT) === 0) continue;
    const high = window.high[cell];
    const low = window.low[cell];
    if (Number.isFinite(high) && high > axis.high * (axis.high > 0 ? WORTH : 1)) add("top", bucket, high, (a, b) => a > b);
    if (low > 0 && low * WORTH < axis.low) add("bottom", bucket, low, (a, b) => a < b);
  }
  return found;
}
