// One step over the depth of the model: what is drawn as a profile, and how gradients grow from layer to layer. Pure.

import { formatNumber } from "./format.js";

/**
 * `values` by place, in the given order, pooled into so many columns: the largest of each column, NaN before all others, null
 * where nothing is known. Exact zeros show only where a whole column is zero.
 *
 * @param {{place: number}[]} order  @param {(number | null)[]} values  @returns {(number | null)[]}
 */
export function pooledOver(order, values, columns) {
  const pooled = new Array(columns).fill(null);
  order.forEach(({ place }, i) => {
    const value = values[place] ?? null;
    const column = Math.floor((i * columns) / order.length);
    if (value === null || Number.isNaN(pooled[column] ?? 0)) return;
    if (pooled[column] === null || Number.isNaN(value) || value > pooled[column]) pooled[column] = value;
  });
  return pooled;
}

/**
 * Gains of one step toward the input, between weights next to each other in depth: each is the norm of a weight over the norm
 * of the weight after it. `mean` is their geometric mean; `most` the one furthest from 1, with the weight it leads into.
 * Null with fewer than three usable weights.
 */
export function gainsOf(tensors, values) {
  const weights = tensors
    .map((tensor, place) => ({ name: tensor.name, depth: tensor.depth, kind: tensor.kind, value: values[place] ?? NaN }))
    .filter(({ kind, value }) => (kind === "weight" || kind === undefined) && value > 0 && value < Infinity)
    .sort((a, b) => a.depth - b.depth);
  if (weights.length < 3) return null;
  let most = null;
  for (let i = 0; i + 1 < weights.length; i += 1) {
    const gain = weights[i].value / weights[i + 1].value;
    if (most === null || Math.abs(Math.log(gain)) > Math.abs(Math.log(most.gain))) most = { gain, into: weights[i].name };
  }
  const mean = (weights[0].value / weights.at(-1).value) ** (1 / (weights.length - 1));
  return { mean, most };
}

/** "Toward the input x1.02 a layer, at most x6.1 into blocks.3.mlp.fc2.weight", "" for nothing to say. */
export function gainText(gains) {
  if (gains === null) return "";
  const { mean, most } = gains;
  return `Toward the input \u00d7${formatNumber(mean, 3)} a layer, most \u00d7${formatNumber(most.gain, 2)} into ${most.into}`;
}
