// Paints the lanes of NaN, Inf and zero and the arrows of outliers onto a chart's overlay canvas.

import { formatNumber } from "../core/format.js";
import { LANE, LANES, laneSpans, outliers } from "../core/lanes.js";
import { token } from "./theme.js";

/** Room above and below the plot for the lanes, in CSS pixels. */
export const LANES_TOP = 2 * LANE + 2;
export const LANES_BOTTOM = LANE + 1;

/** Top of a lane within the overlay, from the plot's box `{top, bottom}`. */
export function laneTop(lane, box) {
  if (lane.edge === "bottom") return box.bottom + 1;
  const place = LANES.filter((other) => other.edge === "top").indexOf(lane);
  return box.top - LANES_TOP + 1 + place * LANE;
}

/**
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {{left: number, right: number, top: number, bottom: number}} box of the plot
 * @param {{window: object, row: number}[]} rows whose cells fill the lanes
 */
export function paintLanes(context, box, range, rows, { zero = true } = {}) {
  const pixels = box.right - box.left;
  context.font = `8px ${token("--font")}`;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const lane of LANES) {
    if (lane.edge === "bottom" && !zero) continue;
    const top = laneTop(lane, box);
    context.fillStyle = token("--surface-2");
    context.fillRect(box.left, top, pixels, LANE - 1);
    const spans = rows.flatMap(({ window, row }) => laneSpans(window, row, lane.flag, range, pixels));
    context.fillStyle = token(spans.length > 0 ? lane.token : "--text-3");
    context.fillText(lane.name, box.left - 5, top + (LANE - 1) / 2 + 0.5);
    for (const { x0, x1 } of spans) context.fillRect(box.left + x0, top, x1 - x0, LANE - 1);
  }
}

/**
 * Arrows at the edge of the plot for values beyond its axis, each with its value where no other stands.
 *
 * @param {{window: object, row: number, colour: string}[]} rows
 */
export function paintOutliers(context, box, range, axis, rows) {
  const pixels = box.right - box.left;
  context.font = `10px ${token("--font")}`;
  context.textBaseline = "middle";
  const taken = [];
  for (const { window, row, colour } of rows) {
    context.fillStyle = token(colour);
    for (const { x, edge, value } of outliers(window, row, range, axis, pixels, 64)) {
      const tip = edge === "top" ? box.top + 1 : box.bottom - 1;
      const base = edge === "top" ? tip + 6 : tip - 6;
      const at = box.left + Math.min(pixels - 4, Math.max(4, x));
      context.beginPath();
      context.moveTo(at, tip);
      context.lineTo(at - 4, base);
      context.lineTo(at + 4, base);
      context.fill();
      if (taken.some((other) => other.edge === edge && Math.abs(other.at - at) < 64)) continue;
      taken.push({ edge, at });
      const rightSide = at + 48 < box.right;
      context.textAlign = rightSide ? "left" : "right";
      context.fillText(formatNumber(value), at + (rightSide ? 7 : -7), (tip + base) / 2 + (edge === "top" ? 1 : -1));
    }
  }
}
