// What a rule would have done, in a sentence. Pure.

import { formatCount, plural } from "./format.js";

const NAMED = 5;

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
  return `, and in ${others.fired === 0 ? "none" : formatCount(others.fired)} of your last ${plural(others.runs, "healthy run")}`;
}
