// The strip under the header: the state of the run in a word, one sentence, and the newest numbers.
//
//   mount(element, store, { onAlert }) -> {destroy}      onAlert(alert) when the sentence about it is chosen
//   reads `run`, `alerts`, `connection`

import { formatNumber, numberOf } from "../core/format.js";
import { sentenceOf } from "../core/sentence.js";
import { el, setAttribute, setText } from "./element.js";

const NUMBERS = [
  ["clip_coef", "clip coefficient", "wide"],
  ["lr", "lr", "wide"],
  ["loss_scale", "loss scale", "wide"],
];

export function mount(element, store, { onAlert }) {
  const state = element.querySelector(".strip-state");
  const sentence = element.querySelector(".strip-sentence");
  const list = element.querySelector(".strip-numbers");
  const values = new Map();
  for (const [key, label, className] of NUMBERS) {
    const value = el("dd", {}, "");
    values.set(key, { value, row: el("div", { class: className, hidden: true }, el("dt", {}, label), value) });
    list.append(values.get(key).row);
  }
  let shown = null;
  let about = null;
  const link = el("button", { type: "button", onclick: () => about && onAlert(about) });

  function paint() {
    const { run, alerts, connection } = store.get();
    const now = Date.now() / 1000 + (connection?.clock ?? 0);
    const said = sentenceOf(run, alerts ?? [], now);
    setAttribute(element, "data-tone", said.tone);
    setText(state, said.state);
    about = said.alert;
    if (shown !== said.text) {
      shown = said.text;
      if (about === null) sentence.textContent = said.text;
      else {
        link.textContent = said.text;
        sentence.replaceChildren(link);
      }
      sentence.title = said.text;
    }
    for (const [key, { value, row }] of values) {
      const number = run.summary?.[key];
      row.hidden = number === undefined;
      if (number !== undefined) setText(value, formatNumber(numberOf(number)));
    }
  }

  const stop = store.subscribe((_, changed) => ["run", "alerts", "connection"].some((key) => changed.has(key)) && paint());
  const timer = setInterval(paint, 1000);
  paint();
  return {
    destroy() {
      stop();
      clearInterval(timer);
    },
  };
}
