// The read-out line: what is under the cursor, in one fixed place that never covers data; and the way back to the newest step.
//
//   mount(element, store, model, { valueOf, textAt, ranks }) -> {draw(scene), destroy}
//     valueOf(node, step)   {last, high, low, flags, width, z} or null: what the heat map knows there
//     textAt(node, step)    what the chosen colouring shows there, "" where it is the norm or the deviation
//     ranks.textAt(step)    "7 of 8 ranks" where parts of the norms are missing, else ""

import { formatCount, formatNumber, formatTime, formatUtc, plural } from "../core/format.js";
import { isLive, WHOLE } from "../core/view.js";
import { el, setText } from "./element.js";

export function mount(element, store, model, { valueOf, textAt, ranks }) {
  const text = element.querySelector(".readout-text");
  const pill = element.querySelector("#golive");
  const step = el("b", {});
  const rest = el("span", {});
  text.append(step, rest);

  function paintPill() {
    const { frozen, view, at, run } = store.get();
    const running = run.state === "running";
    const behind = frozen ? model.newest() - frozen.newest : 0;
    const back = !isLive(view) || at !== null;
    pill.hidden = !(back || behind > 0);
    if (frozen && !back) setText(pill, `+${plural(behind, "step")}`);
    else if (back) setText(pill, running ? "Go live (L)" : "Show the whole run (L)");
  }

  function paintText({ cursor, newest, range }) {
    if (newest < 0) {
      setText(step, "");
      setText(rest, "No step yet.");
      return;
    }
    if (cursor === null) {
      setText(step, "");
      const shown = `Steps ${formatCount(range.from)} to ${formatCount(Math.min(range.to - 1, Math.max(newest, range.from)))}`;
      setText(rest, `${shown}. Point for values, drag to zoom, Shift+drag to move.`);
      return;
    }
    const node = hoveredNode(store);
    const value = node ? valueOf(node, cursor) : null;
    setText(step, `Step ${formatCount(cursor)}`);
    const lacks = ranks.textAt(cursor);
    const more = node ? textAt(node, cursor) : "";
    setText(rest, `${node ? `  ${node.name || "whole model"}  ${more && `${more}  norm `}${valueText(value)}` : ""}${lacks && `  ${lacks}`}`);
  }

  function onPill() {
    store.set({ frozen: null, at: null, cursor: null, view: WHOLE, zoomedFrom: isLive(store.get().view) ? store.get().zoomedFrom : store.get().view });
  }
  pill.addEventListener("click", onPill);

  const draw = (scene) => {
    paintPill();
    paintText(scene);
    const time = model.lastTime();
    const title = time > 0 ? `Newest step: ${formatTime(time)}, ${formatUtc(time)}` : "";
    if (element.title !== title) element.title = title;
  };
  return {
    draw,
    drawOverlay: draw,
    destroy: () => pill.removeEventListener("click", onPill),
  };
}

function hoveredNode(store) {
  const { hover, tree, picked } = store.get();
  if (!tree) return null;
  return tree.nodes.get(hover?.key ?? picked ?? "") ?? null;
}

function valueText(value) {
  if (value === null) return "no gradient here";
  const wide = value.width > 1 && Number.isFinite(value.high) && value.high !== value.low;
  const numbers = wide ? `${formatNumber(value.low)} to ${formatNumber(value.high)} over ${formatCount(value.width)} steps` : formatNumber(value.last);
  if (!Number.isFinite(value.z)) return numbers;
  const away = `${value.z < 0 ? "\u2212" : "+"}${Math.abs(value.z).toFixed(1)}`;
  return `${numbers}  (${Math.abs(value.z) < 2 ? "as usual" : `${away} from its normal`})`;
}
