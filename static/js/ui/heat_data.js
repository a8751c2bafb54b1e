// From windows of numbers to heat codes, row by row, working out only what is new.

import { ABSENT, deviationCell, deviationPriority, reach, sizeCell, sizePriority } from "../core/heat.js";
import { Baseline } from "../core/baseline.js";

const FAR = deviationPriority();
const LARGE = sizePriority();
export const PRIORITIES = { deviation: FAR, norm: LARGE, ratio: FAR, zeros: LARGE, gain: FAR };

/** Codes of one feed's window under one colouring. Holds a baseline from the feed's overview. */
export class HeatCodes {
  constructor() {
    this.baseline = new Baseline();
    this.codes = new Uint8Array(0);
    this.layout = -1;
    this.window = null;
    this.colouring = "";
    this.axisKey = "";
  }

  /**
   * Brings the codes up to date. Returns false while numbers or baseline are missing.
   *
   * @param {object} feed its window is coloured  @param {object} overview feed of the whole run
   * @param {"deviation"|"norm"} colouring  @param {{low: number, high: number}} axis in octaves, for "norm"
   */
  update(feed, overview, colouring, axis) {
    const { window } = feed;
    if (window === null) return false;
    // What is normal is told beside the map too, whatever its colours show.
    const known = overview.window !== null && overview.rows === feed.rows;
    if (known) this.baseline.update(overview.window);
    else if (colouring === "deviation") return false;
    const axisKey = colouring === "norm" ? `${axis.low},${axis.high}` : "";
    const fresh = window !== this.window || colouring !== this.colouring || axisKey !== this.axisKey;
    const dirty = window.takeDirty();
    if (fresh || window.layout !== this.layout) {
      this.window = window;
      this.colouring = colouring;
      this.axisKey = axisKey;
      this.layout = window.layout;
      this.codes = new Uint8Array(window.rows * window.capacity);
      this.#fill(window.firstBucket, axis);
    } else if (dirty < window.endBucket) {
      this.#fill(dirty, axis);
    }
    return true;
  }

  #fill(from, axis) {
    const { window, baseline, codes } = this;
    const priority = PRIORITIES[this.colouring];
    const slack = reach(window.width) - 1;
    for (let row = 0; row < window.rows; row += 1) {
      for (let bucket = from; bucket < window.endBucket; bucket += 1) {
        const cell = window.index(row, bucket);
        const flags = window.flags[cell];
        if (flags === 0) codes[cell] = ABSENT;
        else if (this.colouring === "norm") codes[cell] = sizeCell(window.high[cell], flags, axis, priority);
        else {
          const at = baseline.at(row, bucket * window.width);
          const { centre, scale } = baseline;
          codes[cell] = deviationCell(window.low[cell], window.high[cell], flags, centre[at], scale[at], slack, priority);
        }
      }
    }
  }
}
