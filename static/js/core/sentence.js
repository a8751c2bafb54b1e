// One sentence about a run, from its state and its alerts: what a person reads first. Pure.

import { formatCount, formatDuration, formatNumber, numberOf } from "./format.js";
import { gravestPast, leading } from "./incident.js";

/** A pause longer than this, and than ten usual steps, is worth a word. */
const LONG_STEP = 20;

/**
 * @param {object} run RunOut  @param {object[]} alerts of the run  @param {number} now by the server's clock, Unix seconds
 * @param {{incidents?: object[], health?: object|null, lost?: boolean}} judged what the health engine says, and whether
 *   the page has lost the server
 * @returns {{state: string, tone: ""|"ok"|"warning"|"critical", text: string, alert: object|null, incident: object|null}}
 *   `alert` or `incident` is what the sentence is about, if it is about one
 */
export function sentenceOf(run, alerts, now, { incidents = [], health = null, lost = false } = {}) {
  if (lost) return { state: "Not live", tone: "", text: lostSentence(run, now), alert: null, incident: null };
  const said = { alert: null, incident: null, ...mostUrgent(run, alerts, now, leading(incidents)) };
  const past = run.state === "running" || said.alert !== null || said.incident !== null ? null : gravestPast(incidents);
  if (past !== null) return { ...said, text: `${said.text} It went wrong on the way: ${past.sentence}`, incident: past };
  const calm = said.alert === null && said.incident === null && said.tone === "ok";
  return calm && health?.sentence ? { ...said, text: health.sentence } : said;
}

/** Without a connection nothing that was said before can be vouched for. */
function lostSentence(run, now) {
  const last = run.last_time > 0 ? ` The last point is ${formatDuration(now - run.last_time)} old.` : "";
  return `The connection to the server is lost.${last} It is tried again by itself; training goes on.`;
}

function mostUrgent(run, alerts, now, incident) {
  const open = openAlert(alerts);
  if (incident !== null && (open === null || incident.severity === "critical" || open.severity !== "critical")) {
    const over = run.state === "running" ? "" : ` The run has ended (${run.state}).`;
    return { state: incident.severity === "critical" ? "Critical" : "Warning", tone: incident.severity, text: incident.sentence + over, incident };
  }
  if (open !== null) {
    const word = open.severity === "critical" ? "Critical" : "Warning";
    const more = alerts.filter((alert) => isOpen(alert)).length - 1;
    const others = more > 0 ? ` ${formatCount(more)} more ${more === 1 ? "alert is" : "alerts are"} open.` : "";
    return { state: word, tone: open.severity, text: `${alertText(open)}${others}`, alert: open };
  }
  return stateSentence(run, now);
}

const isOpen = (alert) => alert.cleared_step === null || alert.cleared_step === undefined;

/** The gravest open alert, among equals the first to open; info is no reason for alarm. */
function openAlert(alerts) {
  const rank = { critical: 0, warning: 1 };
  const open = alerts.filter((alert) => isOpen(alert) && !alert.acknowledged && alert.severity in rank);
  open.sort((a, b) => rank[a.severity] - rank[b.severity] || a.opened_step - b.opened_step);
  return open[0] ?? null;
}

function alertText(alert) {
  if (alert.sentence) return alert.sentence;
  const what = alert.condition === "nonfinite" ? "not finite" : `${alert.condition} ${formatNumber(numberOf(alert.threshold))}`;
  return `${alert.statistic} ${what} since step ${formatCount(alert.opened_step)}.`;
}

/** "7 of 8 ranks" while the newest step of a distributed run lacks some, else "": its norms are then less than the whole. */
export function ranksMissing(run) {
  const { ranks_present: present, ranks } = run.summary ?? {};
  return numberOf(present ?? 0) < numberOf(ranks ?? 0) ? `${formatCount(present)} of ${formatCount(ranks)} ranks` : "";
}

/** What a mark on the timeline says (of an action what was done and why), "" for those that are not for people. */
export function markText({ kind, data = {} }) {
  if (kind === "holds") return "";
  if (kind === "action" && data.action) return `${data.action.replace("_", " ")}: ${data.reason}`;
  return kind === "ranks" ? `${formatCount(data.present)} of ${formatCount(data.of)} ranks` : kind;
}

/** "Norm 0.81, loss 0.42 at step 12,047." */
function numbers(run) {
  const { global_grad_norm: norm, loss } = run.summary ?? {};
  const parts = [];
  if (norm !== undefined) parts.push(`norm ${formatNumber(numberOf(norm))}`);
  if (loss !== undefined) parts.push(`loss ${formatNumber(numberOf(loss))}`);
  if (parts.length === 0) return `At step ${formatCount(run.last_step)}.`;
  const text = `${parts.join(", ")} at step ${formatCount(run.last_step)}.`;
  return text[0].toUpperCase() + text.slice(1);
}

function running(run, now) {
  if (run.last_step < 0) return { state: "Running", tone: "", text: "Waiting for the first step." };
  const norm = numberOf(run.summary?.global_grad_norm ?? 0);
  if (!Number.isFinite(norm)) {
    return { state: "Not finite", tone: "critical", text: `The gradient norm is ${formatNumber(norm)} at step ${formatCount(run.last_step)}.` };
  }
  const age = now - run.last_time;
  const usual = run.steps_per_s > 0 ? 10 / run.steps_per_s : 0;
  const pause = age > Math.max(LONG_STEP, usual) ? ` The last step came ${formatDuration(age)} ago.` : "";
  return { state: "Running", tone: "ok", text: numbers(run) + pause };
}

function stateSentence(run, now) {
  const at = run.last_step >= 0 ? ` at step ${formatCount(run.last_step)}` : " before its first step";
  const reason = run.reason ? `: ${run.reason}` : "";
  switch (run.state) {
    case "running":
      return running(run, now);
    case "finished": {
      const took = (run.finished_at ?? run.last_time) - run.created_at;
      const length = took > 0 ? ` in ${formatDuration(took)}` : "";
      const text = run.last_step >= 0 ? `${formatCount(run.steps)} steps${length}. ${numbers(run)}` : "It ended before its first step.";
      return { state: "Finished", tone: "", text };
    }
    case "failed": {
      const error = run.error?.type ? ` ${run.error.type}: ${run.error.message ?? ""}` : "";
      return { state: "Failed", tone: "critical", text: `Stopped by an error${at}${error ? `:${error}` : `${reason}.`}` };
    }
    case "killed":
      return { state: "Killed", tone: "warning", text: `Ended by a signal${at}${reason}.` };
    case "preempted":
      return { state: "Preempted", tone: "warning", text: `The scheduler took the machine${at}${reason}.` };
    default:
      return {
        state: "Lost",
        tone: "warning",
        text: `No sign of life for ${formatDuration(now - run.last_seen)}, last seen${at}. It shows as running again when it returns.`,
      };
  }
}
