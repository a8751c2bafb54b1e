// Series for tests, built from plain lists.

import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "../../static/js/core/codec.js";

/** A decoded view of width-1 buckets from rows of values; undefined is absent. */
export function viewOf(rows, { kind = 1, firstBucket = 0, width = 1 } = {}) {
  const n = rows[0].length;
  const plane = () => new Float32Array(rows.length * n).fill(NaN);
  const view = { kind, id: 1, segment: null, firstBucket, width, n, rows: rows.length };
  Object.assign(view, { low: plane(), high: plane(), last: plane(), flags: new Uint8Array(rows.length * n) });
  rows.flat().forEach((value, cell) => {
    if (value === undefined) return;
    view.last[cell] = value;
    let flags = PRESENT;
    if (Number.isNaN(value)) flags |= HAS_NAN;
    else if (!Number.isFinite(value)) flags |= HAS_INF;
    else {
      view.low[cell] = value;
      view.high[cell] = value;
      if (value === 0) flags |= HAS_ZERO;
    }
    view.flags[cell] = flags;
  });
  view.lastStep = (firstBucket + n) * width - 1;
  view.lastTime = 1000 + view.lastStep;
  return view;
}

/** A small generator of repeatable pseudo-random numbers in [0, 1). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A repeatable number from the standard normal distribution. */
export function normalFrom(seed) {
  const random = randomFrom(seed);
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
