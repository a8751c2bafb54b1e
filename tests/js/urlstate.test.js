import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_QUERY, readQuery, writeQuery } from "../../static/js/core/urlstate.js";

const FIELDS = [
  { key: "from", param: "from", kind: "int", initial: null },
  { key: "colour", param: "colour", kind: "choice", choices: ["deviation", "norm"], initial: "deviation" },
  { key: "pins", param: "pin", kind: "list", initial: [] },
  { key: "log", param: "log", kind: "flag", initial: true },
  { key: "search", param: "q", kind: "text", initial: "" },
];

test("a state written and read is the same state", () => {
  const state = { from: 0, colour: "norm", pins: ["a.b/c, d&e=f", "<b>#é</b>", "%2F"], log: false, search: "x y" };
  const query = writeQuery(FIELDS, state);
  assert.deepEqual(readQuery(FIELDS, query), state);
});

test("what is as it was at first stays out of the address", () => {
  assert.equal(writeQuery(FIELDS, readQuery(FIELDS, "")), "");
});

test("senseless values fall back to the initial ones", () => {
  const state = readQuery(FIELDS, "?from=-4&colour=pink&log=maybe&pin=&unknown=1");
  assert.deepEqual(state, { from: null, colour: "deviation", pins: [], log: true, search: "" });
  assert.equal(readQuery(FIELDS, "?from=1e99").from, null);
  assert.equal(readQuery(FIELDS, "?from=").from, null);
});

test("an address stays short: lists are cut from the end, single fields are kept", () => {
  const pins = Array.from({ length: 400 }, (_, index) => `transformer.blocks.${index}.mlp.fc2.weight`);
  const query = writeQuery(FIELDS, { from: 7, colour: "norm", pins, log: true, search: "" });
  assert.ok(query.length <= MAX_QUERY);
  const state = readQuery(FIELDS, query);
  assert.equal(state.from, 7);
  assert.ok(state.pins.length > 10);
  assert.deepEqual(state.pins, pins.slice(0, state.pins.length));
});
