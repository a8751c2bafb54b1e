// The rarer colourings of the heat map, taken in when one is chosen: sampled statistics of tensors, and gains between rows.
//
//   createMore(model) -> {fill(colouring, place), textAt(node, step, feed), note(run, statistics)}
//     fill   `colouring` null lets the numbers go      textAt   what is shown of a node at a step; `feed` holds its norms
//     note   a sentence where nothing was sampled, else ""

import { gainCell, gainText, nextAlike, noSamples, ratioCell, sampledText, tensorsBelow, zerosCell } from "../core/heat_more.js";
import { poolRow } from "../core/heat.js";
import { valueAtStep } from "./run_model.js";

const SAMPLED = { ratio: { statistic: "update_ratio", cell: ratioCell }, zeros: { statistic: "zero_fraction", cell: zerosCell } };
/** Samples of so many tensors are asked for at once; of larger models closed groups stay empty until they are opened. */
const MOST_TENSORS = 1500;
/** Steps back in which the sample before a step is looked for. */
const BACK = 500;

export function createMore(model) {
  let shown = null;

  function show(colouring) {
    if (shown?.colouring === colouring) return;
    if (shown) model.release(shown.feed);
    const sampled = SAMPLED[colouring];
    shown = sampled ? { colouring, feed: model.feed(sampled.statistic, "tensor", { rows: [], name: "heat" }), codes: new Codes(sampled.cell), rows: null } : null;
  }

  function fillSampled({ rows, range, lines, width, priority }) {
    if (shown.rows !== rows) {
      const whole = [...new Set(rows.flatMap((row) => tensorsBelow(row)))];
      shown.below = whole.length <= MOST_TENSORS ? tensorsBelow : (row) => (row.kind === "tensor" ? [row.index] : []);
      shown.rows = rows;
      shown.feed.select([...new Set(rows.flatMap((row) => shown.below(row)))].sort((a, b) => a - b));
    }
    const { window } = shown.feed;
    if (window === null) return;
    const codes = shown.codes.update(window);
    rows.forEach((row, line) => {
      for (const index of shown.below(row)) {
        const place = shown.feed.rowOf(index);
        if (place < 0) continue;
        const at = window.index(place, window.firstBucket);
        poolRow(codes, at, window.n, window.firstBucket, window.width, range, lines, line * width, width, priority);
      }
    });
  }

  function textAt(node, step, norms) {
    if (!shown) {
      const next = nextAlike(node);
      return next ? gainText(valueAtStep(norms, node.index, step), valueAtStep(norms, next.index, step), next.name) : "";
    }
    const { feed, below, colouring } = shown;
    if (!below || feed.window === null) return "";
    const back = Math.ceil(BACK / feed.window.width);
    const found = below(node).map((index) => valueAtStep(feed, index, step, back));
    return sampledText(colouring, found.filter(Boolean), step);
  }

  /** Whether there is any sample; looked for again only when the numbers changed. */
  function sampled() {
    const { window } = shown.feed;
    if (shown.seen !== window || shown.version !== window.version) {
      shown.any = window.flags.some((flags) => flags & 1);
      shown.seen = window;
      shown.version = window.version;
    }
    return shown.any;
  }

  return {
    textAt,
    note: (run, statistics) => (shown && shown.feed.window !== null && !sampled() ? noSamples(shown.colouring, run, statistics) : ""),
    fill(colouring, place) {
      show(colouring);
      if (colouring === "gain") fillGains(place);
      else if (shown) fillSampled(place);
    },
  };
}

function fillGains({ rows, sourceOf, range, lines, width, priority }) {
  rows.forEach((row, line) => {
    const next = nextAlike(row);
    const { feed } = sourceOf(row);
    const place = next ? feed.rowOf(row.index) : -1;
    const other = next ? feed.rowOf(next.index) : -1;
    if (place < 0 || other < 0) return;
    const { window } = feed;
    const from = window.index(place, window.firstBucket);
    const to = window.index(other, window.firstBucket);
    const codes = new Uint8Array(window.n);
    for (let i = 0; i < window.n; i += 1) codes[i] = gainCell(window.high[from + i], window.flags[from + i], window.high[to + i], window.flags[to + i]);
    poolRow(codes, 0, window.n, window.firstBucket, window.width, range, lines, line * width, width, priority);
  });
}

/** Codes of a window, cell by cell, working out only what is new. */
class Codes {
  constructor(cell) {
    this.cell = cell;
    this.window = null;
    this.layout = -1;
  }

  update(window) {
    let from = window.takeDirty();
    if (window !== this.window || window.layout !== this.layout) {
      this.window = window;
      this.layout = window.layout;
      this.codes = new Uint8Array(window.rows * window.capacity);
      from = window.firstBucket;
    }
    for (let row = 0; row < window.rows; row += 1) {
      for (let bucket = from; bucket < window.endBucket; bucket += 1) {
        const at = window.index(row, bucket);
        this.codes[at] = this.cell(window.low[at], window.high[at], window.flags[at]);
      }
    }
    return this.codes;
  }
}
