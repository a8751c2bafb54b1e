// The step inspector: at the cursor (or the newest step) the layers that make up the norm, the norm over depth, and how the
// gradient of one layer spreads: the picked one, the one pinned last, or the one with the largest share.
//
//   mount(element, store, model, { onPick, firstUnusual, onOrigin, onValues, owner }) -> {draw(scene), destroy}
//     onPick(node)          a layer was chosen
//     firstUnusual(step)    {row, step} where what is unusual at a step began, null if nothing is
//     onOrigin({row, step}) that place was chosen
//     onValues()            the values of a step have come
//     owner                 batch ids are shown
//   Exact values of one step come from GET .../values; while the cursor moves they are asked for when it rests.

import { formatCount, formatNumber, numberOf } from "../core/format.js";
import { gainsOf, gainText, outsideText, rangeAmong } from "../core/depth.js";
import { neverNormal } from "../core/incident.js";
import { createPace } from "../core/pace.js";
import { batchIds } from "./batch_ids.js";
import { mount as mountProfile, normalsAt } from "./depth_profile.js";
import { el, setAttribute, setText } from "./element.js";
import { mount as mountHistogram } from "./histogram.js";

const TOP = 5;
/** The step is set against one so many steps before. */
const EARLIER = 100;
/** Heads of the rows' columns, and what stands in them. */
const COLUMNS = [
  ["Largest layers", "Layers with the largest share of the squared norm"],
  ["%", "Share of the squared norm"],
  ["norm", "Gradient norm at this step"],
  ["change", `Against ${EARLIER} steps before`],
];
const GAIN_ABOUT = "Gradients run from the output to the input: by which factor the norm changes from layer to layer on that way, and where it changes most";
const REST_MS = 90;
const LIVE_MS = 1500;

/**
 * The share of each value's square in the sum, largest first: `[{index, value, share}]`, at most `count`. Values that are not
 * finite come first, with a share of NaN: beside them no finite share means anything.
 */
export function topShares(values, count) {
  const items = values.map((value, index) => ({ index, value })).filter(({ value }) => value !== null);
  const bad = items.filter(({ value }) => !Number.isFinite(value));
  const largest = items.reduce((top, { value }) => (Number.isFinite(value) ? Math.max(top, Math.abs(value)) : top), 0);
  // Dividing by the largest keeps squares inside the range of numbers.
  const square = (value) => (largest > 0 ? (value / largest) ** 2 : 0);
  const finite = items.filter(({ value }) => Number.isFinite(value));
  const sum = finite.reduce((total, { value }) => total + square(value), 0);
  finite.sort((a, b) => b.value - a.value);
  const rows = [
    ...bad.map((item) => ({ ...item, share: NaN })),
    ...finite.map((item) => ({ ...item, share: bad.length > 0 ? NaN : sum > 0 ? square(item.value) / sum : 0 })),
  ];
  return rows.slice(0, count);
}

export function mount(element, store, model, { onPick, firstUnusual, onOrigin, onValues, owner }) {
  const title = el("h2", {}, "At step");
  const where = el("span", { class: "muted push ellipsis" });
  const list = el("ol", { class: "inspector-rows" });
  const canvas = el("canvas", { role: "img", "aria-label": "Gradient norm of every layer over depth" });
  const caption = el("h3", { class: "inspector-head" }, ...COLUMNS.map(([word, about]) => el("span", { title: about }, word)));
  const depth = el("h3", { class: "ellipsis" }, "Norm from input to output");
  const profile = mountProfile(canvas);
  const normalsOf = normalsAt(store);
  const origin = el("button", { type: "button", class: "link origin", onclick: () => began && onOrigin(began) });
  const calm = el("span", { class: "muted" });
  const gain = el("p", { class: "gain muted" });
  const batch = batchIds(store, owner);
  const spread = el("div", { class: "spread", hidden: "" });
  const histogram = mountHistogram(spread, store);
  element.append(el("div", { class: "panel-head" }, title, where), el("div", { class: "panel-body" }, el("p", { class: "origin-line" }, origin, calm), caption, list, depth, canvas, gain, spread, batch.element));
  let request = null;
  const pace = createPace(load);
  let values = null;
  let began = null;
  /** Why there are no values of the step asked for last, "" when there are. */
  let problem = "";

  /** The exact values of one step, null when the run has none there. */
  async function valuesAt(step, signal) {
    if (step < 0) return null;
    const { api, run } = store.get();
    const query = { statistic: "grad_norm", scope: "tensor", from: step, to: step + 1, limit: 1 };
    const answer = await api.get(`/runs/${encodeURIComponent(run.id)}/values`, query, { signal });
    return answer.values.length > 0 ? answer.values[0].map((value) => (value === null ? null : numberOf(value))) : null;
  }

  async function load(step) {
    // A lost server shows in the header; it is asked when it is back.
    if (store.get().connection?.state === "lost") return pace.again();
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    try {
      const [row, before, normals] = await Promise.all([valuesAt(step, signal), valuesAt(step - EARLIER, signal), normalsOf(step, signal)]);
      if (row === null) return unanswered("no norms at this step", store.get().run.state === "running");
      problem = where.title = "";
      values = { step, row, before, normals };
      paint();
      onValues();
      await batch.show(step, signal);
    } catch (error) {
      if (error.name !== "AbortError") unanswered(error.status === 0 ? "" : error.message, true);
    } finally {
      if (!signal.aborted) setAttribute(element, "data-loading", null);
    }
  }

  /** Says why nothing came; what may still come is asked for again. */
  function unanswered(text, again) {
    problem = text;
    where.title = text;
    if (text !== "") setText(where, text);
    if (again) pace.again();
  }

  function draw({ cursor, newest }) {
    const step = cursor ?? newest;
    const { tensors, tree } = store.get();
    list.style.setProperty("--rows", String(Math.min(TOP, tensors.length)));
    setText(title, step >= 0 ? `At step ${formatCount(step)}` : "At step");
    setText(where, problem || (cursor === null ? "newest" : ""));
    began = step >= 0 ? firstUnusual(step) : null;
    setText(origin, began ? `Unusual since step ${formatCount(began.step)}, first in ${began.row.name}` : "");
    origin.hidden = !began;
    origin.title = origin.textContent;
    calm.hidden = began !== null;
    const wrong = wrongSince(step);
    setText(calm, wrong === null ? "No layer shown is unusual at this step." : `This run was never normal: it went wrong at step ${formatCount(wrong)}. Its layers are set against each other.`);
    drawSpread(step, cursor === null);
    if (step < 0) setAttribute(element, "data-loading", null);
    if (step < 0 || !tree) return;
    if (cursor === null) pace.want(step, 0, LIVE_MS);
    else pace.want(step, REST_MS);
  }

  function wrongSince(step) {
    return neverNormal(store.get(), step, store.get().run.first_step);
  }

  const largest = () => store.get().tree?.nodes.get(list.firstChild?.firstChild.dataset.key ?? "") ?? null;

  function drawSpread(step, live) {
    const { statistics, tree, picked, pins } = store.get();
    const chosen = [picked, ...[...pins].reverse()].map((key) => tree?.nodes.get(key)).find((node) => node?.kind === "tensor");
    const node = chosen ?? largest();
    spread.hidden = step < 0 || !statistics.some(({ scope }) => scope === "histogram");
    if (!spread.hidden && node) histogram.draw(node.index, step, live);
  }

  function paint() {
    const { tensors } = store.get();
    const rows = topShares(values.row, TOP).filter(({ index }) => tensors[index]);
    while (list.children.length > rows.length) list.lastChild.remove();
    rows.forEach(({ index, value, share }, place) => {
      const item = list.children[place] ?? list.appendChild(rowElement(onPick, store));
      const row = item.firstChild;
      row.dataset.key = `t:${tensors[index].name}`;
      row.title = tensors[index].name;
      row.style.setProperty("--share", `${Number.isNaN(share) ? 0 : Math.round(share * 100)}%`);
      // A left-to-right mark keeps dots and digits in order where the start of a long name is cut off.
      setText(row.children[0], `\u200e${tensors[index].name}`);
      setText(row.children[1], Number.isNaN(share) ? "" : `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)}`);
      setText(row.children[2], formatNumber(value));
      const earlier = values.before?.[index] ?? null;
      setText(row.children[3], earlier > 0 && Number.isFinite(value) ? `×${formatNumber(value / earlier, 2)}` : "");
    });
    setText(gain, gainText(gainsOf(tensors, values.row)));
    gain.title = gain.textContent && `${gain.textContent}.\n${GAIN_ABOUT}.`;
    const among = wrongSince(values.step) !== null;
    const normals = among ? rangeAmong(tensors, values.row) : values.normals;
    const outside = outsideText(values.row, normals, among);
    setText(depth, `Norm from input to output${outside && ": "}${outside}`);
    depth.title = `Each layer from first to last; shaded is ${among ? "where most layers of its kind lie" : "what is normal for it"}`;
    profile.paint(tensors, values.row, normals);
  }

  return {
    draw,
    drawOverlay: draw,
    /** The node of the tensor with the largest share, null before it is known. */
    largest,
    destroy() {
      pace.stop();
      request?.abort();
      histogram.destroy();
      element.replaceChildren();
    },
  };
}

function rowElement(onPick, store) {
  const pick = (event) => {
    const node = store.get().tree.nodes.get(event.currentTarget.dataset.key);
    if (node) onPick(node);
  };
  const row = el("button", { type: "button", onclick: pick }, el("span", { class: "name" }), el("span", { class: "number muted" }), el("span", { class: "number" }), el("span", { class: "number muted", title: `against ${EARLIER} steps before` }));
  return el("li", {}, row);
}
