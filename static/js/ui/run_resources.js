// What training takes from the machine: processor, memory, waiting for data, GPUs. A row for each number that the SDK sends.
//
//   mount(element, store) -> {destroy}     reads `statistics`, `run`; hidden until there is something
//   rowsOf(names) -> [{name, label, text(value)}]   in the order of the table, GPUs after the rest

import { formatBytes, formatNumber } from "../core/format.js";
import { el, setText } from "./element.js";
import { createQueue } from "./queue.js";
import { pointsOf, sparkline } from "./sparkline.js";

const PREFIX = "system/";
const EVERY_MS = 10000;
const POINTS = 160;

const percent = (share) => `${share < 0.1 ? formatNumber(share * 100, 2) : Math.round(share * 100)}\u00a0%`;
const ROWS = {
  cpu: ["processor", percent],
  data_wait: ["waiting for data", percent],
  rss: ["memory", formatBytes],
  memory_free: ["memory free", formatBytes],
  disk_free: ["disk free", formatBytes],
  use: ["use", percent],
  memory: ["memory in use", formatBytes],
  allocated_peak: ["most allocated", formatBytes],
  temperature: ["temperature", (value) => `${Math.round(value)}\u00a0°C`],
  power: ["power", (value) => `${Math.round(value)}\u00a0W`],
};
const ORDER = Object.keys(ROWS);

export function rowsOf(names) {
  const rows = names
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => {
      const [device, key] = name.includes("/", PREFIX.length) ? name.slice(PREFIX.length).split("/") : ["", name.slice(PREFIX.length)];
      const [label, text] = ROWS[key] ?? [key, formatNumber];
      return { name, device, key, text, label: device ? `${device.replace(/^gpu/, "GPU\u00a0")} ${label}` : label };
    });
  return rows.sort((a, b) => a.device.localeCompare(b.device) || ORDER.indexOf(a.key) - ORDER.indexOf(b.key));
}

export function mount(element, store) {
  const list = el("dl", { class: "facts resources" });
  element.append(el("div", { class: "panel-head" }, el("h2", {}, "Resources")), el("div", { class: "panel-body" }, list));
  const queue = createQueue(2);
  const stopped = new AbortController();
  let rows = [];
  let drawnAt = null;

  async function fetchRow({ name, text, value, curve }) {
    const { api, run } = store.get();
    try {
      const view = await api.series(run.id, { statistic: name, scope: "run", rows: [0], points: POINTS }, { signal: stopped.signal });
      const points = pointsOf(view);
      curve.draw(points);
      setText(value, points.length > 0 ? text(points.at(-1).value) : "");
    } catch (error) {
      // A run that has just begun may not have it yet; a lost server shows in the header. The next turn asks again.
      drawnAt = null;
      if (error.name !== "AbortError" && ![0, 404].includes(error.status)) throw error;
    }
  }

  function refresh() {
    const { run } = store.get();
    if (document.hidden || drawnAt === run.last_step) return;
    drawnAt = run.last_step;
    for (const row of rows) queue.run(() => fetchRow(row));
  }

  function paint() {
    const names = store.get().statistics.filter(({ scope, logged }) => scope === "run" && logged).map(({ name }) => name);
    const found = rowsOf(names);
    if (found.map(({ name }) => name).join() === rows.map(({ name }) => name).join()) return;
    rows = found.map((row) => ({ ...row, value: el("span", {}), curve: sparkline({ width: 96, height: 18 }) }));
    list.replaceChildren(...rows.flatMap(({ label, value, curve }) => [el("dt", {}, label), el("dd", {}, value, curve.element)]));
    element.hidden = rows.length === 0;
    drawnAt = null;
    refresh();
  }

  const timer = setInterval(refresh, EVERY_MS);
  const stop = store.subscribe((_, changed) => changed.has("statistics") && paint());
  paint();
  return {
    destroy() {
      clearInterval(timer);
      stopped.abort();
      stop();
    },
  };
}
