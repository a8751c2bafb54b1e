// What the run page holds beside the store: the feeds of numbers, and which stretch of steps is shown. Panels draw from it.

import { isLive, rangeOf } from "../core/view.js";
import { createFeed } from "../io/feed.js";

/** Buckets of the overview of the whole run: the timeline and what is normal come from it. */
const OVERVIEW_POINTS = 256;

/**
 * @param {object} store with `run`, `view`, `frozen`
 * @param {() => void} onNumbers called when any number changed
 * @param {() => void} onAnswers called instead when the last of the numbers came that the page had asked for
 */
export function createModel(store, onNumbers, onAnswers) {
  const run = store.get().run.id;
  const feeds = new Map();
  let points = 500;
  let shown = store.get().view;

  function newest() {
    let step = -1;
    for (const { feed } of feeds.values()) if (feed.window !== null) step = Math.max(step, feed.window.lastStep);
    return step >= 0 ? step : store.get().run.last_step;
  }

  const first = () => Math.max(0, store.get().run.first_step);

  /** The steps shown now: standing while frozen or zoomed, else up to the newest. */
  function range() {
    const { view, frozen } = store.get();
    return frozen ? frozen.range : rangeOf(view, first(), newest());
  }

  function stretch(overview) {
    if (overview) return { from: first(), to: null, points: OVERVIEW_POINTS };
    const { view } = store.get();
    const now = rangeOf(view, first(), newest());
    if (!isLive(view)) return { from: now.from, to: now.to, points };
    // A sliding window asks from its present start; the feed lets go of what slides out.
    return { from: view.last === null ? first() : asked(view, now), to: null, points, slide: view.last };
  }

  let slideKey = null;
  let slideFrom = 0;
  /** The start of a sliding window is asked for once, not again with each step. */
  function asked(view, now) {
    if (slideKey !== view) {
      slideKey = view;
      slideFrom = now.from;
    }
    return slideFrom;
  }

  const onChange = (_, answered) => (answered && !model.busy() ? onAnswers() : onNumbers());

  const model = {
    newest,
    first,
    range,
    /** The feed of a statistic; made at the first call. `overview` is the whole run in few buckets. */
    feed(statistic, scope, { rows = null, overview = false, name = "" } = {}) {
      const key = `${scope}:${statistic}:${overview ? "all" : "view"}:${name}`;
      let entry = feeds.get(key);
      if (!entry) {
        entry = { overview, feed: createFeed(store, run, { statistic, scope, rows }, onChange) };
        feeds.set(key, entry);
        entry.feed.show(stretch(overview));
      }
      return entry.feed;
    },
    /** Lets a feed go that no panel shows any more. */
    release(feed) {
      for (const [key, entry] of feeds) {
        if (entry.feed !== feed) continue;
        feed.close();
        feeds.delete(key);
      }
    },
    /** Asks for the stretch that the view now wants. */
    showView() {
      shown = store.get().view;
      for (const { feed, overview } of feeds.values()) feed.show(stretch(overview));
    },
    /** How many buckets the charts can draw. */
    setPoints(count) {
      const rounded = Math.max(120, Math.min(800, Math.round(count / 50) * 50));
      if (rounded === points) return;
      points = rounded;
      model.showView();
    },
    /** Whether the page waits for numbers of what it is to show. */
    busy() {
      if (shown !== store.get().view) return true;
      for (const { feed } of feeds.values()) if (feed.busy) return true;
      return false;
    },
    refresh() {
      for (const { feed } of feeds.values()) feed.refresh();
    },
    /** Asks again for what was not answered, when the server is back. */
    retry() {
      for (const { feed } of feeds.values()) feed.retry();
    },
    /** Asks again for what holds any step of [from, to). */
    reread(from, to) {
      for (const { feed } of feeds.values()) if (feed.holds(from, to)) feed.refresh();
    },
    lastTime() {
      let time = 0;
      for (const { feed } of feeds.values()) if (feed.window !== null) time = Math.max(time, feed.window.lastTime);
      return time;
    },
    close() {
      for (const { feed } of feeds.values()) feed.close();
      feeds.clear();
    },
  };
  return model;
}

/**
 * Value of a feed's row at a step: `{low, high, last, flags, step, width}`, null when nothing is known there. `back` lets it
 * be found in one of so many buckets before.
 */
export function valueAtStep(feed, index, step, back = 0) {
  const row = feed?.rowOf(index) ?? -1;
  if (row < 0) return null;
  const { window } = feed;
  const at = window.bucketOf(step);
  if (at < 0) return null;
  for (let bucket = at; bucket >= Math.max(window.firstBucket, at - back); bucket -= 1) {
    const cell = window.index(row, bucket);
    const flags = window.flags[cell];
    if ((flags & 1) === 0) continue;
    return { low: window.low[cell], high: window.high[cell], last: window.last[cell], flags, step: bucket * window.width, width: window.width };
  }
  return null;
}

/** Newest value of a feed's row, null when there is none. Looks back over at most `reach` buckets. */
export function newestValue(feed, index, reach = 400) {
  const row = feed?.rowOf(index) ?? -1;
  if (row < 0) return null;
  const { window } = feed;
  for (let bucket = window.endBucket - 1; bucket >= Math.max(window.firstBucket, window.endBucket - reach); bucket -= 1) {
    const cell = window.index(row, bucket);
    if (window.flags[cell] & 1) return window.last[cell];
  }
  return null;
}
