// The compare page: two to five runs on shared axes, their verdicts, and how they were set up.

import { formatCount, formatDuration, formatNumber } from "../core/format.js";
import { createTurns } from "../core/turns.js";
import { readBoot } from "../io/api.js";
import { clockOf, columnsOf, differences, firstBadStep, firstIncident, whoFirst } from "../ui/compare_data.js";
import { mount as mountChart } from "../ui/compare_chart.js";
import { drawDifferences, drawVerdict, nameOf } from "../ui/compare_tables.js";
import { el, setText } from "../ui/element.js";
import { mountChartMenu } from "../ui/chart_menu.js";
import { loadPlotly } from "../ui/plotly.js";
import { openShare } from "../ui/share.js";
import { toastError } from "../ui/toast.js";
import { ready, startPage } from "./page.js";

const MOST = 5;
const POINTS = 800;
const ANCHORS = 16;
const EVERY_MS = 3000;
const STATISTICS = [
  ["norm", "global_grad_norm", "Gradient norm", true],
  ["loss", "loss", "Loss", "auto"],
];

const $ = (selector) => document.querySelector(selector);
const shared = readBoot().runs ?? null;
const { store, api, boot, live } = startPage({ name: () => "Compare", run: shared?.[0] ?? "" });
live.follow(null);

const params = new URLSearchParams(location.search || boot.view);
/** A link's page shows the runs of the link, whatever its address says. */
const asked = shared ?? params.getAll("run").flatMap((value) => value.split(","));
let ids = [...new Set(asked)].filter(Boolean).slice(0, MOST);
let axis = params.get("x") === "time" ? "time" : "step";
/** The axis that is drawn: that of choice once all runs have what it needs. */
let drawnAxis = axis;
const redraws = createTurns();
/** Where names of runs lead; a link has no page of a single run. */
const base = shared ? null : boot.base;
let entries = [];
let cursor = null;

const charts = STATISTICS.map(([key, statistic, title, log]) => ({ key, statistic, chart: mountChart($(`#${key}`), { title, log, onCursor: setCursor }) }));

for (const [key, , title] of STATISTICS) mountChartMenu($(`#${key}`), store, { chart: $(`#${key}`), title, what: () => entries.map(({ run }) => run.name) });

/** What is known of a run: all but its curves is asked for once, and again when the run moves. */
async function loadEntry(id, index) {
  const path = `/runs/${encodeURIComponent(id)}`;
  const [{ run }, { incidents, health, kinds }, { alerts }] = await Promise.all([api.get(path), api.get(`${path}/incidents`), api.get("/alerts", { run: id })]);
  const incident = firstIncident(incidents);
  const entry = { run, colour: `--chart-${index}`, health, incident, kind: kinds[incident?.kind] ?? "", alerts: alerts.length, views: {}, bad: null, clock: null };
  await loadCurves(entry);
  return entry;
}

async function loadCurves(entry) {
  const { run } = entry;
  await Promise.all(
    STATISTICS.map(async ([key, statistic]) => {
      if (run.summary?.[statistic] === undefined) return;
      entry.views[key] = await api.series(run.id, { statistic, scope: "run", rows: [0], points: POINTS });
    }),
  );
  const finer = (from, to) => api.series(run.id, { statistic: "global_grad_norm", scope: "run", rows: [0], from, to, points: POINTS });
  entry.bad = entry.views.norm ? await firstBadStep(entry.views.norm, finer) : null;
}

/** Times of steps spread over the run: between them time is taken to pass evenly. */
async function anchorsOf(run) {
  if (run.last_step < 0) return [];
  const steps = Array.from({ length: ANCHORS + 1 }, (_, i) => Math.round(run.first_step + ((run.last_step - run.first_step) * i) / ANCHORS));
  const ask = (from) => api.get(`/runs/${encodeURIComponent(run.id)}/values`, { statistic: "global_grad_norm", scope: "run", rows: [0], from, limit: 1 });
  const found = await Promise.all([...new Set(steps)].map(ask));
  return found.flatMap(({ steps: [step], times: [time] }) => (step === undefined ? [] : [{ step, time }]));
}

function paintChoice() {
  for (const choice of $("#axis").children) choice.setAttribute("aria-pressed", String(choice.dataset.x === axis));
}

/** What the chosen axis needs of runs, asked for where it isn't known. */
async function prepare(some) {
  if (axis === "time") await Promise.all(some.map(async (entry) => (entry.clock ??= clockOf(await anchorsOf(entry.run)))));
}

/** Draws what there is on the chosen axis, when what that needs has come; unless more has been asked for since. */
async function redraw() {
  const counts = redraws();
  paintChoice();
  await prepare(entries);
  if (counts()) draw();
}

/** Where a step of a run stands on the drawn axis; nowhere while its times are awaited. */
const placeOf = ({ clock }) => (drawnAxis === "time" ? (clock ?? (() => NaN)) : undefined);

function draw() {
  if (drawnAxis !== axis) setCursor(null);
  drawnAxis = axis;
  for (const { key, chart } of charts) {
    const lines = entries.filter(({ views }) => views[key]).map((entry) => ({ colour: entry.colour, columns: columnsOf(entry.views[key], placeOf(entry)) }));
    chart.draw(lines, drawnAxis);
  }
  const now = Date.now() / 1000 + (store.get().connection?.clock ?? 0);
  drawVerdict($("#verdict"), entries, { base, now, onRemove: shared ? null : remove });
  drawDifferences($("#differences"), entries, differences(entries.map(({ run }) => run)), base);
  setText($("#first"), whoFirst(entries.map(({ run, incident, kind }) => ({ name: run.name, incident, kind }))));
  drawLegend();
}

/** Names with the values under the cursor, else the newest. */
function drawLegend() {
  const where = cursor === null ? "now" : drawnAxis === "time" ? formatDuration(cursor) : `step ${formatCount(cursor)}`;
  const values = (entry) => charts.map(({ key }) => `${key} ${formatNumber(valueAt(entry, key))}`).join(", ");
  $("#legend").replaceChildren(el("span", { class: "muted legend-where" }, where), ...entries.map((entry) => el("span", { class: "legend-entry" }, nameOf(entry, base), el("span", { class: "muted" }, values(entry)))));
}

function valueAt(entry, key) {
  const view = entry.views[key];
  if (!view) return NaN;
  const { x, last } = columnsOf(view, placeOf(entry));
  if (cursor === null) return last.at(-1) ?? NaN;
  const at = x.findIndex((value) => value >= cursor);
  return at < 0 ? NaN : last[at];
}

function setCursor(x) {
  cursor = x;
  for (const { chart } of charts) chart.cursor(x);
  drawLegend();
}

function address() {
  const query = [...(shared ? [] : ids.map((id) => `run=${encodeURIComponent(id)}`)), axis === "time" || shared ? `x=${axis}` : ""];
  return `${location.pathname}?${query.filter(Boolean).join("&")}`;
}

function share() {
  openShare(store, { runs: entries.map(({ run }) => run), view: () => (axis === "time" ? "?x=time" : ""), moments: false });
}

function remove(id) {
  ids = ids.filter((other) => other !== id);
  history.replaceState(null, "", address());
  entries = entries.filter(({ run }) => run.id !== id);
  redraw().catch(toastError);
}

$("#axis").addEventListener("click", ({ target }) => {
  if (!target.dataset.x || target.dataset.x === axis) return;
  axis = target.dataset.x;
  history.replaceState(null, "", address());
  // While runs are still awaited, their coming draws them.
  if ($("#compared").hasAttribute("data-loading")) paintChoice();
  else redraw().catch(toastError);
});

$("#share")?.addEventListener("click", share);
addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
  if (event.key === "s" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing && $("#share")?.disabled === false && !document.querySelector("dialog[open]")) share();
});

async function refresh() {
  if (document.hidden) return;
  const moving = entries.filter(({ run }) => run.state === "running");
  if (moving.length === 0) return;
  const fresh = await Promise.all(moving.map((entry) => loadEntry(entry.run.id, Number(entry.colour.at(-1)))));
  await prepare(fresh);
  entries = entries.map((entry) => fresh.find(({ run }) => run.id === entry.run.id) ?? entry);
  await redraw();
}

async function start() {
  if (ids.length === 0) {
    $("#choose").hidden = false;
    ready();
    return;
  }
  $("#compared").hidden = false;
  try {
    entries = await Promise.all(ids.map(loadEntry));
    await redraw();
  } catch (error) {
    $("#compared").hidden = true;
    $("#problem").hidden = false;
    setText($("#problem"), error.message);
    ready();
    return;
  }
  $("#compared").removeAttribute("data-loading");
  if ($("#share")) $("#share").disabled = false;
  ready();
  const loaded = await loadPlotly();
  for (const { chart } of charts) chart.usePlotly(loaded);
  document.body.dataset.drawn = "1";
  // The header says when the server can't be reached; the next turn asks again.
  const follow = () => refresh().catch((error) => error.status !== 0 && toastError(error)).finally(later);
  const later = () => setTimeout(follow, EVERY_MS);
  later();
}

start();
