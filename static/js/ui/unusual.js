// "Most unusual now": of the rows in the tree the five furthest from their own normal at the newest step. The card covers it.
//
//   mount(element, { rows, valueOf, onPick, never }) -> {draw(scene), destroy}
//     rows()                the nodes that stand in the tree      valueOf(node, step)   {last, z} or null
//     onPick(node)          a row was chosen       never(step)   whether the run was never normal: then rows are set against each other

import { formatNumber } from "../core/format.js";
import { againstOthers, mostUnusual } from "../core/unusual.js";
import { el, setText } from "./element.js";

const SHOWN = 5;
/** Rows change places at most so often, and never under the pointer. */
const EVERY_MS = 2000;

const OWN = ["deviation, norm", "How far from the layer's own normal (within 3 is as usual, in robust standard deviations), and its gradient norm"];
const AMONG = ["from the others, norm", "The run was never normal: how far from the middle of all rows, in robust units, and its gradient norm"];

export function mount(element, { rows, valueOf, onPick, never }) {
  const list = el("ol", { class: "inspector-rows unusual-rows" });
  const note = el("p", { class: "muted" });
  const columns = el("span", { class: "columns muted push", title: OWN[1] }, OWN[0]);
  element.append(el("div", { class: "panel-head" }, el("h2", {}, "Most unusual now"), columns), el("div", { class: "panel-body" }, note, list));
  let drawnAt = -Infinity;
  let nodes = [];
  let newest = -1;
  let timer = null;

  function row(place) {
    const button = el("button", { type: "button", onclick: () => nodes[place] && onPick(nodes[place]) }, el("span", { class: "name" }), el("span", { class: "number muted" }), el("span", { class: "number" }));
    return el("li", {}, button);
  }
  list.append(...Array.from({ length: SHOWN }, (_, place) => row(place)));
  for (const item of list.children) item.hidden = true;

  /** What came to rest meanwhile is drawn too, when its time has come. */
  function later(wait) {
    timer ??= setTimeout(() => {
      timer = null;
      draw({ newest });
    }, wait);
  }

  function draw(scene) {
    newest = scene.newest;
    const now = performance.now();
    if (nodes.length === 0) setText(note, newest < 0 ? "Waiting for the first steps." : rows().length === 0 ? "" : "Learning what is normal for each layer.");
    if (newest < 0) return;
    const rest = drawnAt + EVERY_MS - now;
    if (rest > 0) return later(rest);
    if (list.matches(":hover, :focus-within")) return later(EVERY_MS);
    const among = never(newest);
    const nowOf = (node) => valueOf(node, newest);
    const found = mostUnusual(rows(), among ? againstOthers(rows(), nowOf) : nowOf, SHOWN);
    const [text, about] = among ? AMONG : OWN;
    setText(columns, text);
    columns.title = about;
    // Before the baselines are there nothing can be told.
    if (found.every(({ z, last }) => z === null && last > 0 && last < Infinity)) return;
    drawnAt = now;
    note.hidden = true;
    nodes = found.map(({ node }) => node);
    [...list.children].forEach((item, place) => {
      const one = found[place];
      item.hidden = !one;
      if (!one) return;
      const button = item.firstChild;
      button.title = one.node.name;
      setText(button.children[0], `\u200e${one.node.name}`);
      setText(button.children[1], one.z === null ? "" : `${one.z < 0 ? "\u2212" : "+"}${Math.abs(one.z).toFixed(1)}`);
      setText(button.children[2], formatNumber(one.last));
    });
  }

  return {
    draw,
    destroy() {
      clearTimeout(timer);
      element.replaceChildren();
    },
  };
}
