// The samples that the step at the cursor saw, where the script told them, rank by rank: `{element, show(step)}`.

import { formatCount } from "../core/format.js";
import { el } from "./element.js";

function one({ ids, count }) {
  return ids.join(", ") + (count > ids.length ? `, and ${formatCount(count - ids.length)} more` : "");
}

/** `batches` of one step. Those of several incidents are the same: each rank is told once. */
export function textOf(batches) {
  const ranks = new Map(batches.map((batch) => [batch.rank, batch]));
  if (ranks.size < 2) return [...ranks.values()].map(one).join("");
  return [...ranks].sort(([a], [b]) => a - b).map(([rank, batch]) => `rank ${rank}: ${one(batch)}`).join("; ");
}

export function batchIds(store, owner) {
  const text = el("input", { readonly: "", "aria-label": "Batch ids", onclick: () => text.select() });
  const element = el("label", { class: "muted", hidden: "" }, "Batch ids ", text);

  /** Asks only where an incident has opened: only then a script tells them. A share link never gets them. */
  async function show(step, signal) {
    const { api, run, incidents = [] } = store.get();
    const batches = owner && incidents.length > 0 ? (await api.get(`/runs/${run.id}/batches`, { from: step, to: step + 1 }, { signal })).batches : [];
    element.hidden = batches.length === 0;
    text.value = textOf(batches);
  }

  return { element, show };
}
