// The samples that the step at the cursor saw, where the script told them: `{element, show(step)}`.

import { formatCount } from "../core/format.js";
import { el } from "./element.js";

export function textOf({ ids, count }) {
  return ids.join(", ") + (count > ids.length ? `, and ${formatCount(count - ids.length)} more` : "");
}

export function batchIds(store, owner) {
  const text = el("input", { readonly: "", "aria-label": "Batch ids", onclick: () => text.select() });
  const element = el("label", { class: "muted", hidden: "" }, "Batch ids ", text);

  /** Asks only where an incident has opened: only then a script tells them. A share link never gets them. */
  async function show(step, signal) {
    const { api, run, incidents = [] } = store.get();
    const [batch] = owner && incidents.length > 0 ? (await api.get(`/runs/${run.id}/batches`, { from: step, to: step + 1 }, { signal })).batches : [];
    element.hidden = !batch;
    text.value = batch ? textOf(batch) : "";
  }

  return { element, show };
}
