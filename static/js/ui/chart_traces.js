// From windows of buckets to the traces that Plotly draws.

import { PRESENT } from "../core/codec.js";
import { parted } from "../core/ranks.js";
import { token } from "./theme.js";

/** First and last bucket of a window inside a range, one more on each side so that lines reach the edges. */
function span(window, range) {
  const begin = Math.max(window.firstBucket, Math.floor(range.from / window.width) - 1);
  return { begin, end: Math.min(window.endBucket, Math.ceil(range.to / window.width) + 1) };
}

/** Every finite extreme of the lines inside the range, for fitting the axis. */
export function valuesIn(lines, range) {
  const values = [];
  for (const { feed, index } of lines) {
    const row = feed.rowOf(index);
    if (row < 0) continue;
    const { window } = feed;
    const { begin, end } = span(window, range);
    for (let bucket = begin; bucket < end; bucket += 1) {
      const cell = window.index(row, bucket);
      if ((window.flags[cell] & PRESENT) === 0) continue;
      values.push(window.low[cell], window.high[cell]);
    }
  }
  return values;
}

/**
 * Columns of one row inside a range: x at the middle of each bucket, its last, low and high value. Buckets of single steps
 * that hold nothing are left out for sparse rows (a scalar logged now and then is a line, not a row of dots).
 */
export function columnsOf(window, row, range, sparse) {
  const { begin, end } = span(window, range);
  const x = [];
  const last = [];
  const low = [];
  const high = [];
  for (let bucket = begin; bucket < end; bucket += 1) {
    const cell = window.index(row, bucket);
    const present = (window.flags[cell] & PRESENT) !== 0;
    if (!present && sparse) continue;
    x.push((bucket + 0.5) * window.width);
    last.push(present ? window.last[cell] : NaN);
    low.push(present ? window.low[cell] : NaN);
    high.push(present ? window.high[cell] : NaN);
  }
  return { x, last, low, high };
}

const BASE = { type: "scatter", mode: "lines", hoverinfo: "skip" };
const WIDTHS = { line: 1.6, thin: 1, dashed: 1.2 };

/** Values beyond a log axis are held just outside it: a line that leaves the plot points at its outlier. */
function held(values, y, log) {
  const [low, high] = log ? [y.low / 100, y.high * 100] : [y.low - 10 * (y.high - y.low), y.high + 10 * (y.high - y.low)];
  return values.map((value) => (value > high ? high : value < low && !(log && value <= 0) ? low : value));
}

/** The outline of an envelope: one closed shape for each stretch without a gap, shapes parted by NaN. */
export function outlineOf(x, low, high) {
  const outline = { x: [], y: [] };
  let from = 0;
  for (let i = 0; i <= x.length; i += 1) {
    if (i < x.length && !Number.isNaN(low[i]) && !Number.isNaN(high[i])) continue;
    if (i > from) {
      if (outline.x.length > 0) {
        outline.x.push(NaN);
        outline.y.push(NaN);
      }
      outline.x.push(...x.slice(from, i), ...x.slice(from, i).reverse());
      outline.y.push(...high.slice(from, i), ...low.slice(from, i).reverse());
    }
    from = i + 1;
  }
  return outline;
}

/** Columns of a line as `{whole, part}`; `part` is what lacks ranks, null when nothing does. */
export function partsOf({ feed, index, sparse = false, missing = null }, range) {
  const columns = columnsOf(feed.window, feed.rowOf(index), range, sparse);
  const half = feed.window.width / 2;
  const lacking = missing === null ? [] : columns.x.map((middle) => missing(middle - half, middle + half) !== null);
  return lacking.includes(true) ? parted(columns, lacking) : { whole: columns, part: null };
}

/** What lacks ranks is drawn in this colour, dashed, with rings where its points are few. */
export const LACKING = "--text-3";
const FEW = 60;

function lackingTrace({ x, last }, y, log) {
  const paint = token(LACKING);
  const line = { color: paint, width: 1.2, dash: "3px,3px", simplify: false };
  const mode = x.length < FEW ? "lines+markers" : "lines";
  return { ...BASE, mode, marker: { size: 5, symbol: "circle-open", color: paint }, x, y: held(last, y, log), line };
}

/** Plotly traces of the lines, envelopes first so that every line lies above. */
export function tracesOf(lines, range, y, log) {
  const envelopes = [];
  const traces = [];
  for (const shown of lines) {
    const { feed, colour, style, sparse = false } = shown;
    if (feed.rowOf(shown.index) < 0) continue;
    const { whole, part } = partsOf(shown, range);
    const { x, last } = whole;
    const paint = token(colour);
    for (const [columns, fill] of feed.window.width > 1 && style === "line" ? [[whole, paint], [part, token(LACKING)]] : []) {
      if (columns === null) continue;
      const outline = outlineOf(columns.x, held(columns.low, y, log), held(columns.high, y, log));
      envelopes.push({ ...BASE, ...outline, line: { width: 0 }, fill: "toself", fillcolor: faint(fill) });
    }
    if (part !== null) traces.push(lackingTrace(part, y, log));
    const line = { color: paint, width: WIDTHS[style], dash: style === "dashed" ? "4px,3px" : "solid", simplify: false };
    const lonely = sparse && x.length < 40;
    traces.push({ ...BASE, mode: lonely ? "lines+markers" : "lines", marker: { size: 4, color: paint }, x, y: held(last, y, log), line });
  }
  return [...envelopes, ...traces];
}

/** A colour of the tokens (#rrggbb) at a fifth of its strength. */
function faint(colour) {
  return /^#[0-9a-f]{6}$/i.test(colour) ? `${colour}30` : colour;
}
