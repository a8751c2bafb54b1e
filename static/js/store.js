// One observable state per page. Components read it, patch it, and are told once per animation frame.
//
//   const store = createStore({ boot, api, live, run: boot.run, alerts: [] });
//   const stop = store.subscribe((state, changed) => { if (changed.has("run")) draw(state.run); });
//   store.set({ run: { ...store.get().run, name: "baseline" } });
//
// Keys that pages share: `boot` (boot data), `api` (io/api.js), `live` (io/live.js), `run` (RunOut), `connection`
// (what io/live.js reports), `alerts` (list of Alert), `rules` (list of Rule), `selected` (id of the chosen alert).
// Values are replaced, never changed in place: a key counts as changed when its value is no longer the same object.

/** Runs `callback` at the next animation frame, or soon where there are none (Node). */
function nextFrame(callback) {
  if (typeof requestAnimationFrame === "function") requestAnimationFrame(callback);
  else setTimeout(callback, 0);
}

/**
 * @param {object} initial first state
 * @param {{schedule?: (callback: () => void) => void}} [options] `schedule` is the frame clock, given by tests
 * @returns {{get: () => object, set: (patch: object) => void, subscribe: (listener: Function) => () => void}}
 */
export function createStore(initial = {}, { schedule = nextFrame } = {}) {
  let state = Object.freeze({ ...initial });
  let changed = new Set();
  const listeners = new Set();

  function notify() {
    const keys = changed;
    changed = new Set();
    const errors = [];
    for (const listener of [...listeners]) {
      try {
        listener(state, keys);
      } catch (error) {
        errors.push(error);
      }
    }
    // One broken component must not silence the others, nor may its error be lost.
    if (errors.length > 0) throw errors[0];
  }

  return {
    get: () => state,
    set(patch) {
      const fresh = Object.keys(patch).filter((key) => !Object.is(state[key], patch[key]));
      if (fresh.length === 0) return;
      state = Object.freeze({ ...state, ...patch });
      if (changed.size === 0) schedule(notify);
      for (const key of fresh) changed.add(key);
    },
    /** Calls `listener(state, changedKeys)` after changes; returns the function that ends it. */
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
