import assert from "node:assert/strict";
import { test } from "node:test";

import { markText } from "../../static/js/core/sentence.js";

test("an action says what was done and why, other marks their kind", () => {
  assert.equal(markText({ kind: "action", data: { action: "lr_cut", reason: "the loss diverges" } }), "lr cut: the loss diverges");
  assert.equal(markText({ kind: "action", data: {} }), "action");
  assert.equal(markText({ kind: "checkpoint", data: { path: "last.pt" } }), "checkpoint");
});
