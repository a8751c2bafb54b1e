// One step over the depth of the model: what is drawn as a profile, and how gradients grow from layer to layer. Pure.

import { LEAST_SCALE, robust } from "./baseline.js";
import { formatCount, formatNumber } from "./format.js";

/** So many units around the middle are usual. */
const UNITS = 3;
/** With fewer of a kind nothing is said of what is usual among them. */
const LEAST_ALIKE = 6;

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

/**
 * Where most layers of the same kind lie at one step: the median of the logarithms of their values and three robust deviations
 * to each side. For a run that was never normal, whose layers can only be set against each other.
 *
 * @param {{kind?: string}[]} tensors  @param {(number | null)[]} values by place
 * @returns {{low: (number | null)[], high: (number | null)[]}} by place; null for kinds with too few positive values
 */
export function rangeAmong(tensors, values) {
  const ranges = new Map();
  for (const kind of new Set(tensors.map((tensor) => tensor.kind))) {
    const logs = values.filter((value, place) => tensors[place].kind === kind && value > 0 && value < Infinity).map(Math.log2);
    const { centre, scale } = robust(logs);
    const away = UNITS * Math.max(scale, LEAST_SCALE);
    if (logs.length >= LEAST_ALIKE) ranges.set(kind, { low: 2 ** (centre - away), high: 2 ** (centre + away) });
  }
  const ends = (end) => tensors.map((tensor) => ranges.get(tensor.kind)?.[end] ?? null);
  return { low: ends("low"), high: ends("high") };
}

const OWN = { some: "unusual", none: "as usual" };
const AMONG = { some: "unlike the others", none: "alike" };

/** "3 of 75 unusual", "all 75 as usual", "" while no range is known; "3 of 75 unlike the others" if set against each other. */
export function outsideText(values, normals, among = false) {
  const { some, none } = among ? AMONG : OWN;
  const known = normals?.low.filter((low, place) => low !== null && values[place] !== null).length ?? 0;
  if (known === 0) return "";
  const out = values.filter((value, place) => value !== null && normals.low[place] !== null && outside(value, normals.low[place], normals.high[place]) !== 0).length;
  return out === 0 ? `all ${formatCount(known)} ${none}` : `${formatCount(out)} of ${formatCount(known)} ${some}`;
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
