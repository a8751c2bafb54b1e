// Which norms of a distributed run lack parts: windows of `ranks_present` and `ranks` say so. Pure.

import { PRESENT } from "./codec.js";
import { formatCount } from "./format.js";

/** "7 of 8 ranks". */
export const ranksText = ({ present, of }) => `${formatCount(present)} of ${formatCount(of)} ranks`;

/**
 * The fewest ranks that were in at any step of [from, to), as `{present, of}`; null when all were in or nothing is known there.
 * Both windows may have buckets of any width: one step that lacks a rank makes its whole bucket lack it.
 */
export function missingIn(presence, ranks, from, to) {
  const present = extreme(presence, "low", Math.min, from, to);
  const of = extreme(ranks, "high", Math.max, from, to);
  return present < of ? { present, of } : null;
}

/** NaN where the window holds nothing. */
function extreme(window, plane, pick, from, to) {
  let found = NaN;
  const end = Math.min(window.endBucket, Math.ceil(to / window.width));
  for (let bucket = Math.max(window.firstBucket, Math.floor(from / window.width)); bucket < end; bucket += 1) {
    const cell = window.index(0, bucket);
    if (window.flags[cell] & PRESENT) found = Number.isNaN(found) ? window[plane][cell] : pick(found, window[plane][cell]);
  }
  return found;
}

/**
 * Columns `{x, last, low, high}` in two: `whole` has gaps where `lacking` says so; `part` holds the lacking stretches, each joined
 * to its neighbours and followed by a gap.
 */
export function parted(columns, lacking) {
  const whole = { x: columns.x };
  for (const name of ["last", "low", "high"]) whole[name] = columns[name].map((value, i) => (lacking[i] ? NaN : value));
  const part = { x: [], last: [], low: [], high: [] };
  const push = (valueOf) => Object.keys(part).forEach((name) => part[name].push(valueOf(name)));
  lacking.forEach((lacks, i) => {
    if (!lacks) return;
    if (i > 0 && !lacking[i - 1]) push((name) => columns[name][i - 1]);
    push((name) => columns[name][i]);
    if (lacking[i + 1]) return;
    if (i + 1 < lacking.length) push((name) => columns[name][i + 1]);
    push(() => NaN);
  });
  return { whole, part };
}
