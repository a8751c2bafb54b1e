// One step over the depth of the model: what is drawn as a profile, and how gradients grow from layer to layer. Pure.

import { formatCount, formatNumber } from "./format.js";

/** How far a value lies outside its normal range, in octaves: 0 inside it or where none is known; NaN, Inf and zero lie furthest. */
export function outside(value, low, high) {
  if (Number.isNaN(value) || value === Infinity) return Infinity;
  if (!(low > 0)) return 0;
  if (value === 0) return -Infinity;
  return value > high ? Math.log2(value / high) : value < low ? Math.log2(value / low) : 0;
}

/**
 * One tensor for each of so many columns, in the given order: the one furthest outside its normal range; if none is, the one
 * with the largest value. `[{value, low, high, out}]`, null where nothing is known; `out` is signed as {@link outside}.
 *
 * @param {{place: number}[]} order  @param {(number | null)[]} values
 * @param {{low: (number | null)[], high: (number | null)[]} | null} normals by place
 */
export function profileOf(order, values, normals, columns) {
  const profile = new Array(columns).fill(null);
  order.forEach(({ place }, i) => {
    const value = values[place] ?? null;
    if (value === null) return;
    const column = Math.floor((i * columns) / order.length);
    const low = normals?.low[place] ?? null;
    const high = normals?.high[place] ?? null;
    const out = outside(value, low, high);
    const kept = profile[column];
    const further = kept === null || Math.abs(out) > Math.abs(kept.out);
    const wins = further || (Math.abs(out) === Math.abs(kept.out) && !Number.isNaN(kept.value) && !(value <= kept.value));
    if (wins) profile[column] = { value, low, high, out };
  });
  return profile;
}

/** "3 of 75 unusual", "all 75 as usual", "" while no range is known. */
export function outsideText(values, normals) {
  const known = normals?.low.filter((low, place) => low !== null && values[place] !== null).length ?? 0;
  if (known === 0) return "";
  const out = values.filter((value, place) => value !== null && normals.low[place] !== null && outside(value, normals.low[place], normals.high[place]) !== 0).length;
  return out === 0 ? `all ${formatCount(known)} as usual` : `${formatCount(out)} of ${formatCount(known)} unusual`;
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

/** "Toward the input x1.02 per layer; largest jump x6.1 at blocks.3.mlp.fc2.weight", "" for nothing to say. */
export function gainText(gains) {
  if (gains === null) return "";
  const { mean, most } = gains;
  return `Toward the input \u00d7${formatNumber(mean, 3)} per layer; largest jump \u00d7${formatNumber(most.gain, 2)} at ${most.into}`;
}
