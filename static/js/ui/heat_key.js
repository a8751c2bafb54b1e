// The key of the heat map's colours: the scale with its ends, and the three colours of what isn't a usual number.

import { LEVELS, LIMIT } from "../core/heat.js";
import { el } from "./element.js";
import { cssOf, paletteOf } from "./heat_paint.js";
import { onThemeChange } from "./theme.js";

/** What each colouring shows: the ends of its scale, a few words, and a sentence. All scales are fixed. */
const KEYS = {
  deviation: [`\u2212${LIMIT}`, `+${LIMIT}`, "from own normal", "How far each layer is from its own normal: within 3 is as usual, blue is below and red above. In robust standard deviations of its log2 norm"],
  norm: ["1e-7", "1e3", "gradient norm", "Gradient norm on a log scale"],
  ratio: ["1e-6", "1", "update / weight", "Length of the update over that of the weights, log scale around 1e-3; sampled, a group shows its layer furthest from 1e-3"],
  zeros: ["0 %", "100 %", "gradients of zero", "Share of gradient elements that are exactly zero; sampled, a group shows its highest layer"],
  gain: ["\u00f78", "\u00d78", "over the next block", "Gradient norm of a block over that of the next one like it: how gradients grow toward the input"],
};
const SPECIAL = [["zero", "--zero"], ["Inf", "--inf"], ["NaN", "--nan"]];

export function mount(element, store) {
  const words = el("span", {});
  const low = el("span", {});
  const high = el("span", {});
  const bar = el("canvas", { width: LEVELS, height: 1, "aria-hidden": "true" });
  const special = SPECIAL.map(([name, colour]) => {
    const square = el("i", {});
    square.style.background = `var(${colour})`;
    return el("span", {}, square, name);
  });
  element.append(words, low, bar, high, ...special);

  function paint() {
    const { colouring } = store.get();
    const palette = paletteOf(colouring);
    [low.textContent, high.textContent, words.textContent, element.title] = KEYS[colouring];
    const context = bar.getContext("2d");
    for (let level = 1; level <= LEVELS; level += 1) {
      context.fillStyle = cssOf(palette, level);
      context.fillRect(level - 1, 0, 1, 1);
    }
  }

  const stops = [store.subscribe((_, changed) => changed.has("colouring") && paint()), onThemeChange(paint)];
  paint();
  return { destroy: () => stops.forEach((stop) => stop()) };
}
