// Incidents of a run, sorted and put into words. Pure.

import { formatCount } from "./format.js";

const RANK = { critical: 0, warning: 1, info: 2 };

export const isOpen = (incident) => incident.closed_step === null || incident.closed_step === undefined;

/** Whether it is a reason for alarm: open, worse than info, and nobody said that it is no problem. */
export const alarms = (incident) => isOpen(incident) && incident.severity !== "info" && !incident.dismissed;

/** "Said to be no problem by ann, 2026-11-24 18:02", "" while nobody said so. A link is not told who. */
export function saidText({ dismissed }, timeText) {
  if (!dismissed) return "";
  const who = dismissed.who === "server" || dismissed.who === "open" ? " with the server's own token" : dismissed.who ? ` by ${dismissed.who}` : "";
  return `Said to be no problem${who}, ${timeText(dismissed.time)}`;
}

/**
 * Open ones first, the gravest of them on top, among equals the one that began first, what is no problem last of them; then
 * the past ones, newest first.
 */
export function byUrgency(incidents) {
  return [...incidents].sort((a, b) => {
    const open = Number(isOpen(b)) - Number(isOpen(a));
    if (open) return open;
    const said = isOpen(a) ? Number(Boolean(a.dismissed)) - Number(Boolean(b.dismissed)) : 0;
    if (said) return said;
    const severity = isOpen(a) ? RANK[a.severity] - RANK[b.severity] : 0;
    return severity || (isOpen(a) ? a.first_step - b.first_step : b.opened_step - a.opened_step) || (a.id < b.id ? -1 : 1);
  });
}

/** The incident that the page speaks of: the gravest open one, null when there is none worse than info. */
export function leading(incidents) {
  return byUrgency(incidents).find(alarms) ?? null;
}

/** Of the incidents that are over the gravest, among equals the one that began first; null when none was worse than info. */
export function gravestPast(incidents) {
  const past = incidents.filter((incident) => !isOpen(incident) && incident.severity !== "info" && !incident.dismissed);
  past.sort((a, b) => RANK[a.severity] - RANK[b.severity] || a.first_step - b.first_step);
  return past[0] ?? null;
}

/**
 * `incidents` with `incident` put in, or in place of its older self; one that became part of another goes. What people said
 * of it stays, unless that is the news.
 */
export function withIncident(incidents, incident) {
  const before = incidents.find(({ id }) => id === incident.id);
  const others = incidents.filter((one) => one !== before);
  return incident.merged_into ? others : [...others, { dismissed: before?.dismissed ?? null, ...incident }];
}

/**
 * The first steps of the incidents that touch the steps `from` to `to`, those that take hold of a whole model: others leave
 * what is normal for most layers as it was.
 *
 * @param {{incidents?: object[], normal: {spreading: string[]}}} judged as in the answer of GET /runs/{id}/incidents
 * @returns {number[]}
 */
export function beginsOver({ incidents = [], normal }, from, to = from) {
  const over = ({ kind, severity, first_step, closed_step, dismissed }) => normal.spreading.includes(kind) && severity !== "info" && !dismissed && first_step <= to && from <= (closed_step ?? Infinity);
  return incidents.filter(over).map(({ first_step }) => first_step);
}

/**
 * The step at which a run went wrong before anything normal was known of it, and is wrong still at `step`; null if it isn't so.
 *
 * @param {{incidents?: object[], normal: {spreading: string[], least_steps: number}}} judged
 */
export function neverNormal(judged, step, first) {
  const begin = Math.min(...beginsOver(judged, step));
  return begin - first < judged.normal.least_steps ? begin : null;
}

/** "since step 12,047" or "steps 12,047 to 12,099". */
export function spanText(incident) {
  if (isOpen(incident)) return `since step ${formatCount(incident.first_step)}`;
  return `steps ${formatCount(incident.first_step)} to ${formatCount(incident.closed_step)}`;
}

/**
 * Where it went, in order: the first tensor, then those that followed.
 * @returns {{tensor: string, step: number, order: number}[]} order 1 is where it began
 */
export function pathOf(incident) {
  const { origin } = incident;
  const steps = [];
  if (origin.tensor) steps.push({ tensor: origin.tensor, step: origin.step });
  for (const [tensor, step] of origin.followers ?? []) if (tensor !== origin.tensor) steps.push({ tensor, step });
  return steps.map((one, i) => ({ ...one, order: i + 1 }));
}

/** The first remedy that comes with a line of code, of the likeliest cause; null when there is none. */
export function bestRemedy(incident) {
  for (const cause of incident.causes ?? []) {
    const coded = cause.remedies.find(({ code }) => code);
    if (coded) return coded;
  }
  return incident.causes?.[0]?.remedies?.[0] ?? null;
}

/** Incidents and alerts in the order of their steps: `[{id, step, incident}]` or `[{id, step, alert}]`. */
export function eventsOf(incidents, alerts) {
  const events = [
    ...incidents.map((incident) => ({ id: incident.id, step: incident.first_step, incident })),
    ...alerts.map((alert) => ({ id: alert.id, step: alert.opened_step, alert })),
  ];
  return events.sort((a, b) => a.step - b.step || (a.id < b.id ? -1 : 1));
}
