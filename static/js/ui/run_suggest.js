// Layers worth following, one button each, so that nobody has to know their names. Shown while no layer is chosen.
//
//   mount(element, store, { rows, valueOf, largest, onPin }) -> {draw(scene), destroy}
//     rows(), valueOf(node, step)   as for ui/unusual.js
//     largest()                     the tensor with the largest share of the norm, null before it is known
//     onPin(node)                   a layer was chosen

import { mostUnusual, suggested } from "../core/unusual.js";
import { el } from "./element.js";

const EVERY_MS = 30_000;

export function mount(element, store, { rows, valueOf, largest, onPin }) {
  let madeAt = -Infinity;
  let madeFor = null;

  const panel = {
    draw({ newest }) {
      const { tree, pins, picked } = store.get();
      element.hidden = pins.length > 0 || picked !== null;
      const now = performance.now();
      if (tree === null || newest < 0 || element.matches(":hover, :focus-within")) return;
      if (element.hidden || (madeFor === tree && now - madeAt < EVERY_MS)) return;
      const unusual = mostUnusual(rows(), (node) => valueOf(node, newest), 1).map(({ node }) => node);
      if (unusual.length === 0 || largest() === null) return;
      madeAt = now;
      madeFor = tree;
      const buttons = suggested(tree, unusual[0], largest()).map(({ why, node }) =>
        el("button", { type: "button", class: "chip suggestion", title: `Draw the curve of ${node.name}`, onclick: () => onPin(node) }, why, " ", el("b", {}, node.name)),
      );
      element.replaceChildren(el("span", { class: "muted" }, "Follow a layer:"), ...buttons);
    },
    destroy: () => element.replaceChildren(),
  };
  return { ...panel, drawOverlay: panel.draw };
}
