// Heat cells: from numbers to colour codes, and from cells to pixels. Pure.
//
// A code is one byte: 0 absent, 1..LEVELS a level (the middle one is "as usual" for deviations), then exact zero, Inf, NaN.
// Cells are pooled to device pixels by priority in both axes, so that a single hot cell is seen at every zoom.

import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "./codec.js";

export const ABSENT = 0;
export const LEVELS = 121;
export const MIDDLE = 61;
export const ZERO = 122;
export const INF = 123;
export const NAN = 124;
export const CODES = 125;

/** Deviations are shown from -LIMIT to +LIMIT, whatever the data: a fixed scale can be learnt. */
export const LIMIT = 6;

/** Norms are shown from 1e-7 to 1e3, in octaves: fixed too, so that two runs are compared by eye. */
export const NORM_AXIS = { low: Math.log2(1e-7), high: Math.log2(1e3) };

export const clampLevel = (level) => Math.min(LEVELS, Math.max(1, level));

/** The code of a deviation in units of a layer's own scale. */
export const deviationCode = (z) => clampLevel(MIDDLE + Math.round((z / LIMIT) * (MIDDLE - 1)));

/** The code of a size on a log2 axis from `low` to `high`. */
export function sizeCode(log2, low, high) {
  return clampLevel(1 + Math.round(((log2 - low) / (high - low)) * (LEVELS - 1)));
}

/** What wins a pixel when deviations meet: NaN, Inf, then the farthest from usual; an exact zero counts as far. */
export function deviationPriority() {
  const priority = new Uint8Array(CODES);
  for (let code = 1; code <= LEVELS; code += 1) {
    const away = Math.abs(code - MIDDLE);
    priority[code] = 2 * away + (code >= MIDDLE ? 2 : 1);
  }
  priority[ZERO] = 100;
  priority[INF] = 254;
  priority[NAN] = 255;
  return priority;
}

/** What wins when sizes meet: NaN, Inf, then the largest; an exact zero beats the lower half. */
export function sizePriority() {
  const priority = new Uint8Array(CODES);
  for (let code = 1; code <= LEVELS; code += 1) priority[code] = 2 * code;
  priority[ZERO] = 2 * MIDDLE + 1;
  priority[INF] = 254;
  priority[NAN] = 255;
  return priority;
}

/**
 * How far the extremes of `width` usual values lie from their centre, in units of scale (the first term of the normal
 * distribution's expected maximum, sqrt(2 ln n)); 1 for a single value. Wide buckets are judged against it.
 */
export const reach = (width) => Math.max(1, Math.sqrt(2 * Math.log(Math.max(1, width))));

/**
 * Codes of one cell by deviation. `centre` and `scale` are in octaves (log2). The part of a deviation that the mere width of
 * the bucket explains is taken off, so that zooming out doesn't redden a healthy run.
 */
export function deviationCell(low, high, flags, centre, scale, slack, priority) {
  if ((flags & PRESENT) === 0) return ABSENT;
  if (flags & HAS_NAN) return NAN;
  if (flags & HAS_INF) return INF;
  let code = flags & HAS_ZERO ? ZERO : ABSENT;
  if (high > 0 && scale > 0) {
    const up = (Math.log2(high) - centre) / scale;
    const down = low > 0 ? (Math.log2(low) - centre) / scale : up;
    const z = Math.abs(up) >= Math.abs(down) ? up : down;
    const size = Math.max(0, Math.abs(z) - slack);
    const level = deviationCode(z < 0 ? -size : size);
    if (code === ABSENT || priority[level] > priority[code]) code = level;
  }
  return code;
}

/** Codes of one cell by size on the axis `axis = {low, high}` of log2 values. */
export function sizeCell(high, flags, axis, priority) {
  if ((flags & PRESENT) === 0) return ABSENT;
  if (flags & HAS_NAN) return NAN;
  if (flags & HAS_INF) return INF;
  const zero = flags & HAS_ZERO ? ZERO : ABSENT;
  if (!(high > 0)) return zero;
  const level = sizeCode(Math.log2(high), axis.low, axis.high);
  return priority[zero] > priority[level] ? zero : level;
}

/**
 * Pools one row of codes into `pixels` device pixels. Bucket b covers steps `[b * width, (b + 1) * width)`; each bucket in
 * range gets at least one pixel, and the code of higher priority keeps it.
 *
 * @param {Uint8Array} codes of buckets `firstBucket ..`, `n` of them from `at`
 * @param {Uint8Array} out `pixels` codes from `outAt`, expected to be 0
 */
export function poolRow(codes, at, n, firstBucket, width, range, out, outAt, pixels, priority) {
  const scale = pixels / (range.to - range.from);
  const begin = Math.max(0, Math.floor(range.from / width) - firstBucket);
  const end = Math.min(n, Math.ceil(range.to / width) - firstBucket);
  for (let i = begin; i < end; i += 1) {
    const code = codes[at + i];
    if (code === ABSENT) continue;
    const step = (firstBucket + i) * width;
    const left = Math.min(pixels - 1, Math.max(0, Math.round((step - range.from) * scale)));
    const right = Math.min(pixels, Math.max(left + 1, Math.round((step + width - range.from) * scale)));
    const rank = priority[code];
    for (let x = left; x < right; x += 1) {
      if (rank > priority[out[outAt + x]]) out[outAt + x] = code;
    }
  }
}

/** The pixel lines `[top, bottom)` of row `row` of `rows` in `height` pixels: at least one line each. */
export function rowSpan(row, rows, height) {
  const top = Math.min(height - 1, Math.round((row * height) / rows));
  return { top, bottom: Math.min(height, Math.max(top + 1, Math.round(((row + 1) * height) / rows))) };
}

/**
 * Lays pooled rows out over `height` lines by priority. `lines` holds rows x `pixels` codes; returns `height` x `pixels`.
 */
export function poolRows(lines, rows, pixels, height, priority) {
  const out = new Uint8Array(pixels * height);
  for (let row = 0; row < rows; row += 1) {
    const { top, bottom } = rowSpan(row, rows, height);
    const source = row * pixels;
    const target = top * pixels;
    for (let x = 0; x < pixels; x += 1) {
      const code = lines[source + x];
      if (priority[code] > priority[out[target + x]]) out[target + x] = code;
    }
    for (let y = top + 1; y < bottom; y += 1) out.copyWithin(y * pixels, target, target + pixels);
  }
  return out;
}
