// The lines of a chart on our own canvas, until Plotly is there: the same curves on the same axes, without ticks.

import { position } from "../core/scale.js";
import { LACKING, partsOf } from "./chart_traces.js";
import { token } from "./theme.js";

/** @param {{left: number, right: number, top: number, bottom: number}} box  @param {{low: number, high: number}} axis */
export function paintPreview(context, box, range, axis, log, lines) {
  const xOf = (step) => box.left + ((step - range.from) / (range.to - range.from)) * (box.right - box.left);
  const yOf = (value) => box.bottom - position(value, axis, log) * (box.bottom - box.top);
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  context.clip();
  for (const line of lines) {
    const { feed, colour, style, painted = true } = line;
    if (feed.rowOf(line.index) < 0 || !painted) continue;
    const { whole, part } = partsOf(line, range);
    const { x, last, low, high } = whole;
    context.strokeStyle = token(colour);
    if (feed.window.width > 1 && style === "line") paintSpread(context, x.map(xOf), low.map(yOf), high.map(yOf));
    context.globalAlpha = 1;
    context.lineWidth = style === "line" ? 1.6 : 1;
    context.setLineDash(style === "dashed" ? [4, 3] : []);
    trace(context, x.map(xOf), last.map(yOf));
    if (part === null) continue;
    context.strokeStyle = token(LACKING);
    context.setLineDash([3, 3]);
    trace(context, part.x.map(xOf), part.last.map(yOf));
  }
  context.restore();
}

/** The envelope as one upright line for each bucket. */
function paintSpread(context, x, low, high) {
  context.globalAlpha = 0.19;
  context.lineWidth = Math.max(1, x.length > 1 ? x[1] - x[0] : 1);
  context.beginPath();
  x.forEach((at, i) => {
    if (!Number.isFinite(low[i]) || !Number.isFinite(high[i])) return;
    context.moveTo(at, low[i]);
    context.lineTo(at, high[i]);
  });
  context.stroke();
}

/** One line, broken where a value is missing. */
function trace(context, x, y) {
  context.beginPath();
  let pen = false;
  x.forEach((at, i) => {
    const there = Number.isFinite(y[i]);
    if (there && pen) context.lineTo(at, y[i]);
    else if (there) context.moveTo(at, y[i]);
    pen = there;
  });
  context.stroke();
}
