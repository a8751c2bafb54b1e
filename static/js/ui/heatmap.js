// The layer x step heat map: the module tree at the left, one row each, cells on our own canvas pooled to device pixels, the
// newest norm of each row at the right.
//
//   mount(element, store, model, { onPick, onOpen, onMenu, onLoaded }) -> {draw(scene), drawOverlay(scene), destroy}
//     onPick(node, step)   a cell was chosen      onOpen(node)   a label was chosen
//     onMenu(node, label)  its menu is asked for      onLoaded()   rarer colourings were taken in: draw again
//   reads `tree`, `open` (Set of module paths), `colouring` (a key of PRIORITIES), `hover` ({key}), `at`

import { formatNumber } from "../core/format.js";
import { NORM_AXIS, poolRow, poolRows, rowSpan } from "../core/heat.js";
import { firstUnusual } from "../core/origin.js";
import { visibleRows } from "../core/tree.js";
import { attachPointer } from "./cursor.js";
import { HeatCodes, PRIORITIES } from "./heat_data.js";
import { paintIncident, shownIncident } from "./heat_marks.js";
import { imageOf, paletteOf } from "./heat_paint.js";
import { mountTree } from "./heat_tree.js";
import { newestValue } from "./run_model.js";
import { onThemeChange, token } from "./theme.js";

const ROW = 18;
const LEAST_HEIGHT = 72;
const MOST_HEIGHT = 300;
/** A tree opened wide may take more room, unless a chosen layer's curve has to fit below it. */
const WIDE_HEIGHT = 420;
const WIDE_ROWS = 40;
/** Rows at least this tall are told apart by a line. */
const RULED = 7;

export function mount(element, store, model, { onPick, onOpen, onMenu, onLoaded }) {
  const body = element.querySelector(".heat-body");
  const cells = body.querySelector(".heat-cells");
  const overlay = body.querySelector(".heat-overlay");
  const context = overlay.getContext("2d");
  const groups = source(model, "group");
  const tensors = source(model, "tensor");
  const tree = mountTree(body.querySelector(".heat-tree"), store, { onOpen, onMenu });
  let rows = [];
  let rowsKey = null;
  let size = { width: 0, height: 0, left: 0, right: 0, ratio: 1 };
  let palette = null;
  let paletteKey = "";
  let more = null;
  let drawnTo = -1;
  let scenery = null;

  function measure() {
    const style = getComputedStyle(body);
    const ratio = window.devicePixelRatio || 1;
    size = {
      width: body.clientWidth,
      height: body.clientHeight,
      left: parseFloat(style.getPropertyValue("--plot-left")),
      right: parseFloat(style.getPropertyValue("--plot-right")),
      ratio,
    };
    const plot = Math.max(1, size.width - size.left - size.right);
    cells.width = Math.max(1, Math.round(plot * ratio));
    cells.height = Math.max(1, Math.round(size.height * ratio));
    overlay.width = Math.round(size.width * ratio);
    overlay.height = Math.round(size.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** The rows that stand in the tree, and with them which tensors' numbers are needed. */
  function arrange() {
    const { tree: nodes, open, picked } = store.get();
    if (!nodes) return;
    const roomy = picked === null;
    if (rowsKey?.nodes === nodes && rowsKey.open === open && rowsKey.roomy === roomy) return;
    rowsKey = { nodes, open, roomy };
    rows = visibleRows(nodes, open);
    for (const [kind, part] of [["group", groups], ["tensor", tensors]]) {
      const wanted = rows.filter((row) => row.kind === kind).map((row) => row.index);
      part.feed.select(wanted);
      part.overview.select(wanted);
    }
    const most = rows.length > WIDE_ROWS && roomy ? WIDE_HEIGHT : MOST_HEIGHT;
    const height = Math.min(most, Math.max(LEAST_HEIGHT, rows.length * ROW));
    body.style.height = `${height}px`;
    measure();
    tree.arrange(rows, height);
  }

  function paint(scene) {
    scenery = scene;
    paintCells(scene);
    drawnTo = Math.max(groups.feed.window?.lastStep ?? -1, tensors.feed.window?.lastStep ?? -1);
    paintOverlay(scene);
  }

  function sourceOf(row) {
    return row.kind === "group" ? groups : tensors;
  }

  function currentPalette(colouring) {
    const key = `${colouring} ${document.documentElement.dataset.theme}`;
    if (key !== paletteKey) {
      palette = paletteOf(colouring);
      paletteKey = key;
    }
    return palette;
  }

  function paintCells({ range }) {
    const { colouring } = store.get();
    const own = colouring === "norm" ? "norm" : "deviation";
    for (const part of [groups, tensors]) part.ready = part.codes.update(part.feed, part.overview, own, NORM_AXIS);
    const canvas = cells.getContext("2d");
    const { width, height } = cells;
    canvas.clearRect(0, 0, width, height);
    if (rows.length === 0) return;
    const priority = PRIORITIES[colouring];
    const lines = new Uint8Array(rows.length * width);
    const place = { rows, sourceOf, range, lines, width, priority };
    if (colouring !== own) rarer()?.fill(colouring, place);
    else fillOwn(place);
    const pooled = poolRows(lines, rows.length, width, height, priority);
    canvas.putImageData(imageOf(pooled, width, height, currentPalette(colouring)), 0, 0);
    rule(canvas, width, height);
  }

  function fillOwn({ range, lines, width, priority }) {
    more?.fill?.(null);
    rows.forEach((row, line) => {
      const part = sourceOf(row);
      const place = part.ready ? part.feed.rowOf(row.index) : -1;
      if (place < 0) return;
      const { window } = part.feed;
      const at = window.index(place, window.firstBucket);
      poolRow(part.codes.codes, at, window.n, window.firstBucket, window.width, range, lines, line * width, width, priority);
    });
  }

  /** The colourings that few ask for come when one is chosen; null until they are there. */
  function rarer() {
    more ??= import("./heat_more.js").then((loaded) => {
      more = loaded.createMore(model);
      onLoaded();
    });
    return more.fill ? more : null;
  }

  /** A line between rows where they are tall enough to be read one by one. */
  function rule(canvas, width, height) {
    if (height / rows.length < RULED * size.ratio) return;
    canvas.fillStyle = token("--surface");
    for (let row = 1; row < rows.length; row += 1) {
      canvas.fillRect(0, rowSpan(row, rows.length, height).top, width, Math.max(1, Math.round(size.ratio)));
    }
  }

  function paintOverlay(scene) {
    const { hover } = store.get();
    context.clearRect(0, 0, size.width, size.height);
    const left = size.left;
    const right = size.width - size.right;
    if (hover?.key) {
      const line = rows.findIndex((row) => row.key === hover.key);
      if (line >= 0) {
        const { top, bottom } = rowSpan(line, rows.length, size.height);
        context.strokeStyle = token("--text-3");
        context.strokeRect(left + 0.5, top - 0.5, right - left - 1, bottom - top);
      }
    }
    paintStrip(right);
    const incident = shownIncident(store.get());
    if (incident && rows.length > 0) paintIncident(context, { left, right, height: size.height }, scene.range, rows, store.get().tree.nodes, incident);
    if (pointer.state.selection) {
      const { from, to } = pointer.state.selection;
      context.fillStyle = token("--chart-band");
      context.fillRect(Math.max(left, from), 0, Math.min(right, to) - Math.max(left, from), size.height);
    }
    const { cursor, range } = scene;
    if (cursor !== null && cursor >= range.from && cursor < range.to) {
      context.fillStyle = token("--text-3");
      context.fillRect(Math.round(left + ((cursor + 0.5 - range.from) / (range.to - range.from)) * (right - left)), 0, 1, size.height);
    }
    tree.paint(hover?.key ?? null);
  }

  /** The newest norm of each row, on a log scale over the rows: the profile over depth. */
  function paintStrip(from) {
    const values = rows.map((row) => newestValue(sourceOf(row).feed, row.index));
    const logs = values.filter((value) => Number.isFinite(value) && value > 0).map(Math.log2);
    const low = Math.min(...logs) - 1;
    const high = Math.max(...logs, low + 2);
    const room = size.right - 8;
    const legible = size.height / rows.length >= 12;
    context.font = `10px ${token("--font")}`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    values.forEach((value, line) => {
      const { top, bottom } = rowSpan(line, rows.length, size.height);
      if (value === null) return;
      const special = Number.isNaN(value) ? "--nan" : value === 0 ? "--zero" : Number.isFinite(value) ? null : "--inf";
      context.fillStyle = token(special ?? "--surface-3");
      const length = special ? room : Math.max(2, ((Math.log2(value) - low) / (high - low)) * room);
      if (!special || !legible) context.fillRect(from + 6, top + (bottom - top > 3 ? 1 : 0), length, Math.max(1, bottom - top - 2));
      if (!legible) return;
      context.fillStyle = token(special ?? "--text-2");
      context.fillText(formatNumber(value), from + 9, (top + bottom) / 2 + 0.5);
    });
  }

  function columnsOf() {
    return rows.flatMap((row) => {
      const { ready, feed, codes } = sourceOf(row);
      const place = ready ? feed.rowOf(row.index) : -1;
      if (place < 0) return [];
      const { window } = feed;
      return [{ row, window, codeAt: (bucket) => codes.codes[window.index(place, bucket)] }];
    });
  }

  function rowAt(y) {
    if (rows.length === 0 || y < 0 || y >= size.height) return null;
    return rows.find((_, line) => y < rowSpan(line, rows.length, size.height).bottom) ?? null;
  }

  const pointer = attachPointer(overlay, store, model, {
    box: () => ({ left: size.left, right: size.width - size.right }),
    onHover: (y) => ({ hover: { key: rowAt(y)?.key ?? null } }),
    onClick: (step, y) => {
      const row = rowAt(y);
      if (row) onPick(row, step);
    },
  });
  // A canvas that gets another size is empty: it is painted before anybody sees it.
  const observer = new ResizeObserver(() => {
    measure();
    if (scenery !== null) paint(scenery);
  });
  observer.observe(body);
  const stopTheme = onThemeChange(() => (paletteKey = ""));
  measure();

  return {
    arrange,
    draw(scene) {
      arrange();
      paint(scene);
    },
    drawOverlay: paintOverlay,
    /** Whether cells can be shown: names, numbers and what is normal are there. */
    ready: () => rows.length > 0 && (groups.ready || tensors.ready),
    /** Whether cells are still to come: names, numbers or what is normal. */
    awaited: () => rows.length === 0 || [groups, tensors].some(({ feed, overview }) => feed.busy || overview.busy),
    /** The step up to which the drawn cells go. */
    lastStep: () => drawnTo,
    /** The rows that stand in the tree, none before the numbers of all of them are there. */
    rows: () => (rows.every((row) => sourceOf(row).ready) ? rows : []),
    /** The chosen colouring's value of a node at a step, "" where norm and deviation say it. */
    textAt: (node, step) => (rare(store.get().colouring) && more?.fill ? more.textAt(node, step, sourceOf(node).feed) : ""),
    /** What is said instead of cells, "" for nothing. */
    note() {
      const { colouring, run, statistics } = store.get();
      return rare(colouring) && more?.fill ? more.note(run, statistics) : "";
    },
    feedOf: (node) => sourceOf(node).feed,
    baselineOf: (node) => sourceOf(node).codes.baseline,
    /** Where the unusual stretch at a step began: `{row, step}`, null when all is as usual there. */
    firstUnusual: (step) => (store.get().colouring !== "norm" ? firstUnusual(columnsOf(), step) : null),
    destroy() {
      observer.disconnect();
      stopTheme();
      pointer.destroy();
      tree.destroy();
    },
  };
}

const rare = (colouring) => colouring !== "norm" && colouring !== "deviation";

function source(model, scope) {
  return {
    feed: model.feed("grad_norm", scope, { rows: [], name: "heat" }),
    overview: model.feed("grad_norm", scope, { rows: [], name: "heat", overview: true }),
    codes: new HeatCodes(),
    ready: false,
  };
}
