// Codes of the rarer colourings: update/weight ratio, share of zeros, gain over depth. Pure. All scales are fixed.

import { ABSENT, clampLevel, INF, LEVELS, MIDDLE, NAN, ZERO } from "./heat.js";
import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "./codec.js";
import { formatCount, formatNumber, plural } from "./format.js";

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

const SAMPLED = {
  ratio: { statistic: "update_ratio", label: "update/weight", noun: "the update/weight ratio", text: formatNumber },
  zeros: { statistic: "zero_fraction", label: "zeros", noun: "the share of zeros", text: (value) => `${formatNumber(value * 100, 2)}\u00a0%` },
};
/** Steps between samples unless the budget makes them rarer. */
const SAMPLED_EVERY = 10;

/**
 * What was sampled of a tensor, or of the tensors of a group: "update/weight 1.2e-3, sampled at step 120".
 *
 * @param {"ratio"|"zeros"} colouring  @param {{low: number, high: number, flags: number, step: number, width: number}[]} found
 * @param {number} step the one asked for
 */
export function sampledText(colouring, found, step) {
  const { label, text } = SAMPLED[colouring];
  if (found.length === 0) return `${label}: no sample here`;
  const low = text(Math.min(...found.map((one) => one.low)));
  const high = text(Math.max(...found.map((one) => one.high)));
  const flags = found.reduce((all, one) => all | one.flags, 0);
  const special = flags & HAS_NAN ? "NaN" : flags & HAS_INF ? "Inf" : null;
  const value = special ?? (low === high ? low : `${low} to ${high}`);
  const many = found.length > 1 ? ` in ${plural(found.length, "tensor")}` : "";
  const at = Math.max(...found.map((one) => one.step));
  const elsewhere = step < at || step >= at + found[0].width ? `, sampled at step ${formatCount(at)}` : "";
  return `${label} ${value}${many}${elsewhere}`;
}

/** "gain \u00d71.8 over blocks.4": the norm of a row over that of the next one like it. */
export function gainText(value, next, name) {
  if (!value || !next) return "gain: none here";
  if ((value.flags | next.flags) & (HAS_NAN | HAS_INF) || !(next.high > 0)) return `gain over ${name}: not finite`;
  return `gain \u00d7${formatNumber(value.high / next.high)} over ${name}`;
}

/** Why a sampled colouring shows nothing, and when it will. `statistics` are those of the run. */
export function noSamples(colouring, run, statistics) {
  const { statistic, noun } = SAMPLED[colouring];
  const every = Math.round(SAMPLED_EVERY * Math.max(1, run.cost?.thinned || 1));
  const often = run.cost?.budget === 0 ? "the budget for them is 0" : `they are taken about every ${formatCount(every)} steps`;
  if (statistics.some(({ name }) => name === statistic)) return `No samples of ${noun} in these steps; ${often}.`;
  return run.state === "running" ? `No samples of ${noun} yet; ${often}.` : `This run has no samples of ${noun}.`;
}
