// Only the newest question's answer counts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createTurns } from "../../static/js/core/turns.js";

test("a turn counts until the next one begins, and never again after", () => {
  const turns = createTurns();
  const first = turns();
  assert.ok(first());
  const second = turns();
  assert.ok(!first() && second() && second());
  const third = turns();
  assert.deepEqual([first, second, third].map((counts) => counts()), [false, false, true]);
});

test("turns of one thing say nothing about another", () => {
  const [rules, shares] = [createTurns(), createTurns()];
  const counts = rules();
  shares();
  assert.ok(counts());
});
