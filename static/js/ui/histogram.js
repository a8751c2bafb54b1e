// The histogram of one layer's gradient over powers of two, at the sampled step nearest to the one that is looked at.
//
//   mount(element, store) -> {draw(row, step, live), destroy}     row: index of the tensor; live: the newest step moves on
//   Asked for only when the layer or the step rests; while the run is followed, every few seconds.

import { formatCount, numberOf } from "../core/format.js";
import { barsOf, limitOf, powerText, saying, totalOf } from "../core/histogram.js";
import { createPace } from "../core/pace.js";
import { el, setText } from "./element.js";
import { token } from "./theme.js";

const REST_MS = 120;
const LIVE_MS = 5000;
/** Room for the exponents below the bars, in CSS pixels. */
const FOOT = 13;
const TICK = 8;

export function mount(element, store) {
  const title = el("h3", {});
  const canvas = el("canvas", { role: "img" });
  const text = el("p", { class: "muted" });
  const context = canvas.getContext("2d");
  const pace = createPace(load);
  let request = null;
  let askedRow = null;
  let shown = null;
  element.append(title, canvas, text);

  /** The loss scale of a step, null in a run without one. */
  async function scaleAt(step, signal) {
    const { api, run, statistics } = store.get();
    if (!statistics.some(({ name, scope }) => name === "loss_scale" && scope === "run")) return null;
    const query = { statistic: "loss_scale", scope: "run", from: step, to: step + 1, limit: 1 };
    const { values } = await api.get(`/runs/${encodeURIComponent(run.id)}/values`, query, { signal });
    return values.length > 0 ? numberOf(values[0][0]) : null;
  }

  async function load(key) {
    if (store.get().connection?.state === "lost") return pace.again();
    const [row, step] = key.split(":").map(Number);
    askedRow = row;
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    try {
      const { api, run, tensors } = store.get();
      const found = await api.get(`/runs/${encodeURIComponent(run.id)}/histogram`, { tensor: row, step }, { signal });
      const limit = found.step === null ? null : limitOf(tensors[row].dtype, await scaleAt(found.step, signal));
      shown = { tensor: tensors[row], found, limit, step };
      paint();
    } catch (error) {
      if (error.name === "AbortError") return;
      // A lost server shows in the header.
      if (error.status !== 0) setText(text, error.message);
      pace.again();
    }
  }

  function draw(row, step, live) {
    if (live) pace.want(`${row}:${step}`, 0, row === askedRow ? LIVE_MS : 0);
    else pace.want(`${row}:${step}`, REST_MS);
  }

  function paint() {
    const { tensor, found, limit, step } = shown;
    const there = found.step !== null && totalOf(found) > 0;
    canvas.hidden = !there;
    const away = there ? step - found.step : 0;
    const when = away === 0 ? "" : ` Sampled at step ${formatCount(found.step)}, ${formatCount(Math.abs(away))} ${away > 0 ? "before" : "after"}.`;
    setText(title, `Sizes of gradients in ${tensor.name}`);
    setText(text, there ? saying(found, limit) + when : "This layer has no histogram.");
    text.title = text.textContent;
    canvas.setAttribute("aria-label", `${title.textContent}. ${text.textContent}`);
    if (there) paintBars(barsOf(found), limit);
  }

  function paintBars(bars, limit) {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (width === 0) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const wide = width / bars.length;
    const floor = height - FOOT;
    const most = Math.max(...bars.map(({ count }) => count));
    const first = bars.findIndex(({ kind }) => kind === "octave");
    const xOf = (exponent) => (first + exponent - bars[first].exponent) * wide;
    bars.forEach(({ kind, count }, i) => {
      if (count === 0) return;
      context.fillStyle = token(kind === "zero" ? "--zero" : kind === "nan" ? "--nan" : "--chart-0");
      const tall = Math.max(1.5, (count / most) * (floor - 4));
      context.fillRect(i * wide, floor - tall, Math.max(1, wide - 1), tall);
    });
    context.fillStyle = token("--text-3");
    context.fillRect(0, floor, width, 1);
    context.font = `10px ${token("--font")}`;
    context.textBaseline = "bottom";
    context.textAlign = "center";
    for (const { exponent } of bars) if (exponent !== null && exponent % TICK === 0) context.fillText(powerText(exponent), xOf(exponent), height);
    context.textAlign = "left";
    context.fillText("0", 1, height);
    if (limit === null || limit.exponent < bars[first].exponent) return;
    const x = xOf(limit.exponent);
    context.fillStyle = token("--warning");
    for (let y = 0; y < floor; y += 5) context.fillRect(x - 0.75, y, 1.5, 3);
    const label = `${limit.format} limit`;
    context.textBaseline = "top";
    // On the side of what is too small there are the fewest bars.
    const left = x > context.measureText(label).width + 4;
    context.textAlign = left ? "right" : "left";
    context.fillText(label, x + (left ? -4 : 4), 0);
  }

  return {
    draw,
    destroy() {
      pace.stop();
      request?.abort();
      element.replaceChildren();
    },
  };
}
