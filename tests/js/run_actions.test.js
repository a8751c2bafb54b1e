// What the audit list calls an action.

import assert from "node:assert/strict";
import test from "node:test";

import { createStore } from "../../static/js/store.js";
import { mount, titleOf } from "../../static/js/ui/run_actions.js";

const spaced = (text) => text.replaceAll("\u00a0", " ");

test("an action is named with its old and new value, multipliers as such", () => {
  assert.equal(spaced(titleOf({ action: "lr_cut", old: 1, new: 0.5 })), "Learning rate cut: ×1 to ×0.5");
  assert.equal(spaced(titleOf({ action: "lr", old: 0.1, new: 0.02 })), "Learning rate changed: 0.1 to 0.02");
  assert.equal(titleOf({ action: "clip_limit", old: null, new: null }), "Clip limit changed");
  assert.equal(titleOf({ action: "skip", old: null, new: null }), "Step skipped");
  assert.equal(titleOf({ action: "odd", old: null, new: null }), "odd");
});

/** As much of an element as the list asks for. */
const node = () => ({ append() {}, setAttribute() {}, addEventListener() {}, replaceChildren() {} });

test("after a lost answer the list is asked for until one comes, and no longer", async (t) => {
  const { mock: beat } = t.mock.method(globalThis, "setInterval", () => 0);
  globalThis.document = { createElement: node };
  const answers = [() => Promise.reject(Object.assign(new Error("lost"), { status: 0 })), async () => ({ actions: [] })];
  let asked = 0;
  const api = { get: () => answers[Math.min(asked++, 1)]() };
  const store = createStore({ api, run: { id: "r" }, marks: [] });
  const { destroy } = mount(node(), store, { onStep() {} });
  const later = async () => {
    beat.calls[0].arguments[0]();
    await new Promise((resolve) => setImmediate(resolve));
  };
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked, 1);
  await later();
  assert.equal(asked, 2);
  await later();
  assert.equal(asked, 2, "the answer came");
  destroy();
});
