// Codes of the rarer colourings: update/weight ratio, share of zeros, gain over depth. Pure. All scales are fixed.

import { ABSENT, clampLevel, INF, LEVELS, MIDDLE, NAN, ZERO } from "./heat.js";
import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "./codec.js";

/** A healthy update is about a thousandth of the weights; three decades to each side are shown. */
export const USUAL_RATIO = 1e-3;
const DECADES = 3;
/** Gains from 1/8 to 8. */
const OCTAVES = 3;

const around = (share) => clampLevel(MIDDLE + Math.round(share * (MIDDLE - 1)));

function special(flags) {
  if ((flags & PRESENT) === 0) return ABSENT;
  if (flags & HAS_NAN) return NAN;
  return flags & HAS_INF ? INF : null;
}

/** Update over weight; of a bucket that end which is further from the usual. An exact zero is a tensor that did not move. */
export function ratioCell(low, high, flags) {
  const known = special(flags);
  if (known !== null) return known;
  if (flags & HAS_ZERO || !(high > 0)) return ZERO;
  const up = Math.log10(high / USUAL_RATIO);
  const down = low > 0 ? Math.log10(low / USUAL_RATIO) : up;
  return around((Math.abs(up) >= Math.abs(down) ? up : down) / DECADES);
}

/** Share of zeros, 0 to 1: the highest of a bucket. A share of none is a number like others. */
export function zerosCell(_low, high, flags) {
  return special(flags) ?? clampLevel(1 + Math.round(high * (LEVELS - 1)));
}

/** Norm of one row over that of the next; absent where either is. */
export function gainCell(high, flags, nextHigh, nextFlags) {
  if (!(flags & nextFlags & PRESENT)) return ABSENT;
  const known = special(flags | nextFlags);
  if (known !== null) return known;
  if (!(high > 0) || !(nextHigh > 0)) return ZERO;
  return around(Math.log2(high / nextHigh) / OCTAVES);
}

/** The row whose norm a row's is divided by: the next of its siblings, if it is built alike; null otherwise. */
export function nextAlike(row) {
  const siblings = row.parent?.children ?? [];
  const next = siblings[siblings.indexOf(row) + 1];
  const alike = next && next.kind === row.kind && next.size === row.size && row.kind === "group";
  return alike ? next : null;
}

/** The tensors at or below a row, by index. */
export function tensorsBelow(row, into = []) {
  if (row.kind === "tensor") into.push(row.index);
  else for (const child of row.children) tensorsBelow(child, into);
  return into;
}
