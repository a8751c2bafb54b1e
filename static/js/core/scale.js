// Axes: ticks for people and ranges that show what matters. Pure.

import { formatNumber } from "./format.js";

/** Whole steps for a step axis: about `count` round values inside `[from, to)`, never closer than one step. */
export function stepTicks(from, to, count) {
  const raw = Math.max(1, (to - from) / Math.max(1, count));
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 5, 10].map((factor) => factor * magnitude).find((step) => step >= raw - 1e-9) ?? 10 * magnitude;
  const ticks = [];
  for (let tick = Math.ceil(from / unit) * unit; tick < to; tick += unit) ticks.push(tick);
  return ticks;
}

/** Round values on a linear axis, two at least. */
export function linearTicks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 2.5, 5, 10].map((factor) => factor * magnitude).find((step) => step >= raw * 0.999);
  const ticks = [];
  const begin = Math.ceil(low / unit - 1e-9);
  for (let i = begin; i * unit <= high + unit * 1e-9; i += 1) ticks.push(Number((i * unit).toPrecision(12)));
  return ticks.length >= 2 || count > 8 ? ticks : linearTicks(low, high, 2 * count);
}

/** Values on a log axis: powers of ten, thinned to about `count`; within two decades also 2 and 5. */
export function logTicks(low, high, count) {
  const bottom = Math.log10(low);
  const top = Math.log10(high);
  const every = Math.max(1, Math.ceil((top - bottom) / Math.max(1, count)));
  const factors = top - bottom < 2.2 && count >= 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = Math.floor(bottom); power <= Math.ceil(top); power += 1) {
    if (power % every !== 0) continue;
    for (const factor of factors) {
      const tick = Number(`${factor}e${power}`);
      if (tick >= low * 0.9999 && tick <= high * 1.0001) ticks.push(tick);
    }
  }
  if (ticks.length >= 2) return ticks;
  return linearTicks(low, high, Math.max(2, count)).filter((tick) => tick > 0);
}

export const tickTexts = (ticks) => ticks.map((tick) => formatNumber(tick));

/** The value below which the share `q` of ascending `sorted` lies, interpolated. */
export function quantile(sorted, q) {
  if (sorted.length === 0) return NaN;
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(sorted.length - 1, below + 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

/** How far beyond the data an alert line may lie and still be on the axis: a farther one would flatten the curve. */
const KEEP_FACTOR = 30;
/** On a log axis what lies within this factor of the middle 99 % is shown too: it costs little room. */
const LOG_REACH = 30;

function worthKeeping(value, low, high, log) {
  if (!Number.isFinite(low)) return true;
  if (log) return value <= high * KEEP_FACTOR && value >= low / KEEP_FACTOR;
  const room = 2 * Math.max(high - low, Math.abs(high) / 4);
  return value <= high + room && value >= low - room;
}

/**
 * The y range for values: the middle 99 %, on a log axis also what is near it, and every line in `keep` that isn't far off. On a log axis only positive values
 * count. `{low, high}`, or null when there is nothing to fit.
 *
 * @param {ArrayLike<number>} values @param {number[]} keep values that should be inside (alert lines)
 */
export function fitRange(values, keep, log) {
  const usable = (value) => Number.isFinite(value) && (!log || value > 0);
  const sorted = Float64Array.from(Array.from(values).filter(usable)).sort();
  let low = sorted.length > 0 ? quantile(sorted, 0.005) : Infinity;
  let high = sorted.length > 0 ? quantile(sorted, 0.995) : -Infinity;
  if (log && sorted.length > 0) {
    const [least, most] = [low / LOG_REACH, high * LOG_REACH];
    low = sorted.find((value) => value >= least);
    high = sorted.findLast((value) => value <= most);
  }
  const kept = keep.filter((value) => usable(value) && worthKeeping(value, low, high, log));
  if (sorted.length === 0 && kept.length === 0) return null;
  low = Math.min(low, ...kept);
  high = Math.max(high, ...kept);
  if (log) {
    // At least half a decade, so that noise doesn't fill the chart.
    const pad = Math.max(1.12, Math.sqrt(Math.max(1, Math.sqrt(10) / (high / low))) * 1.08);
    return { low: low / pad, high: high * pad };
  }
  if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const margin = (high - low) * 0.06;
  return { low: low - margin, high: high + margin };
}

/** The wider of two ranges: while live, an axis grows and never shrinks by itself. */
export function widened(before, now) {
  if (before === null || now === null) return now ?? before;
  const low = Math.min(before.low, now.low);
  const high = Math.max(before.high, now.high);
  return low === before.low && high === before.high ? before : { low, high };
}

/** Where a value stands between the ends of a range: 0 at the bottom, 1 at the top; outside beyond. */
export function position(value, range, log) {
  return log
    ? Math.log(value / range.low) / Math.log(range.high / range.low)
    : (value - range.low) / (range.high - range.low);
}

/** The value at a position, the inverse of {@link position}. */
export function valueAt(share, range, log) {
  return log ? range.low * (range.high / range.low) ** share : range.low + share * (range.high - range.low);
}
