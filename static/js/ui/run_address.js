// The page's state in the address: replaced quietly while things move, pushed when a person zoomed on purpose, so that the
// browser's Back undoes each zoom.

import { readQuery, writeQuery } from "../core/urlstate.js";

const FIELDS = [
  { key: "from", param: "from", kind: "int", initial: null },
  { key: "to", param: "to", kind: "int", initial: null },
  { key: "last", param: "last", kind: "int", initial: null },
  { key: "at", param: "at", kind: "int", initial: null },
  { key: "colouring", param: "color", kind: "choice", choices: ["deviation", "norm", "ratio", "zeros", "gain"], initial: "deviation" },
  { key: "lossLog", param: "losslog", kind: "flag", initial: null },
  { key: "selected", param: "alert", kind: "text", initial: null },
  { key: "chosenIncident", param: "incident", kind: "text", initial: null },
  { key: "theme", param: "theme", kind: "choice", choices: ["light", "dark"], initial: null },
  { key: "picked", param: "layer", kind: "text", initial: null },
  { key: "scalars", param: "scalar", kind: "list", initial: [] },
  { key: "pins", param: "pin", kind: "list", initial: [] },
  { key: "opened", param: "open", kind: "list", initial: [] },
];
const KEYS = ["view", "at", "colouring", "lossLog", "selected", "chosenIncident", "picked", "scalars", "pins", "open"];
const QUIET_MS = 400;

/** The state that a query string asks for. `opened` is the list of open groups, empty for the usual ones. */
export function stateOf(search) {
  const { from, to, last, ...rest } = readQuery(FIELDS, search);
  const standing = from !== null && to !== null && to > from;
  return { ...rest, view: standing ? { from, to, last: null } : { from: null, to: null, last: last > 0 ? last : null } };
}

/** The query string of a state. `openAtFirst` is what is open unless someone chose otherwise. */
export function queryOf(state, openAtFirst, view = state.view) {
  const usual = openAtFirst === null || state.open === openAtFirst;
  return writeQuery(FIELDS, { ...state, ...view, opened: usual ? [] : [...state.open].concat(state.open.size === 0 ? ["-"] : []) });
}

/** Keeps address and store in step. `usualOpen()` gives the set of groups open at first. */
export function follow(store, usualOpen) {
  let timer = null;
  /** The address that each view had before it was left: going back restores it whole. */
  const settled = new WeakMap();
  const here = (view) => location.pathname + queryOf(store.get(), usualOpen(), view);
  const depth = () => history.state?.depth ?? 0;

  function quiet() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const address = here();
      settled.set(store.get().view, address);
      history.replaceState({ depth: depth() }, "", address);
    }, QUIET_MS);
  }
  settled.set(store.get().view, location.pathname + location.search);

  const stop = store.subscribe((state, changed) => {
    if (changed.has("zoomedFrom") && state.zoomedFrom !== null && state.zoomedFrom !== state.view) {
      clearTimeout(timer);
      history.replaceState({ depth: depth() }, "", settled.get(state.zoomedFrom) ?? here(state.zoomedFrom));
      history.pushState({ depth: depth() + 1 }, "", here());
      settled.set(state.view, here());
    } else if (KEYS.some((key) => changed.has(key))) {
      quiet();
    }
  });

  function onBack() {
    clearTimeout(timer);
    const { opened, theme, ...asked } = stateOf(location.search);
    store.set({ ...asked, frozen: null, cursor: null, zoomedFrom: null });
  }
  addEventListener("popstate", onBack);

  return {
    /** Undoes the last zoom; false when there is none to undo. */
    back() {
      if (depth() === 0) return false;
      history.back();
      return true;
    },
    query: () => queryOf(store.get(), usualOpen()),
    destroy() {
      clearTimeout(timer);
      stop();
      removeEventListener("popstate", onBack);
    },
  };
}
