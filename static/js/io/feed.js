// The numbers of one statistic for some rows, at the zoom the page shows: live from the socket, or a standing stretch by REST.
//
//   const feed = createFeed(store, run, { statistic, scope, rows }, onChange);
//     onChange(feed, answered): new numbers; `answered` when they are the answer to a question, not the run going on
//   feed.show({ from, to, points, slide });   // to null: live; slide: how many newest steps are wanted, null for all
//   feed.window                               // SeriesWindow or null; feed.rowOf(index) finds a tensor's row in it
//   feed.select(rows)                         // other rows, same stretch
//
// The former window stays until the new one has come, so that nothing flickers. Each question has its own subscription, so
// that an answer can't be taken for another's.

import { SeriesWindow } from "../core/window.js";

/** A live window is asked for again, at a coarser width, when it has grown to this many times the points wanted. */
const OVERGROWN = 2;

export function createFeed(store, run, { statistic, scope, rows = null }, onChange) {
  const { api, live } = store.get();
  let wanted = null;
  let asked = null;
  let pending = null;
  let subscription = null;
  let request = null;
  let fetching = null;
  let window = null;
  let rowIds = rows;
  let places = placesOf(rows);
  let error = "";

  function accept(view, ids) {
    window = new SeriesWindow(view);
    rowIds = ids;
    places = placesOf(ids);
    error = "";
    onChange(feed, true);
  }

  /** The same question may be asked again: it was not answered. */
  function fail(message) {
    error = message;
    asked = null;
    onChange(feed, true);
  }

  /** A live stretch. The old subscription ends when the new one has answered. */
  function subscribe() {
    const ids = rows;
    const query = { run, statistic, scope, rows, from: wanted.from, to: null, points: wanted.points, segment: null };
    pending?.close();
    const fresh = live.subscribe(
      query,
      (view) => {
        if (view.kind === 1) {
          if (fresh === pending) {
            subscription?.close();
            subscription = fresh;
            pending = null;
          }
          if (fresh === subscription) accept(view, ids);
        } else if (fresh === subscription) {
          grow(view);
        }
      },
      (message) => {
        fresh.close();
        if (fresh !== pending) return;
        pending = null;
        fail(message);
      },
    );
    pending = fresh;
  }

  function grow(view) {
    if (window === null) return;
    if (!window.apply(view)) return ask();
    if (wanted.slide !== null) window.dropBefore(Math.floor((window.lastStep + 1 - wanted.slide) / window.width));
    if (window.n > OVERGROWN * wanted.points) ask();
    onChange(feed, false);
  }

  async function fetchOnce() {
    request?.abort();
    request = new AbortController();
    fetching = request;
    const { signal } = request;
    const ids = rows;
    const query = { statistic, scope, rows, from: wanted.from, to: wanted.to, points: wanted.points };
    try {
      const view = await api.series(run, query, { signal });
      if (signal.aborted) return;
      fetching = null;
      endLive();
      accept(view, ids);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      fetching = null;
      fail(problem.message);
    } finally {
      if (fetching?.signal === signal) fetching = null;
    }
  }

  function endLive() {
    pending?.close();
    subscription?.close();
    pending = null;
    subscription = null;
  }

  function ask() {
    if (wanted === null || (rows !== null && rows.length === 0)) return;
    asked = { ...wanted, rows };
    error = "";
    if (wanted.to === null) {
      request?.abort();
      subscribe();
    } else {
      fetchOnce();
    }
  }

  const feed = {
    statistic,
    scope,
    get window() {
      return window;
    },
    /** The rows that the window holds: the list given to `select`, null for all. */
    get rows() {
      return rowIds;
    },
    /** Whether an answer is still to come. */
    get busy() {
      return pending !== null || fetching !== null;
    },
    get error() {
      return error;
    },
    /** Row of the window that holds the tensor, group or column `index`; -1 when it isn't there. */
    rowOf(index) {
      if (window === null) return -1;
      if (places === null) return index < window.rows ? index : -1;
      return places.get(index) ?? -1;
    },
    /** Whether the window, or an answer still to come, has any of the steps [from, to). */
    holds(from, to) {
      if (feed.busy || window === null) return true;
      return from < window.endBucket * window.width && to > window.firstBucket * window.width;
    },
    show(stretch) {
      wanted = { slide: null, to: null, ...stretch };
      const same = asked !== null && asked.rows === rows && ["from", "to", "points", "slide"].every((key) => asked[key] === wanted[key]);
      if (!same) ask();
    },
    select(chosen) {
      if (rows !== null && rows.length === chosen.length && chosen.every((row, i) => row === rows[i])) return;
      rows = chosen;
      ask();
    },
    /** Asks again, after the run's columns changed. */
    refresh: ask,
    /** Asks again what was not answered. */
    retry: () => error !== "" && ask(),
    close() {
      request?.abort();
      endLive();
    },
  };
  return feed;
}

function placesOf(rows) {
  return rows === null ? null : new Map(rows.map((index, place) => [index, place]));
}
