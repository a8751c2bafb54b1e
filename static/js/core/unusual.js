// Which layers are furthest from their own normal, and which are worth following. Pure.

import { LEAST_SCALE, robust } from "./baseline.js";

/**
 * The `count` nodes furthest from normal, first those whose value is no number at all or exactly zero. Open groups are left
 * out: what they hold is among the nodes itself. `valueOf(node)` gives `{last, z}` or null.
 *
 * @returns {{node: object, last: number, z: number | null}[]} z is null where it can't be told
 */
export function mostUnusual(nodes, valueOf, count) {
  const shown = new Set(nodes);
  const found = [];
  for (const node of nodes) {
    if (node.kind === "group" && node.children.some((child) => shown.has(child))) continue;
    const value = valueOf(node);
    if (value === null) continue;
    const broken = !Number.isFinite(value.last) || value.last === 0;
    found.push({ node, last: value.last, z: broken || !Number.isFinite(value.z) ? null : value.z, rank: broken ? Infinity : Math.abs(value.z) || 0 });
  }
  found.sort((a, b) => (a.rank === b.rank ? 0 : b.rank - a.rank));
  return found.slice(0, count).map(({ node, last, z }) => ({ node, last, z }));
}

/**
 * `valueOf` with distances from the middle of all nodes instead of from each one's own normal: for a run that was never normal.
 *
 * @param {object[]} nodes  @param {(node: object) => {last: number, z: number} | null} valueOf
 */
export function againstOthers(nodes, valueOf) {
  const shown = new Set(nodes);
  const closed = nodes.filter((node) => node.kind !== "group" || !node.children.some((child) => shown.has(child)));
  const values = closed.map((node) => valueOf(node)?.last).filter((last) => last > 0 && last < Infinity);
  const { centre, scale } = robust(values.map(Math.log2));
  return (node) => {
    const value = valueOf(node);
    return value && { ...value, z: (Math.log2(value.last) - centre) / Math.max(scale, LEAST_SCALE) };
  };
}

/**
 * Layers worth following when nobody knows their names: `[{why, node}]`, each node once.
 *
 * @param {{nodes: Map<string, object>}} tree  @param {object} unusual the most unusual node
 * @param {object} largest the node with the largest share of the norm
 */
export function suggested(tree, unusual, largest) {
  const tensors = [...tree.nodes.values()].filter((node) => node.kind === "tensor").sort((a, b) => a.order - b.order);
  const weights = tensors.filter(({ name }) => name.endsWith("weight"));
  const ends = weights.length > 1 ? weights : tensors;
  const found = [
    ["most unusual", unusual],
    ["largest", largest],
    ["first", ends[0]],
    ["last", ends.at(-1)],
  ];
  const seen = new Set();
  return found.filter(([, node]) => node && !seen.has(node.key) && seen.add(node.key)).map(([why, node]) => ({ why, node }));
}
