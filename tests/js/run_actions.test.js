// What the audit list calls an action.

import assert from "node:assert/strict";
import test from "node:test";

import { titleOf } from "../../static/js/ui/run_actions.js";

const spaced = (text) => text.replaceAll("\u00a0", " ");

test("an action is named with its old and new value, multipliers as such", () => {
  assert.equal(spaced(titleOf({ action: "lr_cut", old: 1, new: 0.5 })), "Learning rate cut: ×1 to ×0.5");
  assert.equal(spaced(titleOf({ action: "lr", old: 0.1, new: 0.02 })), "Learning rate changed: 0.1 to 0.02");
  assert.equal(titleOf({ action: "clip_limit", old: null, new: null }), "Clip limit changed");
  assert.equal(titleOf({ action: "skip", old: null, new: null }), "Step skipped");
  assert.equal(titleOf({ action: "odd", old: null, new: null }), "odd");
});
