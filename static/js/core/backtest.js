// What a rule would have done, in a sentence, and the threshold that a new one begins with. Pure.

import { PRESENT } from "./codec.js";
import { formatCount, plural } from "./format.js";
import { beginsOver } from "./incident.js";
import { quantile } from "./scale.js";

const NAMED = 5;

/**
 * Twice the 99th percentile of what was highest in each bucket outside of incidents, to two digits; of the calmest hundredth in
 * a run that was hardly ever outside of one. 1 while nothing is known.
 *
 * @param {object | null} window whose row 0 is looked at  @param {object} judged incidents and what is normal, as in incident.js
 */
export function firstThreshold(window, judged) {
  const well = [];
  const ill = [];
  for (let i = 0; i < (window?.n ?? 0); i += 1) {
    const bucket = window.firstBucket + i;
    const cell = window.index(0, bucket);
    const high = window.high[cell];
    if (!(window.flags[cell] & PRESENT) || !(high > 0) || high === Infinity) continue;
    const begins = beginsOver(judged, bucket * window.width, (bucket + 1) * window.width - 1);
    (begins.length > 0 ? ill : well).push(high);
  }
  if (well.length + ill.length === 0) return 1;
  const enough = well.length * window.width >= judged.normal.least_steps || ill.length === 0;
  const sorted = (enough ? well : [...well, ...ill]).sort((a, b) => a - b);
  return Number((2 * quantile(sorted, enough ? 0.99 : 0.01)).toPrecision(2));
}

/**
 * "Would have fired 3 times in this run (steps 120, 480, 1,020), and in none of your last 10 healthy runs."
 *
 * @param {{fired: {step: number}[], count: number, complete?: boolean, others?: {runs: number, fired: number} | null}} trial
 */
export function backtestSentence({ fired, count, complete = true, others = null }) {
  return `${inThis(fired, count)}${complete ? "" : " (as far as was tried)"}${inOthers(others)}.`;
}

function inThis(fired, count) {
  if (count === 0) return "Would not have fired in this run so far";
  const steps = [...new Set(fired.map(({ step }) => step))].slice(0, NAMED).map(formatCount);
  const more = count > steps.length ? ", …" : "";
  return `Would have fired ${plural(count, "time")} in this run (step${count === 1 ? "" : "s"} ${steps.join(", ")}${more})`;
}

function inOthers(others) {
  if (others === null || others.runs === 0) return "";
  if (others.runs === 1) return `, and ${others.fired === 0 ? "not in" : "in"} your last healthy run`;
  return `, and in ${others.fired === 0 ? "none" : formatCount(others.fired)} of your last ${plural(others.runs, "healthy run")}`;
}
