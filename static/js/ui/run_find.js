// "Find a layer": type a part of its name, choose it, and its row opens and its curve is drawn.
//
//   mount(input, list, store, { onChoose }) -> {destroy}       onChoose(node)

import { findNodes } from "../core/tree.js";
import { el } from "./element.js";

export function mount(input, list, store, { onChoose }) {
  let found = [];
  let chosen = 0;

  function paint() {
    list.hidden = input.value.trim() === "" || document.activeElement !== input;
    if (list.hidden) return;
    list.replaceChildren(...found.map((node, i) => el("li", {}, el("button", { type: "button", tabindex: -1, "aria-selected": String(i === chosen), onpointerdown: (event) => pick(event, node) }, node.name))));
    if (found.length === 0) list.replaceChildren(el("li", { class: "muted" }, "No layer has that in its name."));
  }

  function pick(event, node) {
    event.preventDefault();
    input.value = "";
    input.blur();
    paint();
    onChoose(node);
  }

  function onInput() {
    const { tree } = store.get();
    found = tree ? findNodes(tree, input.value) : [];
    chosen = 0;
    paint();
  }

  function onKey(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      chosen = Math.min(found.length - 1, Math.max(0, chosen + (event.key === "ArrowDown" ? 1 : -1)));
      paint();
    } else if (event.key === "Enter" && found[chosen]) {
      pick(event, found[chosen]);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      input.value = "";
      input.blur();
      paint();
    }
  }

  const handlers = { input: onInput, keydown: onKey, focus: paint, blur: paint };
  for (const [type, handler] of Object.entries(handlers)) input.addEventListener(type, handler);
  return {
    destroy() {
      for (const [type, handler] of Object.entries(handlers)) input.removeEventListener(type, handler);
    },
  };
}
