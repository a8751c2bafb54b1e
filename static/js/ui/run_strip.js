// The strip under the header: the state of the run in a word, one sentence, and the newest numbers.
//
//   mount(element, store, { onAlert, onIncident }) -> {destroy}      called when the sentence about one is chosen
//   reads `run`, `alerts`, `incidents`, `health`, `connection`

import { formatNumber, numberOf } from "../core/format.js";
import { ranksMissing, sentenceOf } from "../core/sentence.js";
import { el, setAttribute, setText } from "./element.js";

const NUMBERS = [
  ["clip_coef", "clip coefficient", "wide"],
  ["lr", "lr", "wide"],
  ["loss_scale", "loss scale", "wide"],
];

export function mount(element, store, { onAlert, onIncident }) {
  const state = element.querySelector(".strip-state");
  const sentence = element.querySelector(".strip-sentence");
  const list = element.querySelector(".strip-numbers");
  const values = new Map();
  for (const [key, label, className] of NUMBERS) {
    const value = el("dd", {}, "");
    values.set(key, { value, row: el("div", { class: className, hidden: true }, el("dt", {}, label), value) });
    list.append(values.get(key).row);
  }
  const ranks = el("div", { class: "strip-ranks", hidden: true });
  list.prepend(ranks);
  let shown = null;
  let about = null;
  const link = el("button", { type: "button", onclick: () => about?.incident ? onIncident(about.incident) : about && onAlert(about.alert) });

  function paint() {
    const { run, alerts, incidents, health, connection } = store.get();
    const now = Date.now() / 1000 + (connection?.clock ?? 0);
    const said = sentenceOf(run, alerts ?? [], now, { incidents: incidents ?? [], health, lost: connection?.state === "lost" });
    setAttribute(element, "data-tone", said.tone);
    setText(state, said.state);
    about = said.alert || said.incident ? { alert: said.alert, incident: said.incident } : null;
    if (shown !== said.text) {
      shown = said.text;
      if (about === null) sentence.textContent = said.text;
      else {
        link.textContent = said.text;
        sentence.replaceChildren(link);
      }
      sentence.title = said.text;
    }
    const missing = ranksMissing(run);
    ranks.hidden = missing === "";
    setText(ranks, missing);
    for (const [key, { value, row }] of values) {
      const number = run.summary?.[key];
      row.hidden = number === undefined;
      if (number !== undefined) setText(value, formatNumber(numberOf(number)));
    }
  }

  const stop = store.subscribe((_, changed) => ["run", "alerts", "incidents", "health", "connection"].some((key) => changed.has(key)) && paint());
  const timer = setInterval(paint, 1000);
  paint();
  return {
    destroy() {
      stop();
      clearInterval(timer);
    },
  };
}
