// What the compare page works out of several runs. Pure.

import { HAS_INF, HAS_NAN, PRESENT } from "../core/codec.js";
import { formatCount } from "../core/format.js";

/** Nested settings as rows: {a: {b: 1}} -> Map { "a.b" => "1" }. Lists stay whole. */
export function flatten(value, prefix = "", into = new Map()) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, prefix ? `${prefix}.${key}` : key, into);
  } else if (prefix) {
    into.set(prefix, typeof value === "string" ? value : JSON.stringify(value));
  }
  return into;
}

/** The settings worth comparing: what the script was configured with, and which code it was. */
export function settingsOf(run) {
  const { config, git, packages, argv, optimizers } = run.context ?? {};
  return flatten({ ...(config ?? {}), ...(optimizers ? { optimizers } : {}), ...(git ? { git } : {}), ...(packages ? { packages } : {}), ...(argv ? { argv } : {}) });
}

/** Rows [{key, values}] of settings that differ between runs; a run without the setting has undefined there. */
export function differences(runs) {
  const settings = runs.map(settingsOf);
  const keys = new Set(settings.flatMap((map) => [...map.keys()]));
  return [...keys]
    .map((key) => ({ key, values: settings.map((map) => map.get(key)) }))
    .filter(({ values }) => new Set(values).size > 1)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** The first bucket with a NaN or Inf in row 0 of a view, as a step; null when there is none. */
export function firstBad(view) {
  for (let i = 0; i < view.n; i += 1) {
    const flags = view.flags[i];
    if (flags & PRESENT && (flags & (HAS_NAN | HAS_INF) || !Number.isFinite(view.last[i]))) return (view.firstBucket + i) * view.width;
  }
  return null;
}

/**
 * The first step with a NaN or Inf: the bucket that holds it is asked for again, finer, until it is one step.
 *
 * @param {object} view of the whole run  @param {(from: number, to: number) => Promise<object>} ask for a view of a stretch
 * @returns {Promise<number | null>}
 */
export async function firstBadStep(view, ask) {
  let step = firstBad(view);
  let { width } = view;
  while (step !== null && width > 1) {
    const finer = await ask(step, step + width);
    const found = firstBad(finer);
    // What was thinned has no finer values: the bucket's first step is all that is known.
    if (found === null || finer.width >= width) break;
    step = found;
    width = finer.width;
  }
  return step;
}

/** Columns of row 0: x (a step, or what `place` makes of it), last, low, high; absent buckets left out. */
export function columnsOf(view, place = (step) => step) {
  const columns = { x: [], last: [], low: [], high: [], bad: [] };
  for (let i = 0; i < view.n; i += 1) {
    if (!(view.flags[i] & PRESENT)) continue;
    const x = place((view.firstBucket + i + 0.5) * view.width - 0.5);
    columns.x.push(x);
    for (const plane of ["last", "low", "high"]) columns[plane].push(Number.isFinite(view[plane][i]) ? view[plane][i] : NaN);
    if (view.flags[i] & (HAS_NAN | HAS_INF)) columns.bad.push(x);
  }
  return columns;
}

/** Where a step stands in time: straight lines between known (step, time) pairs, ascending; seconds since the first. */
export function clockOf(anchors) {
  return (step) => {
    if (anchors.length === 0) return NaN;
    const [first] = anchors;
    const after = anchors.findIndex((anchor) => anchor.step >= step);
    const [a, b] = after < 0 ? anchors.slice(-2) : [anchors[Math.max(0, after - 1)], anchors[after]];
    if (!b || a.step === b.step) return a.time - first.time;
    return a.time - first.time + ((step - a.step) / (b.step - a.step)) * (b.time - a.time);
  };
}

/**
 * Who left its normal first, in a sentence. `entries`: [{name, incident, kind}] with the run's first incident that is no mere
 * information, or null, and what its kind is called.
 */
export function whoFirst(entries) {
  const ill = entries.filter(({ incident }) => incident).sort((a, b) => a.incident.first_step - b.incident.first_step);
  if (ill.length === 0) return "None of these runs had an incident.";
  const tell = ({ name, incident, kind }) => `“${name}” at step ${formatCount(incident.first_step)} (${kind})`;
  const [first, ...others] = ill;
  const rest = others.length ? `; then ${others.map(tell).join(", ")}` : "";
  const calm = entries.filter(({ incident }) => !incident).map(({ name }) => `“${name}”`);
  const quiet = calm.length ? ` ${calm.join(" and ")} stayed healthy.` : "";
  return `First to leave its normal: ${tell(first)}${first.incident.origin?.tensor ? `, in ${first.incident.origin.tensor}` : ""}${rest}.${quiet}`;
}

/** The first incident of a run that is a warning or worse. */
export function firstIncident(incidents) {
  return incidents.filter(({ severity }) => severity !== "info").reduce((first, one) => (first === null || one.first_step < first.first_step ? one : first), null);
}

/** "#2a5fd0" at an opacity, as Plotly takes it. */
export function faded(hex, opacity) {
  const value = Number.parseInt(hex.slice(1), 16);
  return `rgba(${value >> 16},${(value >> 8) & 255},${value & 255},${opacity})`;
}
