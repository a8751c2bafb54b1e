// A chart over steps: Plotly paints axes and lines, our overlay paints lanes, outliers, marks and the cursor.
//
//   mount(element, store, model, options) -> {draw(scene), drawOverlay(scene), cost, destroy, yAxis(), box()}
//     options: title, unit     what the chart shows
//              log             () -> boolean
//              series          () -> [Line]: {key, name, feed, index, colour (token), style, lanes, fit}
//                              style "line" (with its min-max envelope), "thin" or "dashed";
//                              missing(from, to) not null: drawn as lacking parts there
//              keep            () -> [number]: values that must be on the axis (alert lines)
//              zero            whether there is a lane for exact zero
//              overlay         optional (context, box, scene): more to paint

import { formatNumber, formatTick } from "../core/format.js";
import { fitRange, linearTicks, logTicks, position, stepTicks, tickTexts, valueAt, widened } from "../core/scale.js";
import { tracesOf, valuesIn } from "./chart_traces.js";
import { attachPointer } from "./cursor.js";
import { el, setAttribute, setText } from "./element.js";
import { paintPreview } from "./chart_preview.js";
import { LANES_BOTTOM, LANES_TOP, paintLanes, paintOutliers } from "./lanes.js";
import { draw as drawPlotly, purge } from "./plotly.js";
import { newestValue, valueAtStep } from "./run_model.js";
import { onThemeChange, token } from "./theme.js";

const TICKS_BELOW = 17;
/** A scalar logged now and then is read at its last value, at most so many buckets back. */
const SPARSE = 400;

export function mount(element, store, model, options) {
  const { title, unit = "", log, series, keep = () => [], zero = true } = options;
  const legend = el("ul", { class: "legend" });
  const head = el("div", { class: "chart-side" }, el("h2", {}, title, unit ? el("span", { class: "unit" }, unit) : null, options.extra ?? null), legend);
  const lines = el("div", { class: "chart-lines", "aria-hidden": "true" });
  const canvas = el("canvas", { class: "chart-overlay", role: "img", "aria-label": `${title} over steps` });
  const plot = el("div", { class: "chart-plot" }, lines, canvas);
  element.append(head, plot);
  const context = canvas.getContext("2d");
  let size = { width: 0, height: 0, left: 0, right: 0 };
  let axis = null;
  let axisKey = "";
  let cost = 0;
  let plotly = null;
  let painted = -1;
  let drawn = false;
  let scenery = null;

  function measure() {
    const style = getComputedStyle(plot);
    const width = plot.clientWidth;
    const height = plot.clientHeight;
    const left = parseFloat(style.getPropertyValue("--plot-left"));
    const right = parseFloat(style.getPropertyValue("--plot-right"));
    size = { width, height, left, right };
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  function box() {
    return {
      left: size.left,
      right: size.width - size.right,
      top: LANES_TOP,
      bottom: size.height - TICKS_BELOW - (zero ? LANES_BOTTOM : 1),
    };
  }

  /** The y axis: fitted anew for another stretch or other lines, only widened while the same stretch lives. */
  function fit(shown, range) {
    const key = JSON.stringify([store.get().view, log(), shown.map((line) => line.key)]);
    const fitted = fitRange(valuesIn(shown.filter((line) => line.fit !== false), range), keep(), log());
    axis = key === axisKey ? widened(axis, fitted) : fitted;
    if (fitted !== null) axisKey = key;
    return axis ?? { low: log() ? 0.1 : 0, high: 1 };
  }

  function paintLines(shown, range, y) {
    if (plotly === null || size.width === 0 || size.height === 0) return;
    const started = performance.now();
    const inside = box();
    const all = log() ? logTicks(y.low, y.high, 4) : linearTicks(y.low, y.high, 3);
    // The lanes above and below have their own labels: a tick beside one would be printed over.
    const ticks = all.filter((tick) => position(tick, y, log()) > (zero ? 0.05 : 0) && position(tick, y, log()) < 0.95);
    const steps = stepTicks(range.from, range.to, Math.max(2, Math.floor((inside.right - inside.left) / 110)));
    const half = range.to - range.from < 2000 ? 0.5 : 0;
    drawPlotly(plotly, lines, tracesOf(shown.filter((line) => line.painted !== false), range, y, log()), {
      width: size.width,
      height: size.height,
      margin: { l: size.left, r: size.right, t: inside.top, b: size.height - inside.bottom },
      x: {
        range: [range.from, range.to],
        tickmode: "array",
        tickvals: steps.map((step) => step + half),
        ticktext: steps.map(formatTick),
        ticklabelstandoff: zero ? LANES_BOTTOM : 1,
      },
      y: {
        type: log() ? "log" : "linear",
        range: log() ? [Math.log10(y.low), Math.log10(y.high)] : [y.low, y.high],
        tickmode: "array",
        tickvals: ticks,
        ticktext: tickTexts(ticks),
        ticklabelstandoff: 4,
      },
      colours: { grid: token("--chart-grid"), text: token("--text-3") },
      font: token("--font"),
    });
    cost = performance.now() - started;
    drawn = true;
    painted = shown.reduce((step, { feed }) => Math.max(step, feed.window?.lastStep ?? -1), -1);
  }

  function paintOverlay(scene) {
    if (size.width === 0) return;
    const inside = box();
    const shown = series();
    context.clearRect(0, 0, size.width, size.height);
    if (plotly === null && axis !== null) paintPreview(context, inside, scene.range, axis, log(), shown);
    const rows = shown.filter((line) => line.lanes && line.feed.rowOf(line.index) >= 0);
    const places = rows.map((line) => ({ window: line.feed.window, row: line.feed.rowOf(line.index) }));
    if (!awaited(shown)) paintLanes(context, inside, scene.range, places, { zero });
    if (axis !== null) paintOutliers(context, inside, scene.range, axis, places.map((place, i) => ({ ...place, colour: rows[i].colour })));
    options.overlay?.(context, inside, scene, axis);
    paintSelection(inside);
    paintCursor(inside, scene);
    paintLegend(shown, scene);
  }

  function paintSelection(inside) {
    const { selection } = pointer.state;
    if (!selection) return;
    context.fillStyle = token("--chart-band");
    const left = Math.max(inside.left, selection.from);
    context.fillRect(left, 0, Math.min(inside.right, selection.to) - left, inside.bottom);
  }

  function paintCursor(inside, { range, cursor }) {
    if (cursor === null || cursor < range.from || cursor >= range.to) return;
    const x = inside.left + ((cursor + 0.5 - range.from) / (range.to - range.from)) * (inside.right - inside.left);
    context.fillStyle = token("--line-strong");
    context.fillRect(Math.round(x), inside.top - LANES_TOP, 1, inside.bottom - inside.top + LANES_TOP);
  }

  /** Direct labels with the value under the cursor, else the newest. Rows are made once, so nothing shifts. */
  function paintLegend(shown, { cursor }) {
    const key = shown.map((line) => line.key).join("|");
    if (legend.dataset.key !== key) {
      legend.dataset.key = key;
      legend.replaceChildren(...shown.map((line) => legendRow(line)));
    }
    shown.forEach((line, i) => {
      const value = cursor === null ? newestValue(line.feed, line.index) : (valueAtStep(line.feed, line.index, cursor, line.sparse ? SPARSE : 0)?.last ?? null);
      const cell = legend.children[i].lastElementChild;
      setText(cell, value === null ? "" : formatNumber(value));
      cell.dataset.special = Number.isNaN(value ?? 0) ? "nan" : Number.isFinite(value ?? 0) ? "" : "inf";
    });
  }

  const pointer = attachPointer(canvas, store, model, { box });
  const observer = new ResizeObserver(() => {
    measure();
    // A canvas that gets another size is empty: it is painted before anybody sees it.
    if (scenery !== null) paintOverlay(scenery);
    options.onResize?.(size.width - size.left - size.right);
  });
  observer.observe(plot);
  const stopTheme = onThemeChange(() => (legend.dataset.key = ""));
  measure();

  return {
    /** Lines, then the overlay. `scene` is {range, cursor, newest}. */
    draw(scene) {
      const shown = series();
      setAttribute(element, "data-loading", awaited(shown) ? "" : null);
      const y = fit(shown, scene.range);
      paintLines(shown, scene.range, y);
      scenery = scene;
      paintOverlay(scene);
    },
    drawOverlay: paintOverlay,
    usePlotly(loaded) {
      plotly = loaded;
    },
    get cost() {
      return cost;
    },
    /** The step up to which the drawn lines go, -1 before the first drawing. */
    painted: () => painted,
    /** Whether Plotly has drawn it. */
    drawn: () => drawn,
    box,
    plot,
    /** Height of a value on the canvas in CSS pixels, and back. */
    yOf(value) {
      const inside = box();
      return inside.bottom - position(value, axis ?? { low: 0.1, high: 1 }, log()) * (inside.bottom - inside.top);
    },
    valueOf(y) {
      const inside = box();
      return valueAt((inside.bottom - y) / (inside.bottom - inside.top), axis ?? { low: 0.1, high: 1 }, log());
    },
    axis: () => axis,
    destroy() {
      observer.disconnect();
      stopTheme();
      pointer.destroy();
      purge(lines);
      element.replaceChildren();
    },
  };
}

/** Whether the first numbers of all lines are still to come. */
function awaited(lines) {
  return lines.every(({ feed }) => feed.window === null) && lines.some(({ feed }) => feed.busy);
}

function legendRow(line) {
  const swatch = el("i", { class: "swatch", "data-style": line.style });
  swatch.style.setProperty("--swatch", `var(${line.colour})`);
  const name = line.onPick
    ? el("button", { type: "button", class: "legend-name ellipsis", title: line.title ?? line.name, onclick: line.onPick }, line.name)
    : el("span", { class: "legend-name ellipsis", title: line.title ?? line.name }, line.name);
  return el("li", {}, swatch, name, el("b", {}));
}
