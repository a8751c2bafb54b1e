// Mixed precision: the loss scale as a line of steps in powers of two, and the steps that the scaler skipped as ticks below it.
//
//   mount(element, store, model) -> {draw(scene), drawOverlay(scene), destroy}     hidden where the run has neither

import { PRESENT } from "../core/codec.js";
import { formatCount, formatNumber } from "../core/format.js";
import { powersOf, powerText, stairsOf } from "../core/loss_scale.js";
import { columnsOf } from "./chart_traces.js";
import { el, setAttribute, setText } from "./element.js";
import { newestValue, valueAtStep } from "./run_model.js";
import { token } from "./theme.js";

/** Room above the line and below it, where ticks stand, in CSS pixels. */
const TOP = 6;
const BELOW = 14;
const TICK = 8;

/** Whether a step was skipped anywhere in a feed. */
export function anySkipped(feed) {
  const row = feed?.rowOf(0) ?? -1;
  if (row < 0) return false;
  const { window } = feed;
  for (let bucket = window.firstBucket; bucket < window.endBucket; bucket += 1) {
    const cell = window.index(row, bucket);
    if (window.flags[cell] & PRESENT && window.high[cell] > 0) return true;
  }
  return false;
}

export function mount(element, store, model) {
  const value = el("b", {});
  const word = el("b", { class: "muted" });
  const canvas = el("canvas", { class: "chart-lines", role: "img", "aria-label": "Loss scale over steps; ticks are skipped steps" });
  const plot = el("div", { class: "chart-plot" }, canvas);
  const legend = el("ul", { class: "legend" }, el("li", {}, el("span", { class: "swatch", style: "--swatch: var(--chart-4)" }), el("span", { class: "legend-name" }, "scale"), value), el("li", {}, el("span", {}), el("span", { class: "legend-name" }, "step"), word));
  element.append(el("div", { class: "chart-side" }, el("h2", {}, "Loss scale"), legend), plot);
  const context = canvas.getContext("2d");
  const feedOf = (name, options) => (store.get().statistics.some((one) => one.scope === "run" && one.name === name) ? model.feed(name, "run", options) : null);

  function show() {
    const scale = feedOf("loss_scale", { overview: true });
    const known = store.get().run.summary?.loss_scale !== undefined || (scale !== null && scale.window !== null && newestValue(scale, 0, Infinity) !== null);
    // Once there, it stays: nothing below may jump.
    if (known || anySkipped(feedOf("skipped", { overview: true }))) element.hidden = false;
    return !element.hidden;
  }

  function boxOf() {
    const style = getComputedStyle(plot);
    const left = parseFloat(style.getPropertyValue("--plot-left"));
    const right = plot.clientWidth - parseFloat(style.getPropertyValue("--plot-right"));
    return { left, right, top: TOP, bottom: plot.clientHeight - BELOW };
  }

  function paintScale(feed, range, box) {
    const columns = columnsOf(feed.window, 0, range, true);
    const powers = powersOf(columns.low, columns.high);
    if (powers === null) return;
    context.strokeStyle = token("--chart-4");
    context.lineWidth = 1.6;
    context.beginPath();
    for (const [x, y] of stairsOf(columns, range, powers)) context.lineTo(box.left + x * (box.right - box.left), box.bottom - y * (box.bottom - box.top));
    context.stroke();
    context.fillStyle = token("--text-3");
    context.font = `11px ${token("--font")}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText(powerText(2 ** powers.high), box.left - 6, box.top + 3);
    context.textBaseline = "bottom";
    context.fillText(powerText(2 ** powers.low), box.left - 6, box.bottom + 1);
  }

  function paintSkipped(feed, range, box) {
    const { x, high } = columnsOf(feed.window, 0, range, true);
    context.fillStyle = token("--text-2");
    x.forEach((step, i) => {
      if (!(high[i] > 0) || step < range.from || step > range.to) return;
      context.fillRect(Math.round(box.left + ((step - range.from) / (range.to - range.from)) * (box.right - box.left)) - 1, box.bottom + 3, 2, TICK);
    });
    context.font = `9px ${token("--font")}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText("skips", box.left - 6, box.bottom + 4 + TICK / 2);
  }

  function tell({ cursor }, scale, skipped) {
    const at = (feed) => (cursor === null ? newestValue(feed, 0) : (valueAtStep(feed, 0, cursor)?.last ?? null));
    const now = scale === null ? null : at(scale);
    setText(value, now === null ? "" : now >= 1 ? formatCount(now) : formatNumber(now));
    value.title = now === null ? "" : powerText(now);
    const high = skipped === null ? 0 : (cursor === null ? newestValue(skipped, 0) : (valueAtStep(skipped, 0, cursor)?.high ?? 0));
    setText(word, skipped === null ? "" : high > 0 ? "skipped" : "taken");
  }

  function draw(scene) {
    if (!show()) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(plot.clientWidth * ratio);
    canvas.height = Math.round(plot.clientHeight * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const box = boxOf();
    const [scale, skipped] = [feedOf("loss_scale"), feedOf("skipped")];
    setAttribute(element, "data-loading", scale?.busy && scale.window === null ? "" : null);
    context.fillStyle = token("--chart-grid");
    context.fillRect(box.left, box.bottom, box.right - box.left, 1);
    if (scale !== null && scale.window !== null) paintScale(scale, scene.range, box);
    if (skipped !== null && skipped.window !== null) paintSkipped(skipped, scene.range, box);
    tell(scene, scale, skipped);
    const { cursor, range } = scene;
    if (cursor === null || cursor < range.from || cursor >= range.to) return;
    context.fillStyle = token("--line-strong");
    context.fillRect(Math.round(box.left + ((cursor + 0.5 - range.from) / (range.to - range.from)) * (box.right - box.left)), 0, 1, plot.clientHeight);
  }

  show();
  return { draw, drawOverlay: draw, destroy: () => element.replaceChildren() };
}
