// Where it began, by colour alone: from an unusual column back to the first unusual cell. Pure.

import { ABSENT, INF, LEVELS, LIMIT, MIDDLE, NAN, ZERO } from "./heat.js";

/** Deviations from here on count as unusual, in units of a layer's scale. */
export const UNUSUAL = 3;
/** So many usual buckets in a row may lie inside one unusual stretch. */
const GAP = 1;

const EDGE = (UNUSUAL / LIMIT) * (MIDDLE - 1);

/** Whether a code of a deviation stands for something unusual: far off, exact zero, Inf or NaN. */
export function isUnusual(code) {
  return code > LEVELS || (code !== ABSENT && Math.abs(code - MIDDLE) >= EDGE);
}

/** NaN, Inf and exact zero: what a broken layer hands on to all that lie before it. */
const isBroken = (code) => code === NAN || code === INF || code === ZERO;

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
 * same bucket the deepest in the tree wins (a tensor says more than its group). Among those the first in order, but for NaN,
 * Inf and exact zero in a part of the rows the last: gradients flow from the output to the input, and so do they.
 *
 * @param {{row: {depth: number}, window: object, codeAt: (bucket: number) => number}[]} columns
 */
export function firstUnusual(columns, step) {
  let first = [];
  for (const column of columns) {
    const { window, codeAt } = column;
    const bucket = window.bucketOf(step);
    const start = bucket < 0 ? -1 : stretchStart(codeAt, bucket, window.firstBucket);
    if (start < 0) continue;
    const began = start * window.width;
    if (first.length > 0 && began > first[0].step) continue;
    if (first.length > 0 && began < first[0].step) first = [];
    first.push({ row: column.row, step: began, broken: isBroken(codeAt(start)) });
  }
  if (first.length === 0) return null;
  const deepest = Math.max(...first.map(({ row }) => row.depth));
  const tied = first.filter(({ row }) => row.depth === deepest);
  const spared = columns.some(({ window, codeAt }) => !isBroken(codeAt(window.bucketOf(tied[0].step))));
  const { row, step: began } = tied[0].broken && spared ? tied.at(-1) : tied[0];
  return { row, step: began };
}
