// The run page: wires store, numbers and panels together.

import { readBoot } from "../io/api.js";
import { firstThreshold } from "../core/backtest.js";
import { eventsOf, neverNormal } from "../core/incident.js";
import { isLive, standing, WHOLE } from "../core/view.js";
import { revealed, unfolded } from "../core/tree.js";
import { mount as mountAlerts } from "../ui/alerts.js";
import { mount as mountBusy } from "../ui/busy.js";
import { mountHandles } from "../ui/chart_handle.js";
import { alertItems, alertOn, mountChartMenu } from "../ui/chart_menu.js";
import { openMenu } from "../ui/dialog.js";
import { setAttribute, setText } from "../ui/element.js";
import { mount as mountKey } from "../ui/heat_key.js";
import { mount as mountHeat } from "../ui/heatmap.js";
import { mount as mountInspector } from "../ui/inspector.js";
import { followIncidents, mount as mountIncidents } from "../ui/incidents.js";
import { loadPlotly } from "../ui/plotly.js";
import { mount as mountActions } from "../ui/run_actions.js";
import { follow as followAddress, stateOf } from "../ui/run_address.js";
import { mountLayers, mountLoss, mountNorm, MOST_PINS, scalarsShown } from "../ui/run_charts.js";
import { followRun } from "../ui/run_data.js";
import { mount as mountDetails } from "../ui/run_details.js";
import { mount as mountFind } from "../ui/run_find.js";
import { mount as mountKeys } from "../ui/run_keys.js";
import { createModel, valueAtStep } from "../ui/run_model.js";
import { createPainter } from "../ui/run_painter.js";
import { mountRanks } from "../ui/run_ranks.js";
import { mount as mountReadout } from "../ui/run_readout.js";
import { mount as mountResources } from "../ui/run_resources.js";
import { mount as mountScale } from "../ui/run_scale.js";
import { mount as mountSlot } from "../ui/slot.js";
import { mount as mountStrip } from "../ui/run_strip.js";
import { mount as mountSuggest } from "../ui/run_suggest.js";
import { mount as mountWhatIf } from "../ui/run_whatif.js";
import { onThemeChange } from "../ui/theme.js";
import { mount as mountTimeline } from "../ui/timeline.js";
import { toast, toastError } from "../ui/toast.js";
import { mount as mountUnusual } from "../ui/unusual.js";
import { startPage } from "./page.js";

/** What an alert or a mark is shown with: so many steps before and after it. */
const BEFORE = 200;
const AFTER = 50;
/** A page hidden for this long stops the flow of numbers; it asks for fresh ones when it is seen again. */
const PAUSE_MS = 5000;
const LAG_MS = 2000;
/** Plotly waits at most so long for the first numbers. */
const PLOTLY_MS = 3000;

const $ = (selector) => document.querySelector(selector);
const first = readBoot();
const { opened, ...asked } = stateOf(location.search || first.view || "");
const { all: _, ...judged } = first.found;
let page = null;
page = startPage({
  name: () => (page?.store.get() ?? first).run.name,
  run: first.run.id,
  initial: { ...asked, ...judged, open: new Set(), frozen: null, cursor: null, hover: null, whatIf: null, zoomedFrom: null, statistics: first.statistics, tensors: [], tree: null, marks: [], segments: first.segments, rules: [] },
});
const { boot, live, store } = page;
const owner = boot.role === "owner";

// Panels are measured while they are mounted.
setAttribute($("#run"), "data-loading", null);
let painter = null;
const busy = mountBusy($("#busy"), $("#run"));
const model = createModel(store, () => painter?.numbers(), () => painter?.now());
const pointsFor = (width) => model.setPoints(width / 1.4);
const side = parseFloat(getComputedStyle($("#heat .heat-body")).getPropertyValue("--plot-left"));
pointsFor($("#norm").clientWidth - side - 60);
// The heat map asks for its numbers in the moment that it knows its rows.
const data = followRun(store, opened, { onTree: () => heat.arrange(), onColumns: () => model.refresh(), onCorrected: model.reread });
live.on("connection", ({ state }) => state === "live" && model.retry());
const address = followAddress(store, data.usualOpen);

function showStep(step, node = null) {
  const state = store.get();
  const view = standing(step - BEFORE, step + AFTER, model.first(), model.newest());
  const patch = { frozen: null, cursor: null, at: step, view, zoomedFrom: state.view };
  if (node) Object.assign(patch, { picked: node.key, open: revealed(node, state.open) });
  store.set(patch);
}

function showAlert(alert) {
  const { tree } = store.get();
  store.set({ selected: alert.id });
  showStep(alert.opened_step, tree?.nodes.get(`t:${alert.worst?.[0] ?? ""}`) ?? null);
}

/** A step of an incident, with the layer it is about. */
function showPlace({ step, tensor }) {
  const { tree } = store.get();
  showStep(step, tree?.nodes.get(`t:${tensor}`) ?? null);
  // Chosen before the names have come: the layer is shown with them.
  if (tree === null && tensor) store.set({ picked: `t:${tensor}` });
}

function showIncident(incident) {
  store.set({ chosenIncident: incident.id });
  slot.settle();
  showPlace({ step: incident.first_step, tensor: incident.origin.tensor });
}

function pick(node, step = null) {
  const { open } = store.get();
  store.set({ picked: node.key, open: revealed(node, open), ...(step === null ? {} : { at: step }) });
}

function toggle(node) {
  const { open, pins } = store.get();
  if (node.kind === "group") {
    const wider = new Set(open);
    if (!wider.delete(node.name)) wider.add(node.name);
    store.set({ open: wider });
  } else if (pins.includes(node.key)) {
    store.set({ pins: pins.filter((key) => key !== node.key) });
  } else if (pins.length < MOST_PINS) {
    store.set({ pins: [...pins, node.key] });
  } else {
    toast(`${MOST_PINS} layers are pinned already. Click one in the list of pinned layers to let it go.`);
  }
}

function layerMenu(node, anchor) {
  const pinned = store.get().pins.includes(node.key);
  const items = [{ label: `Show ${node.name || "the whole model"}`, run: () => pick(node) }];
  if (node.kind === "tensor") items.push({ label: pinned ? "Unpin" : "Pin", run: () => toggle(node) });
  openMenu(anchor, [...items, ...alertItems(store, [alertOn(node)])]);
}

const heat = mountHeat($("#heat"), store, model, { onPick: pick, onOpen: toggle, onMenu: layerMenu, onLoaded: () => painter?.now() });
heat.arrange();
const handles = {};
const overlayOf = (name) => (context, box, scene) => {
  handles[name]?.place();
  handles[name]?.paint(context, box, scene);
};
const keepOf = (name) => () => handles[name]?.values() ?? [];
const ranks = mountRanks(store, model);
const norm = mountNorm($("#norm"), store, model, { ranks, keep: keepOf("norm"), overlay: overlayOf("norm"), onResize: pointsFor });
const loss = mountLoss($("#loss"), store, model, { keep: keepOf("loss"), overlay: overlayOf("loss") });
const layers = mountLayers($("#layers"), store, model, { normalOf });
const scale = mountScale($("#scale"), store, model);
const timeline = mountTimeline($("#timeline"), store, model, { onGlyph: ({ step, alert, incident }) => (incident ? showIncident(incident) : alert ? showAlert(alert) : showStep(step)) });
const inspector = mountInspector($("#inspector"), store, model, {
  onPick: (node) => pick(node),
  firstUnusual: (step) => heat.firstUnusual(step),
  onOrigin({ row, step }) {
    showStep(step, row);
    // What a closed group holds comes into the map, so that the layer inside can be told next.
    if (row.kind === "group") store.set({ open: unfolded(row, store.get().open) });
  },
  onValues: () => painter.overlay(),
  owner,
});
const readout = mountReadout($("#readout"), store, model, { valueOf, textAt: heat.textAt, ranks });
const whatIf = mountWhatIf($("#whatif"), store, model);
const shownRows = { rows: heat.rows, valueOf };
const unusual = mountUnusual($("#unusual"), { ...shownRows, onPick: (node) => pick(node), never: (step) => neverNormal(store.get(), step, model.first()) !== null });
const suggest = mountSuggest($("#suggest"), store, {
  ...shownRows,
  largest: () => inspector.largest(),
  onPin: (node) => store.set({ pins: [node.key] }),
});
const charts = [norm, loss, layers];
mountChartMenus();

function mountChartMenus() {
  const named = (statistic) => [{ label: "Alert on this", preset: { statistic, threshold: highestUsual(statistic) } }];
  const chosen = () => {
    const { tree, pins, picked } = store.get();
    return [...new Set([picked, ...pins])].map((key) => tree?.nodes.get(key)).filter(Boolean);
  };
  const menus = [
    ["#norm", "Global norm", () => named("global_grad_norm")],
    ["#loss", "Loss", () => scalarsShown(store.get()).flatMap((name) => named(name).map((item) => ({ ...item, label: `Alert on ${name}` })))],
    ["#layers", "Chosen layers", () => chosen().map(alertOn)],
    ["#heat", "Layers", () => [{ label: "Alert on any layer", preset: { statistic: "grad_norm", tensors: "*", threshold: highestUsual("global_grad_norm") } }]],
  ];
  for (const [chart, title, alerts] of menus) mountChartMenu($(`${chart} .heat-head`) ?? $(chart), store, { chart: $(chart), title, alerts });
}

/** What an alert on a statistic begins with: from the whole run where that is known, else from what is in view. */
function highestUsual(name) {
  return firstThreshold(model.feed(name, "run", { overview: name === "global_grad_norm" }).window, store.get());
}
for (const [name, chart, statistic] of [["norm", norm, "global_grad_norm"], ["loss", loss, "loss"]]) {
  handles[name] = mountHandles(chart, store, { statistic, suggest: () => highestUsual(statistic) });
  chart.redraw = () => painter?.overlay();
}

/** What is normal for a node, as the heat map has it. */
function normalOf(node) {
  const row = heat.feedOf(node).rowOf(node.index);
  return row < 0 ? null : { baseline: heat.baselineOf(node), row };
}

/** What the heat map knows of a node at a step, with its distance from the node's own normal. */
function valueOf(node, step) {
  const feed = heat.feedOf(node);
  const value = valueAtStep(feed, node.index, step);
  if (value === null) return null;
  const baseline = heat.baselineOf(node);
  const at = baseline.at(feed.rowOf(node.index), step);
  const z = at < 0 ? NaN : (Math.log2(value.high) - baseline.centre[at]) / baseline.scale[at];
  return { ...value, z };
}

function sceneOf() {
  const { cursor, at } = store.get();
  return { range: model.range(), cursor: cursor ?? at, newest: model.newest() };
}

let tellFirst;
const firstNumbers = new Promise((tell) => (tellFirst = tell));

/** Marks for benchmarks and tests: numbers on our own canvases, all charts, and each stretch that stands drawn whole. */
function markFirst({ newest, range }) {
  const { dataset } = document.body;
  if (newest >= 0 && heat.ready() && norm.axis() !== null) {
    markOnce("numbers");
    tellFirst();
  }
  if (norm.drawn() && loss.drawn()) markOnce("charts");
  busy.set(model.busy());
  const shown = `${range.from}-${range.to}`;
  dataset.shown = shown;
  if (dataset.drawn === shown || model.busy() || !painter.settled() || !dataset.charts) return;
  dataset.drawn = shown;
  performance.mark("drawn");
}

function markOnce(name) {
  if (document.body.dataset[name]) return;
  document.body.dataset[name] = "1";
  performance.mark(name);
}

/** What stands in place of the cells while there are none. */
function tellLayers(newest) {
  const awaited = newest >= 0 && !heat.ready() && heat.awaited();
  for (const panel of ["#heat", "#unusual", "#suggest"]) setAttribute($(panel), "data-loading", awaited ? "" : null);
  const text = heat.ready() ? heat.note() : newest < 0 ? "Waiting for the first steps." : awaited ? "" : "No layer of this run has a gradient norm.";
  const note = $("#heat-note");
  note.hidden = text === "";
  if (text !== "") setText(note, text);
  return awaited;
}

let markedStep = -1;
/** Tells tests and benchmarks up to which step the page has been painted. */
function afterPaint({ newest, range }) {
  markFirst({ newest, range });
  const awaited = tellLayers(newest);
  if (!heat.ready() && !awaited) document.body.dataset.ready = "1";
  if (!heat.ready() || norm.painted?.() === -1) return;
  const step = Math.min(heat.lastStep(), norm.painted());
  document.body.dataset.ready = "1";
  if (step === markedStep) return;
  markedStep = step;
  document.body.dataset.lastStep = String(step);
  performance.mark("painted", { detail: { step, time: Date.now() } });
  tellLag();
}

/** How long the newest step took to be seen here, for the panel of costs. */
let lagAt = null;
function tellLag() {
  const { run, connection, lag } = store.get();
  // What was there when the page was opened says nothing about how long a step takes to come.
  lagAt ??= performance.now();
  if (run.state !== "running" || performance.now() - lagAt < LAG_MS) return;
  lagAt = performance.now();
  const seen = Math.max(0, Date.now() / 1000 + (connection?.clock ?? 0) - model.lastTime());
  if (seen < 60) store.set({ lag: lag === undefined ? seen : (lag + seen) / 2 });
}

painter = createPainter(sceneOf, { quick: [heat, timeline, scale, readout, inspector, unusual, suggest, whatIf], charts, after: afterPaint, busy: model.busy });

mountStrip($("#strip"), store, { onAlert: showAlert, onIncident: showIncident });
markOnce("sentence");
mountIncidents($("#incident"), store, { onShow: showPlace });
const slot = mountSlot($("#slot"));
slot.settle();
followIncidents(store, { run: first.run.id, onLoaded: slot.settle });
mountAlerts($("#alerts"), store, { onSelect: showAlert, limit: 12, empty: "No alert has fired in this run." });
mountActions($("#actions"), store, { onStep: (step) => showStep(step) });
mountResources($("#resources"), store);
mountDetails($("#details"), store);
mountKey($("#heat-key"), store);
mountFind($("#find"), $("#find-list"), store, { onChoose: (node) => pick(node) });

for (const button of document.querySelectorAll("[data-colouring]")) {
  button.addEventListener("click", () => store.set({ colouring: button.dataset.colouring }));
}

function paintControls(state) {
  for (const button of document.querySelectorAll("[data-colouring]")) button.setAttribute("aria-pressed", String(button.dataset.colouring === state.colouring));
  $("#layers").hidden = state.pins.length === 0 && state.picked === null;
}

async function share() {
  if (!owner) return;
  const { openShare } = await import("../ui/share.js");
  openShare(store, { runs: [store.get().run], view: () => address.query() });
}

function goLive() {
  const { view } = store.get();
  slot.settle();
  store.set({ frozen: null, at: null, cursor: null, view: WHOLE, ...(isLive(view) ? {} : { zoomedFrom: view }) });
}

/** Incidents and alerts by their steps, one after the other; from the newest on, when none was shown yet. */
let visited = null;
function nextEvent(by) {
  const { alerts, incidents } = store.get();
  const events = eventsOf(incidents ?? [], alerts ?? []);
  if (events.length === 0) return toast("Nothing has happened in this run: no incident, no alert.");
  const now = events.findIndex(({ id }) => id === visited);
  const { id, incident, alert } = events[now < 0 ? (by > 0 ? events.length - 1 : 0) : (now + by + events.length) % events.length];
  visited = id;
  if (incident) showIncident(incident);
  else showAlert(alert);
}

function alertHere() {
  const { cursor, at } = store.get();
  const step = cursor ?? at;
  const value = step === null ? null : valueAtStep(model.feed("global_grad_norm", "run"), 0, step)?.high;
  handles.norm.draft(Number.isFinite(value) && value > 0 ? value : highestUsual("global_grad_norm"));
}

function back() {
  const { at, picked } = store.get();
  if (address.back()) return;
  if (at !== null || picked !== null) store.set({ at: null, picked: null, cursor: null });
  else if (!isLive(store.get().view)) store.set({ view: WHOLE });
}

mountKeys({ live: goLive, next: () => nextEvent(1), previous: () => nextEvent(-1), find: () => $("#find").focus(), share, alert: alertHere, back }, owner);
$("#share")?.addEventListener("click", share);

const OVERLAY_ONLY = ["cursor", "hover", "dragging", "whatIf"];
const PANEL_KEYS = ["view", "frozen", "at", "open", "tree", "colouring", "lossLog", "pins", "picked", "scalars", "statistics", "marks", "segments", "rules", "alerts", "incidents", "chosenIncident", "selected"];
let awaited = store.get().selected;
store.subscribe((state, changed) => {
  if (changed.has("view")) model.showView();
  setAttribute($("#run"), "data-stale", state.connection.state === "lost" && ["running", "lost"].includes(state.run.state) ? "" : null);
  busy.set(model.busy());
  if (["pins", "picked", "colouring"].some((key) => changed.has(key))) paintControls(state);
  if (PANEL_KEYS.some((key) => changed.has(key))) painter.now();
  if (OVERLAY_ONLY.some((key) => changed.has(key))) painter.overlay();
  // Chosen in the card's list, not by its glyph or sentence: those have moved the view already.
  if (changed.has("chosenIncident") && !changed.has("view")) {
    const incident = (state.incidents ?? []).find(({ id }) => id === state.chosenIncident);
    if (incident) showIncident(incident);
  }
  // An address may name an alert: it is shown as soon as it is known, unless the address also says which steps.
  if (awaited && changed.has("alerts")) {
    const alert = state.alerts.find(({ id }) => id === awaited);
    awaited = null;
    if (alert && isLive(state.view)) showAlert(alert);
  }
});
paintControls(store.get());

addEventListener("resize", () => painter.now());
onThemeChange(() => painter.now());

let hiddenTimer = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.visibilityState === "hidden") hiddenTimer = setTimeout(() => live.pause(), PAUSE_MS);
  else {
    live.resume();
    painter.now();
  }
});

painter.now();
// The sentence, the numbers and the heat map come first; Plotly is large, and nothing else is done while it is taken in.
(async () => {
  try {
    if (model.newest() >= 0) await Promise.race([firstNumbers, new Promise((done) => setTimeout(done, PLOTLY_MS))]);
    const loaded = await loadPlotly();
    for (const chart of charts) chart.usePlotly(loaded);
    painter.now();
  } catch (error) {
    toastError(error);
  }
})();
