// What the runs list says about a run. Pure.

import { formatBytes, formatCount, formatDuration, plural } from "../core/format.js";

const TONES = { running: "live", failed: "ended-badly", killed: "ended-badly", lost: "warning", preempted: "", finished: "" };
const QUIET_AFTER = 60;

export function toneOf(run) {
  return TONES[run.state] ?? "";
}

/**
 * One plain sentence about how a run stands, and its tone ("", "warning", "critical").
 *
 * @param {number} now by the server's clock, in seconds
 * @param {{alerts?: object[], health?: {state: string, sentence: string}}} known open alerts of this run, the gravest first,
 *   and what the health engine says
 * @returns {{text: string, tone: string}}
 */
export function standingOf(run, now, { alerts = [], health = null } = {}) {
  if (run.state === "running") return runningStanding(run, now, alerts, health);
  const ended = {
    finished: () => (run.reason ? `Finished: ${run.reason}` : ""),
    failed: () => `Failed${run.error?.type ? ` with ${run.error.type}` : run.reason ? `: ${run.reason}` : ""}.`,
    killed: () => `Killed${run.reason ? `: ${run.reason}` : " by a signal"}.`,
    preempted: () => "Stopped by the scheduler; it may come back.",
    lost: () => `No sign of life for ${formatDuration(now - run.last_seen)}: killed, out of memory, or cut off.`,
  };
  // What is over is told, but in no colour: nobody can do anything about it now.
  const ill = health && HEALTH_TONES[health.state] ? health.sentence : "";
  return { text: [(ended[run.state] ?? (() => run.state))(), ill].filter(Boolean).join(" "), tone: "" };
}

const HEALTH_TONES = { attention: "warning", critical: "critical" };

function runningStanding(run, now, alerts, health) {
  if (run.last_step < 0) return { text: "No step yet.", tone: "" };
  const tone = HEALTH_TONES[health?.state] ?? "";
  if (tone) return { text: health.sentence, tone: alerts.some(({ severity }) => severity === "critical") ? "critical" : tone };
  if (alerts.length) {
    const [first] = alerts;
    const more = alerts.length > 1 ? `, and ${plural(alerts.length - 1, "more alert")}` : "";
    const text = `${first.rule_name || first.statistic} since step ${formatCount(first.opened_step)}${more}.`;
    return { text, tone: first.severity === "info" ? "" : first.severity };
  }
  const age = now - run.last_time;
  if (age > QUIET_AFTER) return { text: `Last step ${formatDuration(age)} ago, still alive.`, tone: "" };
  return { text: health?.sentence ?? "No open alert.", tone: "" };
}

/** Seconds from the start to the end, or to the newest sign of life, or to now for a running run. */
export function durationOf(run, now) {
  if (run.state === "running") return Math.max(0, now - run.created_at);
  return Math.max(0, (run.finished_at ?? (run.last_time || run.last_seen)) - run.created_at);
}

/** "14:05" today, "yesterday 14:05", "12 Mar", "12 Mar 2024". */
export function startedText(seconds, nowSeconds) {
  const date = new Date(seconds * 1000);
  const now = new Date(nowSeconds * 1000);
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  if (date.getTime() >= midnight) return time;
  if (date.getTime() >= midnight - 86_400_000) return `yesterday ${time}`;
  const sameYear = date.getFullYear() === now.getFullYear();
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...(sameYear ? {} : { year: "numeric" }) });
}

/** What some runs take on the disk together, "" when it isn't known of any. */
export function storedText(runs) {
  const sizes = runs.map(({ bytes }) => bytes).filter((bytes) => bytes > 0);
  return sizes.length > 0 ? formatBytes(sizes.reduce((sum, bytes) => sum + bytes, 0)) : "";
}

/** What the whole database takes, and where it stops. */
export function databaseText(database) {
  if (!database) return "";
  const limit = database.max_bytes > 0 ? ` of at most ${formatBytes(database.max_bytes)}` : "";
  return `All runs take ${formatBytes(database.bytes)}${limit} on the disk.`;
}

export const SORTS = {
  started: { label: "Started", value: (run) => -run.created_at },
  active: { label: "Last point", value: (run) => -run.last_time },
  name: { label: "Name", value: (run) => run.name.toLowerCase() },
  steps: { label: "Steps", value: (run) => -run.last_step },
  norm: { label: "Norm", value: (run) => -numberIn(run, "global_grad_norm") },
  loss: { label: "Loss", value: (run) => numberIn(run, "loss") },
};

function numberIn(run, name) {
  const value = Number(run.summary?.[name] ?? NaN);
  return Number.isFinite(value) ? value : 0;
}

/** Runs in the order of the list, as groups [{project, runs}]; ungrouped is one group with project null. */
export function arrange(runs, { sort = "started", grouped = true } = {}) {
  const key = SORTS[sort].value;
  const sorted = runs
    .map((run) => [key(run), run])
    .sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x.id < y.id ? -1 : 1))
    .map(([, run]) => run);
  if (!grouped) return sorted.length ? [{ project: null, runs: sorted }] : [];
  const groups = new Map();
  for (const run of sorted) {
    if (!groups.has(run.project)) groups.set(run.project, []);
    groups.get(run.project).push(run);
  }
  return [...groups].map(([project, members]) => ({ project, runs: members }));
}

/** "alpha, beta" as tags: trimmed, without empties and repeats. */
export function parseTags(text) {
  return [...new Set(text.split(",").map((tag) => tag.trim()).filter(Boolean))];
}
