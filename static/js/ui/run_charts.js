// The charts of the run page: global norm, loss with learning rate, pinned layers. What each shows; ui/chart.js draws it.

import { Baseline } from "../core/baseline.js";
import { formatNumber } from "../core/format.js";
import { position, quantile } from "../core/scale.js";
import { columnsOf, valuesIn } from "./chart_traces.js";
import { mount as mountChart } from "./chart.js";
import { el, setAttribute, setText } from "./element.js";
import { newestValue } from "./run_model.js";
import { token } from "./theme.js";

const always = () => true;
/** Conditions that are a line on a chart. */
const LINES = new Set(["above", "below"]);

/** Every enabled rule that is a threshold on the newest value of a statistic, about this run. */
export function rulesFor(store, statistic) {
  const { rules = [], run } = store.get();
  return rules.filter((rule) => rule.statistic === statistic && rule.enabled && LINES.has(rule.condition) && rule.window === 1 && concerns(rule, run));
}

/** Whether a rule's globs of project and run take in this run. */
export function concerns(rule, run) {
  return globMatches(rule.project ?? "*", run.project) && globMatches(rule.run ?? "*", run.id);
}

function globMatches(glob, text) {
  const pattern = glob.replace(/[.+^${}()|\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  try {
    return new RegExp(`^${pattern}$`).test(text);
  } catch {
    return glob === text;
  }
}

const has = (store, name) => store.get().statistics.some((statistic) => statistic.scope === "run" && statistic.name === name);

/** Whether a statistic of the run has any value: a declared one may never have come. */
const filled = (store, feed) => store.get().run.summary?.[feed.statistic] !== undefined || newestValue(feed, 0, Infinity) !== null;

/** Global norm: before clipping, after it, and the limit. */
export function mountNorm(element, store, model, { ranks, keep, overlay, onResize }) {
  const feed = (name) => (has(store, name) ? model.feed(name, "run") : null);
  const series = () => {
    const [pre, post, limit] = [model.feed("global_grad_norm", "run"), feed("global_grad_norm_clipped"), feed("clip_limit")];
    const clipped = post !== null && filled(store, post);
    const lines = [{ key: clipped ? "pre" : "norm", name: clipped ? "pre-clip" : "norm", feed: pre, index: 0, colour: "--chart-0", style: "line", lanes: true, missing: ranks.missing }];
    if (clipped) lines.push({ key: "post", name: "post-clip", feed: post, index: 0, colour: "--chart-2", style: "thin", lanes: false, missing: ranks.missing });
    if (limit !== null && filled(store, limit)) lines.push({ key: "limit", name: "clip limit", feed: limit, index: 0, colour: "--chart-7", style: "dashed", lanes: false });
    return lines;
  };
  const overview = model.feed("global_grad_norm", "run", { overview: true });
  const tell = tellNormal(element);
  const normal = new Baseline();
  const paint = (context, box, scene, axis) => {
    if (overview.window !== null && axis !== null) {
      normal.update(overview.window);
      tell(paintBand(context, box, scene.range, axis, normal, 0));
    }
    if (axis !== null) paintLimit(context, box, axis, store.get().whatIf);
    setAttribute(element, "data-lacking", ranks.missing(scene.range.from, scene.range.to) === null ? null : "1");
    paintRanks(context, box, scene, scene.cursor === null ? "" : ranks.textAt(scene.cursor));
    overlay?.(context, box, scene, axis);
  };
  return mountChart(element, store, model, { title: "Global norm", unit: "log", log: always, series, keep, overlay: paint, onResize });
}

/** "7 of 8 ranks" beside the cursor where that is so. */
function paintRanks(context, box, { cursor, range }, text) {
  if (text === "" || cursor < range.from || cursor >= range.to) return;
  const x = box.left + ((cursor + 0.5 - range.from) / (range.to - range.from)) * (box.right - box.left);
  const before = x > (box.left + box.right) / 2;
  context.fillStyle = token("--warning");
  context.font = `11px ${token("--font")}`;
  context.textAlign = before ? "right" : "left";
  context.textBaseline = "top";
  context.fillText(text, before ? x - 5 : x + 5, box.top + 2);
}

/** The limit that is being tried. */
function paintLimit(context, box, axis, limit) {
  if (limit === null) return;
  const y = box.bottom - position(limit, axis, true) * (box.bottom - box.top);
  if (y < box.top || y > box.bottom) return;
  context.fillStyle = token("--chart-2");
  context.fillRect(box.left, Math.round(y) - 0.5, box.right - box.left, 1.5);
  context.font = `10px ${token("--font")}`;
  context.textAlign = "left";
  context.textBaseline = "bottom";
  context.fillText(`clip at ${formatNumber(limit)}`, box.left + 4, y - 2);
}

/** Says on the element whether the band of what is normal stands behind the curve. */
const tellNormal = (element) => (shown) => setAttribute(element, "data-normal", shown ? "1" : null);

/** How many units around the centre are normal. */
const NORMAL = 3;

/** The band of what is normal for a row of a baseline, as the colours of the heat map have it. False when it isn't known. */
function paintBand(context, box, range, axis, normal, row) {
  if (normal.n === 0 || Number.isNaN(normal.centre[normal.at(row, range.from)])) return false;
  const wide = range.to - range.from;
  const points = Math.max(2, Math.min(256, Math.ceil(wide / normal.width)));
  const xOf = (step) => box.left + ((step - range.from) / wide) * (box.right - box.left);
  const yOf = (octaves) => Math.min(box.bottom, Math.max(box.top, box.bottom - position(2 ** octaves, axis, true) * (box.bottom - box.top)));
  const edge = (sign) =>
    Array.from({ length: points + 1 }, (_, i) => {
      const step = range.from + (i / points) * wide;
      const at = normal.at(row, step);
      return [xOf(step), yOf(normal.centre[at] + sign * NORMAL * normal.scale[at])];
    });
  context.fillStyle = token("--chart-band");
  context.beginPath();
  for (const [x, y] of [...edge(1), ...edge(-1).reverse()]) context.lineTo(x, y);
  context.fill();
  return true;
}

/** A loss whose highest values are so many times the usual one is drawn on a log axis. */
const WIDE = 50;
const LOOK_MS = 1000;
const COLOURS = ["--chart-1", "--chart-3", "--chart-4", "--chart-5", "--chart-6", "--chart-2"];

/** Names of the scalars on the loss chart: what was chosen, else every logged loss. */
export function scalarsShown(state) {
  const logged = state.statistics.filter(({ scope, logged, name }) => scope === "run" && logged && !name.startsWith("system/")).map(({ name }) => name);
  if (state.scalars.length > 0) return state.scalars.filter((name) => logged.includes(name)).slice(0, COLOURS.length);
  const losses = logged.filter((name) => /loss/i.test(name));
  return (losses.length > 0 ? losses : logged.slice(0, 1)).sort((a, b) => Number(b === "loss") - Number(a === "loss")).slice(0, 3);
}

/** Loss and any other logged scalar on one axis; the learning rate as a grey line on its own, from 0 to its highest. */
export function mountLoss(element, store, model, { keep, overlay }) {
  let wideView = null;
  let lookedAt = -Infinity;
  let seen = [];
  const picker = mountPicker(store, () => store.get().lossLog ?? wideView === store.get().view);
  const series = () => {
    const shown = scalarsShown(store.get());
    const lines = shown.map((name, i) => ({
      key: name,
      name,
      feed: model.feed(name, "run"),
      index: 0,
      colour: COLOURS[i],
      style: "line",
      lanes: true,
      sparse: true,
      title: shown.length > 1 ? `${name}: click to hide` : name,
      onPick: shown.length > 1 ? () => store.set({ scalars: shown.filter((other) => other !== name) }) : null,
    }));
    if (has(store, "lr")) lines.push({ key: "lr", name: "lr", title: "learning rate, from 0 to its highest", feed: model.feed("lr", "run"), index: 0, colour: "--chart-7", style: "thin", lanes: false, fit: false, painted: false });
    return lines;
  };
  /** Without a choice the axis turns log when the loss spans decades, and stays so until another stretch is shown. */
  function wide() {
    const { view } = store.get();
    const shown = series().filter((line) => line.fit !== false);
    const windows = shown.map(({ feed }) => feed.window);
    const now = performance.now();
    const same = windows.length === seen.length && windows.every((window, i) => window === seen[i]);
    if (wideView === view || (same && now - lookedAt < LOOK_MS)) return wideView === view;
    lookedAt = now;
    seen = windows;
    const values = valuesIn(shown, model.range()).filter(Number.isFinite).sort((one, other) => one - other);
    const spans = values.length > 0 && values[0] > 0 && quantile(values, 0.995) > WIDE * quantile(values, 0.5);
    wideView = spans ? view : null;
    return spans;
  }
  const chart = mountChart(element, store, model, {
    title: "Loss",
    log: () => store.get().lossLog ?? wide(),
    series,
    keep,
    zero: false,
    extra: picker.element,
    overlay(context, box, scene, axis) {
      picker.paint();
      if (has(store, "lr")) paintRate(context, box, scene.range, model.feed("lr", "run"));
      overlay?.(context, box, scene, axis);
    },
  });
  return { ...chart, get cost() { return chart.cost; }, destroy: () => (picker.destroy(), chart.destroy()) };
}

function paintRate(context, box, range, feed) {
  if (feed.window === null) return;
  const { x, last } = columnsOf(feed.window, 0, range, true);
  const top = Math.max(...last.filter(Number.isFinite), 0);
  if (!(top > 0)) return;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  context.clip();
  context.strokeStyle = token("--chart-7");
  context.globalAlpha = 0.7;
  context.lineWidth = 1;
  context.beginPath();
  x.forEach((step, i) => {
    const at = box.left + ((step - range.from) / (range.to - range.from)) * (box.right - box.left);
    const y = box.bottom - 1 - (last[i] / top) * (box.bottom - box.top - 3);
    if (i === 0) context.moveTo(at, y);
    else context.lineTo(at, y);
  });
  context.stroke();
  context.restore();
}

/** Chooses more scalars and the axis. Hidden while there is nothing to choose. */
function mountPicker(store, isLog) {
  const select = el("select", { class: "scalar-picker", "aria-label": "Add a logged scalar" });
  const log = el("button", { type: "button", class: "link", title: "Linear or log axis", onclick: () => store.set({ lossLog: !isLog() }) });
  const element = el("span", { class: "picker" }, log, select);
  select.addEventListener("change", () => {
    if (select.value) store.set({ scalars: [...scalarsShown(store.get()), select.value] });
    select.value = "";
  });
  let key = "";
  const paint = () => {
    const state = store.get();
    setText(log, isLog() ? "log" : "linear");
    const shown = scalarsShown(state);
    const more = state.statistics.filter(({ scope, logged, name }) => scope === "run" && logged && !shown.includes(name)).map(({ name }) => name);
    if (key === more.join("|")) return;
    key = more.join("|");
    select.hidden = more.length === 0;
    select.replaceChildren(el("option", { value: "" }, "+ add"), ...more.map((name) => el("option", { value: name }, name)));
  };
  const stop = store.subscribe((_, changed) => ["statistics", "scalars", "lossLog"].some((name) => changed.has(name)) && paint());
  select.hidden = true;
  paint();
  return { element, paint, destroy: stop };
}

const PIN_COLOURS = ["--chart-0", "--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6", "--chart-7"];
export const MOST_PINS = PIN_COLOURS.length;

/**
 * Curves of the picked layer and the pinned ones, by keys of nodes ("t:name" or "g:path"). The picked one comes with the band of
 * its own normal: `normalOf(node)` gives `{baseline, row}`, null while it isn't known.
 */
export function mountLayers(element, store, model, { normalOf }) {
  const feeds = {
    tensor: model.feed("grad_norm", "tensor", { rows: [], name: "pins" }),
    group: model.feed("grad_norm", "group", { rows: [], name: "pins" }),
  };
  const nodes = () => {
    const { tree, pins, picked } = store.get();
    const keys = picked === null || pins.includes(picked) ? pins : [picked, ...pins];
    return tree ? keys.map((key) => tree.nodes.get(key)).filter(Boolean) : [];
  };
  const select = () => {
    for (const kind of ["tensor", "group"]) feeds[kind].select(nodes().filter((node) => node.kind === kind).map((node) => node.index));
  };
  const unpin = (key) => {
    const { pins, picked } = store.get();
    store.set({ pins: pins.filter((other) => other !== key), picked: picked === key ? null : picked });
  };
  const series = () =>
    nodes().map((node, i) => ({
      key: node.key,
      name: node.name.split(".").slice(-3).join("."),
      title: `${node.name}: click to remove`,
      feed: feeds[node.kind],
      index: node.index,
      colour: PIN_COLOURS[i % PIN_COLOURS.length],
      style: "line",
      lanes: true,
      onPick: () => unpin(node.key),
    }));
  const tell = tellNormal(element);
  const overlay = (context, box, scene, axis) => {
    const { picked, tree } = store.get();
    const node = picked === null ? null : tree?.nodes.get(picked);
    const normal = node && axis !== null ? normalOf(node) : null;
    tell(normal !== null && paintBand(context, box, scene.range, axis, normal.baseline, normal.row));
  };
  const stop = store.subscribe((_, changed) => ["pins", "picked", "tree"].some((key) => changed.has(key)) && select());
  select();
  const chart = mountChart(element, store, model, { title: "Chosen layers", log: always, series, overlay });
  return { ...chart, get cost() { return chart.cost; }, destroy: () => (stop(), chart.destroy()) };
}
