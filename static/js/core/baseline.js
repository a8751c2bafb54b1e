// What is normal for each row: a centre and a scale in octaves (log2) along the run, from the overview of the whole run, so
// that a cell has the same colour at every zoom. Pure.
//
// The estimate follows the run causally: at a bucket it knows only what came before (the first buckets share the robust
// start: median and MAD of the first SEED). A bucket far off moves it little, so an explosion doesn't become the norm at
// once; if the run stays there, it is learnt in time.

import { HAS_INF, HAS_NAN, PRESENT } from "./codec.js";
import { reach } from "./heat.js";

const SEED = 24;
/** Least scale in octaves: below it a layer counts as perfectly steady, and 6 units are a factor of 2.8. */
export const LEAST_SCALE = 0.25;
const MAD_TO_SIGMA = 1.4826;
const RATE = 0.06;
/** Beyond this many units a bucket is taken for abnormal and moves the estimate at a tenth of the rate. */
const ABNORMAL = 3;

function median(sorted) {
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Median and 1.4826 x median absolute deviation: `{centre, scale}`, NaN for no values. */
export function robust(values) {
  if (values.length === 0) return { centre: NaN, scale: NaN };
  const centre = median(Float64Array.from(values).sort());
  const scale = MAD_TO_SIGMA * median(Float64Array.from(values, (value) => Math.abs(value - centre)).sort());
  return { centre, scale };
}

export class Baseline {
  constructor() {
    this.width = 0;
    this.rows = 0;
    this.firstBucket = 0;
    this.n = 0;
    this.source = null;
  }

  /** Takes in what is new in the overview; whatever changed before its last bucket is worked out again. */
  update(overview) {
    const fresh = overview !== this.source || overview.firstBucket !== this.firstBucket || overview.n < this.n;
    if (fresh) {
      this.source = overview;
      this.width = overview.width;
      this.rows = overview.rows;
      this.firstBucket = overview.firstBucket;
      this.n = 0;
    }
    if (overview.n === this.n) return;
    this.#reserve(overview.n);
    // The last known bucket may have been open when it was taken: begin with it again.
    const begin = this.n <= SEED ? 0 : this.n - 1;
    for (let row = 0; row < this.rows; row += 1) this.#follow(overview, row, begin);
    this.n = overview.n;
  }

  #reserve(n) {
    if (this.n > 0 && n <= this.capacity) return;
    const capacity = Math.max(512, n * 2);
    const centre = new Float64Array(this.rows * capacity).fill(NaN);
    const scale = new Float64Array(this.rows * capacity).fill(NaN);
    for (let row = 0; row < this.rows && this.n > 0; row += 1) {
      const from = row * this.capacity;
      centre.set(this.centre.subarray(from, from + this.n), row * capacity);
      scale.set(this.scale.subarray(from, from + this.n), row * capacity);
    }
    this.capacity = capacity;
    this.centre = centre;
    this.scale = scale;
  }

  #follow(overview, row, begin) {
    const at = row * this.capacity;
    const cells = overview.index(row, overview.firstBucket);
    const extreme = reach(this.width);
    let centre;
    let scale;
    let first = begin;
    if (begin === 0) {
      ({ centre, scale } = this.#seed(overview, cells, extreme));
      first = Math.min(SEED, overview.n);
      for (let i = 0; i < first; i += 1) this.#put(at + i, centre, scale);
    } else {
      centre = this.centre[at + begin];
      scale = this.scale[at + begin];
    }
    for (let i = first; i < overview.n; i += 1) {
      const cell = bucketAt(overview, cells + i, extreme);
      if (cell !== null && Number.isNaN(centre)) {
        centre = cell.middle;
        scale = Math.max(cell.spread, LEAST_SCALE);
      }
      this.#put(at + i, centre, scale);
      if (cell === null) continue;
      const off = cell.middle - centre;
      const units = Math.abs(off) / scale;
      const rate = units > ABNORMAL ? RATE / 10 : RATE;
      centre += rate * Math.sign(off) * Math.min(Math.abs(off), ABNORMAL * scale);
      // For a normal distribution sigma is 1.2533 x the mean absolute deviation.
      const seen = Math.hypot(1.2533 * Math.min(Math.abs(off), ABNORMAL * scale), cell.spread);
      scale += (rate / 2) * (Math.min(seen, ABNORMAL * scale) - scale);
      scale = Math.max(scale, LEAST_SCALE);
    }
  }

  #put(at, centre, scale) {
    this.centre[at] = centre;
    this.scale[at] = scale;
  }

  #seed(overview, cells, extreme) {
    const middles = [];
    const spreads = [];
    for (let i = 0; i < Math.min(SEED, overview.n); i += 1) {
      const cell = bucketAt(overview, cells + i, extreme);
      if (cell === null) continue;
      middles.push(cell.middle);
      spreads.push(cell.spread);
    }
    const { centre, scale } = robust(middles);
    return { centre, scale: Math.max(Math.hypot(scale, robust(spreads).centre), LEAST_SCALE) };
  }

  /** Position of the estimate for `row` at `step` in `centre` and `scale`; -1 when nothing is known yet. */
  at(row, step) {
    if (this.n === 0 || row >= this.rows) return -1;
    const bucket = Math.floor(step / this.width) - this.firstBucket;
    return row * this.capacity + Math.min(this.n - 1, Math.max(0, bucket));
  }
}

/** Middle and spread (one unit of scale) of a bucket in octaves, null when it holds no positive finite value. */
function bucketAt(overview, cell, extreme) {
  const flags = overview.flags[cell];
  const high = overview.high[cell];
  if ((flags & PRESENT) === 0 || !(high > 0) || high === Infinity) return null;
  // A bucket that blew up half-way says nothing about what is usual.
  if (flags & (HAS_NAN | HAS_INF)) return null;
  const top = Math.log2(high);
  const bottom = overview.low[cell] > 0 ? Math.log2(overview.low[cell]) : top;
  return { middle: (top + bottom) / 2, spread: (top - bottom) / 2 / extreme };
}
