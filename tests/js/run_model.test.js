import assert from "node:assert/strict";
import { test } from "node:test";

import { WHOLE } from "../../static/js/core/view.js";
import { createModel } from "../../static/js/ui/run_model.js";
import { viewOf } from "./helpers.js";

/** A model over a live socket that the test answers by hand; `told` lists what it said of its numbers. */
function started() {
  const asked = [];
  const told = [];
  const live = {
    subscribe(query, handler) {
      asked.push({ query, handler });
      return { close() {} };
    },
  };
  const state = { live, api: { series: () => new Promise(() => {}) }, run: { id: "r", first_step: 0, last_step: 9 }, view: WHOLE, frozen: null };
  const store = { get: () => ({ ...state }), set: (patch) => Object.assign(state, patch) };
  const model = createModel(store, () => told.push("numbers"), () => told.push("answers"));
  return { model, store, asked, told };
}

test("the last answer is told apart from numbers that come by themselves", () => {
  const { model, asked, told } = started();
  model.feed("grad_norm", "group");
  model.feed("global_grad_norm", "run");
  asked[0].handler(viewOf([[1, 2]]));
  assert.deepEqual(told, ["numbers"], "another answer is still to come");
  asked[1].handler(viewOf([[1, 2]]));
  assert.deepEqual(told, ["numbers", "answers"]);
  asked[1].handler(viewOf([[3]], { kind: 2, firstBucket: 2 }));
  assert.deepEqual(told, ["numbers", "answers", "numbers"]);
});

test("it is busy from the moment that another view is wanted, before anything is asked for it", () => {
  const { model, store, asked } = started();
  model.feed("grad_norm", "group");
  assert.ok(model.busy());
  asked[0].handler(viewOf([[1, 2]]));
  assert.ok(!model.busy());
  store.set({ view: { from: 2, to: 6, last: null } });
  assert.ok(model.busy());
  model.showView();
  assert.ok(model.busy(), "until the answer");
});
