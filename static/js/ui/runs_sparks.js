// Norm and loss curves of the rows in view: fetched when a row comes into view, again every few seconds while its run runs,
// never more than four questions at a time, none while the page is hidden.

import { createQueue } from "./queue.js";
import { pointsOf } from "./sparkline.js";

const EVERY_MS = 4000;
/** Buckets are powers of four wide, so between a quarter of these and all of them come. */
const POINTS = 160;
const CURVES = [
  ["norm", "global_grad_norm", "high"],
  ["loss", "loss", "last"],
];

export function createSparks(store, rows) {
  const { api } = store.get();
  const queue = createQueue(4);
  const shown = new Set();
  const drawnAt = new Map();
  const stopped = new AbortController();

  async function fetchCurve(id, [kind, statistic, plane]) {
    try {
      const view = await api.series(id, { statistic, scope: "run", rows: [0], points: POINTS }, { signal: stopped.signal });
      rows.get(id)?.spark(kind, pointsOf(view, plane));
    } catch (error) {
      // A run without this statistic has no such curve; a lost server shows in the header, and the next turn asks again.
      if (error.status !== 404) drawnAt.delete(id);
      if (error.name !== "AbortError" && ![0, 404].includes(error.status)) throw error;
    }
  }

  function refresh(id) {
    const run = store.get().runs.get(id);
    if (!run || run.last_step < 0 || drawnAt.get(id) === run.last_step) return;
    drawnAt.set(id, run.last_step);
    for (const curve of CURVES) {
      if (run.summary?.[curve[1]] !== undefined) queue.run(() => fetchCurve(id, curve));
    }
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const id = target.dataset.run;
      if (isIntersecting) shown.add(id);
      else shown.delete(id);
      if (isIntersecting) refresh(id);
    }
  });
  const timer = setInterval(() => !document.hidden && shown.forEach(refresh), EVERY_MS);
  return {
    observe() {
      watcher.disconnect();
      shown.clear();
      for (const row of rows.values()) if (row.element.isConnected) watcher.observe(row.element);
    },
    destroy() {
      clearInterval(timer);
      watcher.disconnect();
      stopped.abort();
    },
  };
}
