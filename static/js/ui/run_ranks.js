// What the run page knows of missing ranks: `missing(from, to)` and, at the narrowest zoom or the widest, `textAt(step)`.

import { missingIn, ranksText } from "../core/ranks.js";

/** @param {object} store with `statistics`  @param {object} model of the run page */
export function mountRanks(store, model) {
  const window = (name) => {
    const known = store.get().statistics.some((statistic) => statistic.scope === "run" && statistic.name === name);
    return known ? model.feed(name, "run").window : null;
  };

  /** The fewest ranks in within [from, to) as `{present, of}`, null when all were. */
  function missing(from, to) {
    const [present, ranks] = [window("ranks_present"), window("ranks")];
    return present === null || ranks === null ? null : missingIn(present, ranks, from, to);
  }

  return {
    missing,
    /** "7 of 8 ranks" where a norm at a step, or one that it is drawn together with, lacks parts; else "". */
    textAt(step) {
      const lack = missing(step, step + 1);
      return lack === null ? "" : ranksText(lack);
    },
  };
}
