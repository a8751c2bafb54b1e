// Where it began, by colour alone: from an unusual column back to the first unusual cell. Pure.

import { ABSENT, LEVELS, LIMIT, MIDDLE } from "./heat.js";

/** Deviations from here on count as unusual, in units of a layer's scale. */
export const UNUSUAL = 3;
/** So many usual buckets in a row may lie inside one unusual stretch. */
const GAP = 1;

const EDGE = (UNUSUAL / LIMIT) * (MIDDLE - 1);

/** Whether a code of a deviation stands for something unusual: far off, exact zero, Inf or NaN. */
export function isUnusual(code) {
  return code > LEVELS || (code !== ABSENT && Math.abs(code - MIDDLE) >= EDGE);
}

/**
 * First bucket of the unusual stretch that holds `bucket`, -1 when the row is as usual there. `codeAt(bucket)` is the code
 * of a row's bucket, `first` the first bucket known.
 */
export function stretchStart(codeAt, bucket, first) {
  if (!isUnusual(codeAt(bucket))) return -1;
  let start = bucket;
  for (let at = bucket - 1; at >= first && start - at <= GAP + 1; at -= 1) if (isUnusual(codeAt(at))) start = at;
  return start;
}

/**
 * The row whose unusual stretch at `step` began first: `{row, step}`, null when all is as usual. Of rows that began in the
 * same bucket the deepest in the tree wins (a tensor says more than its group), then the first in order.
 *
 * @param {{row: {depth: number}, window: object, codeAt: (bucket: number) => number}[]} columns
 */
export function firstUnusual(columns, step) {
  let best = null;
  for (const { row, window, codeAt } of columns) {
    const bucket = window.bucketOf(step);
    if (bucket < 0) continue;
    const start = stretchStart(codeAt, bucket, window.firstBucket);
    if (start < 0) continue;
    const began = start * window.width;
    if (best === null || began < best.step || (began === best.step && row.depth > best.row.depth)) best = { row, step: began };
  }
  return best;
}
