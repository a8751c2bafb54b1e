// The tables of the compare page: the verdict, and the settings that differ.
//
//   drawVerdict(element, entries, {base, now, onRemove})   entries: [{run, colour, health, incident, kind (what that is called), alerts, bad}]; base null: names
//                                                            lead nowhere; onRemove null: none can be left out
//   drawDifferences(element, entries, rows)     rows: of compare_data.js

import { formatCount, formatDuration, formatNumber, numberOf } from "../core/format.js";
import { el } from "./element.js";
import { durationOf, toneOf } from "./runs_text.js";

const ROWS = [
  ["State", ({ run }) => el("span", { class: "chip", "data-tone": toneOf(run) }, run.state)],
  ["Health", ({ health }) => health?.sentence ?? "not judged"],
  ["First incident", ({ incident, kind }) => (incident ? `${kind}, step ${formatCount(incident.first_step)}` : "none")],
  ["Where it began", ({ incident }) => (incident?.origin?.tensor ? el("span", { class: "mono" }, incident.origin.tensor) : "")],
  ["First NaN or Inf", ({ bad }) => (bad === null ? "none" : `step ${formatCount(bad)}`)],
  ["Alerts", ({ alerts }) => formatCount(alerts)],
  ["Norm now", ({ run }) => valueOf(run, "global_grad_norm")],
  ["Loss now", ({ run }) => valueOf(run, "loss")],
  ["Steps", ({ run }) => (run.last_step < 0 ? "none" : formatCount(run.last_step + 1))],
  ["Duration", ({ run }, { now }) => formatDuration(durationOf(run, now))],
];

function valueOf(run, name) {
  const value = run.summary?.[name];
  return value === undefined ? "" : formatNumber(numberOf(value));
}

export function nameOf({ run, colour }, base) {
  const swatch = el("span", { class: "swatch" });
  swatch.style.background = `var(${colour})`;
  const title = `${run.project} / ${run.name}`;
  const name = base === null ? el("span", { class: "ellipsis", title }, run.name) : el("a", { href: `${base}/runs/${encodeURIComponent(run.id)}`, class: "ellipsis", title }, run.name);
  return el("span", { class: "compare-name" }, swatch, name);
}

export function drawVerdict(element, entries, { base, now, onRemove }) {
  const removeButton = (entry) => el("button", { class: "button plain", type: "button", "aria-label": `Leave out ${entry.run.name}`, onclick: () => onRemove(entry.run.id) }, "leave out");
  const head = el("tr", {}, el("td", {}), ...entries.map((entry) => el("th", { scope: "col" }, nameOf(entry, base), entries.length > 2 && onRemove ? removeButton(entry) : null)));
  const rows = ROWS.map(([label, make]) => el("tr", {}, el("th", { scope: "row" }, label), ...entries.map((entry) => el("td", {}, make(entry, { now })))));
  element.style.setProperty("--runs", String(entries.length));
  element.replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
}

export function drawDifferences(element, entries, rows, base) {
  const head = el("tr", {}, el("th", {}, "Setting"), ...entries.map((entry) => el("th", { scope: "col" }, nameOf(entry, base))));
  const cells = ({ values }) => values.map((value) => el("td", { class: value === undefined ? "muted" : "mono" }, value ?? "not set"));
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row", class: "mono" }, row.key), ...cells(row)));
  const none = el("tr", {}, el("td", { class: "muted", colspan: entries.length + 1 }, base === null ? "No setting that this link shows differs." : "Nothing that was captured differs. Pass config= to gradwatch.watch() to see hyperparameters here."));
  element.style.setProperty("--runs", String(entries.length));
  element.replaceChildren(el("thead", {}, head), el("tbody", {}, ...(body.length ? body : [none])));
}
