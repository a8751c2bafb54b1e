// What clipping by norm would have done to the steps in view: a slider, the share of steps, and the line of code.
//
//   mount(element, store, model) -> {draw(scene), destroy}
//     sets `whatIf` (the limit tried, null for none), which the norm chart draws as a line
//   Asks GET .../what-if for the steps in view when the slider or the view has come to rest.

import { formatCount, formatNumber, numberOf } from "../core/format.js";
import { copyButton } from "./copy.js";
import { button } from "./dialog.js";
import { el, setText } from "./element.js";

const REST_MS = 200;
const NOTCHES = 200;

/** "Would have clipped 3.2 % of these 1,500 steps". */
export function whatIfText({ share, looked_at: looked }) {
  const percent = share > 0 && share < 0.001 ? "less than 0.1" : formatNumber(share * 100, 2);
  return `Would have clipped ${percent}\u00a0% of ${formatCount(looked)} steps in view`;
}

/** The limit at a notch of the slider: from a quarter of the suggested one to sixteen times it, evenly in octaves. */
export const limitAt = (notch, suggested) => suggested * 2 ** (-2 + (6 * notch) / NOTCHES);

/** The notch nearest to a limit. */
export function notchOf(limit, suggested) {
  return Math.min(NOTCHES, Math.max(0, Math.round(((Math.log2(limit / suggested) + 2) * NOTCHES) / 6)));
}

export function mount(element, store, model) {
  const slider = el("input", { type: "range", min: 0, max: NOTCHES, value: notchOf(1, 1), "aria-label": "Clip by norm at" });
  const limitText = el("b", {});
  const result = el("p", { class: "muted whatif-result", role: "status" }, "Move the slider to try a limit.");
  const code = el("code", {});
  const copy = copyButton(() => code.textContent, "Copy");
  const reset = button("Hide", () => hide(), "plain");
  const line = el("div", { class: "whatif-code", hidden: true }, code, copy);
  element.append(
    el("div", { class: "panel-head" }, el("h2", {}, "What if clipped"), el("span", { class: "push" }), reset),
    el("div", { class: "panel-body" }, el("label", { class: "whatif-slider" }, slider, limitText), result, line),
  );
  reset.hidden = true;
  let suggested = null;
  let timer = null;
  let request = null;
  let asked = "";

  async function ask() {
    const { whatIf, api, run } = store.get();
    const { from, to } = model.range();
    request?.abort();
    request = new AbortController();
    try {
      const query = { from, to: Math.min(to, model.newest() + 1), ...(whatIf === null ? {} : { max_norm: whatIf }) };
      const answer = await api.get(`/runs/${encodeURIComponent(run.id)}/what-if`, query, { signal: request.signal });
      suggested = numberOf(answer.suggested);
      setText(result, `${whatIfText(answer)}. Suggested: ${formatNumber(suggested)}.`);
      setText(code, answer.code);
      line.hidden = false;
      return numberOf(answer.max_norm);
    } catch (error) {
      if (error.name !== "AbortError") setText(result, error.message);
      return null;
    }
  }

  function show(limit) {
    setText(limitText, formatNumber(limit));
    reset.hidden = false;
    store.set({ whatIf: limit });
  }

  async function begin() {
    const limit = await ask();
    if (limit !== null) show(limit);
  }

  function onInput() {
    if (suggested === null) return void begin();
    show(Number(limitAt(Number(slider.value), suggested).toPrecision(2)));
    clearTimeout(timer);
    timer = setTimeout(ask, REST_MS);
  }

  function hide() {
    clearTimeout(timer);
    request?.abort();
    store.set({ whatIf: null });
    suggested = null;
    slider.value = String(notchOf(1, 1));
    setText(limitText, "");
    setText(result, "Move the slider to try a limit.");
    line.hidden = true;
    reset.hidden = true;
  }

  slider.addEventListener("input", onInput);
  return {
    /** Asks again when another stretch is in view; a live one isn't chased. */
    draw() {
      const { view, whatIf } = store.get();
      const key = `${view.from} ${view.to} ${view.last}`;
      if (whatIf === null || key === asked) return;
      asked = key;
      clearTimeout(timer);
      timer = setTimeout(ask, REST_MS);
    },
    destroy() {
      clearTimeout(timer);
      request?.abort();
      slider.removeEventListener("input", onInput);
      element.replaceChildren();
    },
  };
}
