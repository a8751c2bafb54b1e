// The audit list of a run: what its script did by itself, where its author changed the learning rate, and whether it helped.
//
//   mount(element, store, { onStep }) -> {destroy}     reads `marks`, `run`; hidden while nothing was done
//   titleOf(action) -> "Learning rate cut: x1 to x0.5"

import { formatCount, formatNumber } from "../core/format.js";
import { createTurns } from "../core/turns.js";
import { el } from "./element.js";

const MOST = 20;
const AGAIN_MS = 15000;

const TITLES = {
  clip: "Clipped",
  clip_freeze: "Clip limit kept as it is",
  skip: "Step skipped",
  lr_cut: "Learning rate cut",
  lr_recover: "Learning rate raised again",
  stop: "Stopped",
  lr: "Learning rate changed",
  clip_limit: "Clip limit changed",
};
const FACTOR = new Set(["lr_cut", "lr_recover"]);

export function titleOf({ action, old, new: value }) {
  const title = TITLES[action] ?? action;
  if (old === null || value === null) return title;
  const sign = FACTOR.has(action) ? "\u00d7" : "";
  return `${title}: ${sign}${formatNumber(old)} to ${sign}${formatNumber(value)}`;
}

export function mount(element, store, { onStep }) {
  const list = el("ul", { class: "action-list", "aria-label": "Actions" });
  element.append(el("div", { class: "panel-head" }, el("h2", {}, "Actions")), el("div", { class: "panel-body", tabindex: 0 }, list));
  const stopped = new AbortController();
  let known = null;
  /** An effect is too early to tell, or no answer came. */
  let again = false;
  const turns = createTurns();

  function item(action) {
    const who = action.by === "author" ? "by hand" : action.reason;
    return el(
      "li",
      {},
      el("button", { type: "button", class: "link", onclick: () => onStep(action.step) }, `step ${formatCount(action.step)}`),
      el("strong", {}, titleOf(action)),
      el("span", { class: "muted" }, who),
      el("span", { "data-verdict": action.effect.verdict }, action.effect.sentence),
    );
  }

  async function load() {
    const { api, run } = store.get();
    const counts = turns();
    try {
      const { actions } = await api.get(`/runs/${run.id}/actions`, { limit: MOST }, { signal: stopped.signal });
      if (!counts()) return;
      again = actions.some(({ effect }) => effect.verdict === "too early");
      list.replaceChildren(...actions.map(item));
      element.hidden = actions.length === 0;
    } catch (error) {
      // A lost server shows in the header; the next action or the next turn asks again.
      if (counts()) again = true;
      if (error.name !== "AbortError" && error.status !== 0) throw error;
    }
  }

  function look() {
    const count = (store.get().marks ?? []).filter(({ kind }) => kind === "action").length;
    if (count === known) return;
    known = count;
    load();
  }

  const timer = setInterval(() => again && !document.hidden && load(), AGAIN_MS);
  const stop = store.subscribe((_, changed) => changed.has("marks") && look());
  look();
  return {
    destroy() {
      clearInterval(timer);
      stopped.abort();
      stop();
    },
  };
}
