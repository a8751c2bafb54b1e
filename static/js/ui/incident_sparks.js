// An incident's evidence as three small curves around its first step: global norm, the norm of the tensor it began in, loss.
//
//   mount(element, store, incident)      fills the element; it may be thrown away at any time
//   rowsOf(incident, state) -> [{label, title, query, log}]   pure
//   dueFor(incident, state, drawn) -> boolean                 pure: whether what was drawn, `{upTo, curves}`, should be asked for again
//   markAt(view, step) -> 0..1           pure: how far along the curve a step stands

import { PRESENT } from "../core/codec.js";
import { formatCount, formatNumber } from "../core/format.js";
import { el } from "./element.js";
import { pointsOf, sparkline } from "./sparkline.js";

const BEFORE = 200;
const AFTER = 50;
const SIZE = { width: 140, height: 26 };
const PAD = 2;

const stretchOf = ({ first_step: step }) => ({ from: Math.max(0, step - BEFORE), to: step + AFTER + 1 });

export function rowsOf(incident, { tensors, run }) {
  const span = { ...stretchOf(incident), points: SIZE.width };
  const known = (statistic) => run.summary?.[statistic] !== undefined;
  const name = incident.origin?.tensor;
  const index = tensors.find((tensor) => tensor.name === name)?.index;
  return [
    known("global_grad_norm") ? { label: "Global norm", title: "Global norm", log: true, query: { statistic: "global_grad_norm", scope: "run", rows: [0], ...span } } : null,
    index === undefined ? null : { label: name.split(".").slice(-3).join("."), title: name, log: true, query: { statistic: "grad_norm", scope: "tensor", rows: [index], ...span } },
    known("loss") ? { label: "Loss", title: "Loss", log: false, query: { statistic: "loss", scope: "run", rows: [0], ...span } } : null,
  ].filter(Boolean);
}

const NOTHING = { upTo: -1, curves: 0 };

/** Once the steps after the incident are there, or the run ended before; and when there is a curve more. */
export function dueFor(incident, { run, tensors }, drawn) {
  if (tensors.length === 0 || run.last_step < incident.first_step) return false;
  if (rowsOf(incident, { run, tensors }).length > drawn.curves) return true;
  const { to } = stretchOf(incident);
  return drawn.upTo < Math.min(to, run.last_step) && (run.last_step >= to || run.state !== "running");
}

export function markAt(view, step) {
  let before = 0;
  let all = 0;
  for (let i = 0; i < view.n; i += 1) {
    if (!(view.flags[i] & PRESENT)) continue;
    if ((view.firstBucket + i + 1) * view.width <= step) before += 1;
    all += 1;
  }
  return all < 2 ? 1 : Math.min(1, before / (all - 1));
}

export function mount(element, store, incident) {
  const { to } = stretchOf(incident);
  let drawn = NOTHING;

  async function load() {
    const { api, run, tensors } = store.get();
    const upTo = run.last_step;
    const rows = rowsOf(incident, { run, tensors });
    const mine = { upTo, curves: rows.length };
    drawn = mine;
    try {
      const views = await Promise.all(rows.map(({ query }) => api.series(run.id, query)));
      if (drawn !== mine) return;
      const shown = rows.map((row, i) => curve(row, views[i], incident.first_step));
      const { from } = stretchOf(incident);
      const words = `Steps ${formatCount(from)} to ${formatCount(Math.min(to - 1, upTo))}; the line is step ${formatCount(incident.first_step)}.`;
      element.replaceChildren(...shown, el("p", { class: "muted small" }, words));
    } catch (error) {
      // A lost server shows in the header; the sentences below stand without the curves, which are asked for again.
      if (drawn === mine) drawn = NOTHING;
      if (error.status === undefined) throw error;
    } finally {
      element.removeAttribute("data-loading");
    }
  }

  const stop = store.subscribe((state, changed) => {
    if (!element.isConnected) stop();
    else if (["run", "tensors", "connection"].some((key) => changed.has(key)) && dueFor(incident, state, drawn)) load();
  });
  if (dueFor(incident, store.get(), drawn)) load();
}

function curve({ label, title, log }, view, step) {
  const spark = sparkline({ ...SIZE, log });
  const points = pointsOf(view);
  spark.draw(points);
  const svg = spark.element.firstChild;
  const mark = document.createElementNS(svg.namespaceURI, "path");
  mark.setAttribute("class", "spark-mark");
  mark.setAttribute("d", `M${(PAD + markAt(view, step) * (SIZE.width - 2 * PAD)).toFixed(1)} 0V${SIZE.height}`);
  svg.prepend(mark);
  return el("div", { class: "incident-curve" }, el("span", { class: "ellipsis", title }, label), spark.element, el("span", { class: "number" }, points.length > 0 ? formatNumber(points.at(-1).value) : ""));
}
