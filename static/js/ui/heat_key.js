// The key of the heat map's colours: the scale with its ends, and the three colours of what isn't a usual number.

import { LEVELS, LIMIT } from "../core/heat.js";
import { el } from "./element.js";
import { cssOf, paletteOf } from "./heat_paint.js";
import { onThemeChange } from "./theme.js";

const ENDS = { deviation: [`\u2212${LIMIT}`, `+${LIMIT}`], norm: ["small", "large"] };
const SPECIAL = [["zero", "--zero"], ["Inf", "--inf"], ["NaN", "--nan"]];

export function mount(element, store) {
  const low = el("span", {});
  const high = el("span", {});
  const bar = el("canvas", { width: LEVELS, height: 1, "aria-hidden": "true" });
  const special = SPECIAL.map(([name, colour]) => {
    const square = el("i", {});
    square.style.background = `var(${colour})`;
    return el("span", {}, square, name);
  });
  element.append(low, bar, high, ...special);

  function paint() {
    const { colouring } = store.get();
    const palette = paletteOf(colouring);
    [low.textContent, high.textContent] = ENDS[colouring];
    element.title = colouring === "deviation" ? "Deviation from the layer's own normal, in robust units of its log2 norm" : "Gradient norm, log scale over this run";
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
