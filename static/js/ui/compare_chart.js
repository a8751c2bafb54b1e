// One chart of several runs: Plotly paints lines and axes, a cursor line and the read-out are ours.
//
//   mount(element, {title, log, onCursor}) -> {draw(lines, x), usePlotly(Plotly), cursor(x), destroy}
//     log     true, false, or "auto": when all is positive and spans more than a decade and a half
//     lines   [{colour (token), columns (of compare_data.js)}]
//     x       "step" or "time"
//     onCursor(x or null)   while the pointer moves over the chart

import { formatDuration, formatTick } from "../core/format.js";
import { fitRange, linearTicks, logTicks, stepTicks, tickTexts } from "../core/scale.js";
import { faded } from "./compare_data.js";
import { el } from "./element.js";
import { draw as drawPlotly, purge } from "./plotly.js";
import { onThemeChange, token } from "./theme.js";

const MARGIN = { l: 56, r: 12, t: 14, b: 22 };
const HEIGHT = 240;

/** Smallest ratio of largest to smallest value for which a logarithmic axis tells more. */
const LOG_FROM = 30;

export function mount(element, { title, log: wanted, onCursor }) {
  const lines = el("div", { "aria-hidden": "true" });
  const cursor = el("div", { class: "compare-cursor", hidden: true });
  const plot = el("div", { class: "compare-plot", role: "img", "aria-label": title }, lines, cursor);
  element.append(el("h2", {}, title), plot);
  let plotly = null;
  let shown = null;
  let range = { from: 0, to: 1 };

  const width = () => plot.clientWidth;
  const xOf = (value) => MARGIN.l + ((value - range.from) / (range.to - range.from)) * (width() - MARGIN.l - MARGIN.r);

  function paint() {
    if (!plotly || !shown || width() === 0) return;
    const columns = shown.lines.map((line) => line.columns);
    const ends = columns.flatMap(({ x }) => (x.length ? [x[0], x.at(-1)] : []));
    range = { from: Math.min(0, ...ends), to: Math.max(1, ...ends) };
    const values = columns.flatMap(({ low, high }) => [...low, ...high]);
    const log = wanted === "auto" ? spansDecades(values) : wanted;
    const y = fitRange(values, [], log) ?? { low: log ? 0.1 : 0, high: 1 };
    const ticks = log ? logTicks(y.low, y.high, 5) : linearTicks(y.low, y.high, 4);
    const count = Math.max(2, Math.floor(width() / 110));
    const time = shown.x === "time";
    const marks = time ? linearTicks(range.from, range.to, count) : stepTicks(range.from, range.to, count);
    drawPlotly(plotly, lines, shown.lines.flatMap((line) => tracesOf(line, y)), {
      width: width(),
      height: HEIGHT,
      margin: MARGIN,
      x: { range: [range.from, range.to], tickmode: "array", tickvals: marks, ticktext: marks.map(time ? formatDuration : formatTick) },
      y: { type: log ? "log" : "linear", range: log ? [Math.log10(y.low), Math.log10(y.high)] : [y.low, y.high], tickmode: "array", tickvals: ticks, ticktext: tickTexts(ticks) },
      colours: { grid: token("--chart-grid"), text: token("--text-3") },
      font: token("--font"),
    });
  }

  const move = (event) => {
    const inside = event.clientX - plot.getBoundingClientRect().left;
    const share = (inside - MARGIN.l) / (width() - MARGIN.l - MARGIN.r);
    onCursor(share < 0 || share > 1 ? null : range.from + share * (range.to - range.from));
  };
  const leave = () => onCursor(null);
  plot.addEventListener("pointermove", move);
  plot.addEventListener("pointerleave", leave);
  const observer = new ResizeObserver(paint);
  observer.observe(plot);
  const stopTheme = onThemeChange(paint);
  return {
    draw(fresh, x) {
      shown = { lines: fresh, x };
      paint();
    },
    usePlotly(loaded) {
      plotly = loaded;
      element.removeAttribute("data-loading");
      paint();
    },
    cursor(x) {
      cursor.hidden = x === null;
      if (x !== null) cursor.style.left = `${Math.round(xOf(x))}px`;
    },
    destroy() {
      observer.disconnect();
      stopTheme();
      purge(lines);
      element.replaceChildren();
    },
  };
}

function spansDecades(values) {
  let low = Infinity;
  let high = 0;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > 0 && high / low > LOG_FROM;
}

const BASE = { type: "scatter", mode: "lines", hoverinfo: "skip" };

/** The envelope, the line, and where something wasn't a number: ticks at the upper edge. */
function tracesOf({ colour, columns }, y) {
  const line = token(colour);
  const none = { width: 0, color: "rgba(0,0,0,0)" };
  const { x, last, low, high, bad } = columns;
  return [
    { ...BASE, x, y: low, line: none },
    { ...BASE, x, y: high, line: none, fill: "tonexty", fillcolor: faded(line, 0.16) },
    { ...BASE, x, y: last, line: { color: line, width: 1.5 } },
    { ...BASE, mode: "markers", x: bad, y: bad.map(() => y.high), marker: { symbol: "line-ns", size: 9, line: { width: 2, color: token("--nan") } } },
  ];
}
