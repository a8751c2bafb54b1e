// An incident on the heat map: the cell where it began carries a 1, the layers that followed 2, 3, 4.

import { leading, pathOf } from "../core/incident.js";
import { rowSpan } from "../core/heat.js";
import { token } from "./theme.js";

const MOST = 9;
const BADGE = 12;

/** The incident the page speaks of: the chosen one, else the gravest open one. */
export function shownIncident({ incidents, chosenIncident }) {
  if (!incidents) return null;
  return incidents.find(({ id }) => id === chosenIncident) ?? leading(incidents);
}

/**
 * Places of an incident on the rows that stand in the tree: a tensor whose row is closed is marked on the group that holds
 * it, where only the first counts. `[{line, step, order}]`.
 */
export function placesOf(incident, rows, nodes) {
  const lines = new Map(rows.map((row, line) => [row.key, line]));
  const taken = new Set();
  const places = [];
  for (const { tensor, step, order } of pathOf(incident)) {
    let node = nodes.get(`t:${tensor}`) ?? null;
    while (node !== null && !lines.has(node.key)) node = node.parent;
    if (node === null || taken.has(node.key)) continue;
    taken.add(node.key);
    if (order > MOST) break;
    places.push({ line: lines.get(node.key), step, order });
  }
  return places;
}

/** @param {{left: number, right: number, height: number}} box of the cells within the overlay */
export function paintIncident(context, box, range, rows, nodes, incident) {
  const scale = (box.right - box.left) / (range.to - range.from);
  context.font = `bold 9px ${token("--font")}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { line, step, order } of placesOf(incident, rows, nodes)) {
    if (step < range.from || step >= range.to) continue;
    const { top, bottom } = rowSpan(line, rows.length, box.height);
    const x = box.left + (step - range.from) * scale;
    context.strokeStyle = token("--text");
    context.lineWidth = 1;
    context.strokeRect(Math.round(x) - 0.5, top - 0.5, Math.max(3, scale) + 1, bottom - top);
    // The number stands before the cell, so that it hides none of what came after.
    const middle = (top + bottom) / 2;
    const at = Math.max(box.left + BADGE / 2, x - BADGE / 2 - 2);
    context.fillStyle = token("--text");
    context.fillRect(at - BADGE / 2, middle - BADGE / 2, BADGE, BADGE);
    context.fillStyle = token("--surface");
    context.fillText(String(order), at, middle + 0.5);
  }
}
