// The gradient norm of every layer over depth at one step, each against what is normal for it.
//
//   mount(canvas) -> {paint(tensors, values, normals)}
//     values    by place, null where nothing is known      normals    {low, high} by place, or null: then bars alone are drawn
//   normalsAt(store) -> (step, signal) => Promise<normals | null>     asked for once for each stretch; null: nothing was normal yet

import { formatCount, formatNumber } from "../core/format.js";
import { profileOf } from "../core/depth.js";
import { beginsOver } from "../core/incident.js";
import { token } from "./theme.js";

/** Room for the ends of the axis, in CSS pixels. */
const AXIS = 30;
/** What is normal is asked for again after so many steps. */
const STRETCH = 64;
/** Least height of what stands out of its range, so that it is seen. */
const LEAST_MARK = 3;

/**
 * The step before which normal is looked for: a stretch's begin, and within an incident the incident's first step.
 *
 * @param {object} judged incidents and what is normal, as in core/incident.js
 */
export function normalBefore(step, judged) {
  return Math.min(Math.floor(step / STRETCH) * STRETCH, ...beginsOver(judged, step));
}

export function normalsAt(store) {
  let known = null;
  return async (step, signal) => {
    const { api, run } = store.get();
    const before = normalBefore(step, store.get());
    if (before <= 0) return null;
    if (known?.before !== before) known = { before, normals: await api.get(`/runs/${encodeURIComponent(run.id)}/normals`, { before }, { signal }) };
    return known.normals;
  };
}

function rangeOf(profile) {
  const logs = profile
    .flatMap((one) => (one ? [one.value, one.low, one.high] : []))
    .filter((value) => value > 0 && value < Infinity)
    .map(Math.log10);
  const low = Math.floor(Math.min(...logs, 0));
  return { low, high: Math.max(Math.ceil(Math.max(...logs, low)), low + 1) };
}

export function mount(canvas) {
  const context = canvas.getContext("2d");

  function column(one, x, wide, height, yOf) {
    const { value, low, high, out } = one;
    const mark = (colour, top, bottom) => {
      context.fillStyle = token(colour);
      context.fillRect(x, top, wide, bottom - top);
    };
    if (low !== null) mark("--normal", yOf(high), Math.max(yOf(low), yOf(high) + 1));
    if (Number.isNaN(value)) mark("--nan", 2, height - 4);
    else if (value === Infinity) mark("--inf", 2, height - 4);
    else if (value === 0) mark("--zero", height - 4, height);
    else if (low === null) mark("--chart-0", Math.min(yOf(value), height - 6), height - 4);
    else if (out === 0) mark("--text-3", yOf(value) - 1, yOf(value) + 1);
    else if (out > 0) mark("--div-6", yOf(value), Math.max(yOf(high), yOf(value) + LEAST_MARK));
    else mark("--div-0", Math.min(yOf(low), yOf(value) - LEAST_MARK), yOf(value));
  }

  return {
    paint(tensors, values, normals) {
      const ratio = window.devicePixelRatio || 1;
      const { clientWidth: width, clientHeight: height } = canvas;
      if (width === 0) return;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const order = tensors.map((tensor, place) => ({ place, depth: tensor.depth })).sort((a, b) => a.depth - b.depth);
      const columns = Math.max(1, Math.min(order.length, Math.floor((width - AXIS) / 2)));
      const profile = profileOf(order, values, normals, columns);
      const { low, high } = rangeOf(profile);
      const wide = (width - AXIS) / columns;
      const yOf = (value) => height - 4 - ((Math.log10(value) - low) / (high - low)) * (height - 10);
      profile.forEach((one, i) => one && column(one, AXIS + i * wide, Math.max(1.5, wide - 0.5), height, yOf));
      context.fillStyle = token("--text-3");
      context.font = `10px ${token("--font")}`;
      context.textBaseline = "top";
      context.fillText(formatNumber(10 ** high), 0, 0);
      context.textBaseline = "bottom";
      context.fillText(formatNumber(10 ** low), 0, height - 2);
      canvas.setAttribute("aria-label", `Gradient norm of ${formatCount(order.length)} layers over depth, from 1e${low} to 1e${high}`);
    },
  };
}
