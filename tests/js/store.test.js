import assert from "node:assert/strict";
import { test } from "node:test";

import { createStore } from "../../static/js/store.js";

function pumped(initial) {
  const frames = [];
  const store = createStore(initial, { schedule: (callback) => frames.push(callback) });
  return { store, frames, pump: () => frames.splice(0).forEach((callback) => callback()) };
}

test("many changes before a frame are told once, with all changed keys", () => {
  const { store, frames, pump } = pumped({ a: 1, b: 2, c: 3 });
  const seen = [];
  store.subscribe((state, changed) => seen.push([state.a, [...changed].sort()]));
  store.set({ a: 5 });
  store.set({ a: 6, b: 7 });
  assert.equal(frames.length, 1);
  assert.equal(store.get().a, 6, "a reader sees the change at once");
  pump();
  assert.deepEqual(seen, [[6, ["a", "b"]]]);
});

test("setting the same value tells nobody", () => {
  const list = [1];
  const { store, frames } = pumped({ list, nothing: NaN });
  store.set({ list, nothing: NaN });
  assert.equal(frames.length, 0);
});

test("a listener that throws neither silences the others nor loses its error", () => {
  const { store, pump } = pumped({});
  let told = 0;
  store.subscribe(() => {
    throw new Error("broken panel");
  });
  store.subscribe(() => (told += 1));
  store.set({ a: 1 });
  assert.throws(pump, /broken panel/);
  assert.equal(told, 1);
});

test("a patch made while telling comes with the next frame; an ended subscription hears nothing", () => {
  const { store, pump } = pumped({});
  const seen = [];
  const stop = store.subscribe((state) => {
    seen.push(state.a);
    if (state.a === 1) store.set({ a: 2 });
  });
  store.set({ a: 1 });
  pump();
  pump();
  stop();
  store.set({ a: 3 });
  pump();
  assert.deepEqual(seen, [1, 2]);
});

test("the state can't be changed in place", () => {
  const { store } = pumped({ a: 1 });
  assert.throws(() => {
    store.get().a = 2;
  }, TypeError);
});
