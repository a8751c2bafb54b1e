import assert from "node:assert/strict";
import { test } from "node:test";

import { buildTree, visibleRows } from "../../static/js/core/tree.js";
import { installBrowser } from "./browser.js";

installBrowser();
const { placesOf, shownIncident } = await import("../../static/js/ui/heat_marks.js");

const NAMES = ["a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias", "head.weight"];
const TENSORS = NAMES.map((name, index) => ({ index, name, depth: index }));
const GROUPS = [
  { index: 0, path: "", parent: -1, tensors: [0, 1, 2, 3, 4] },
  { index: 1, path: "a", parent: 0, tensors: [0, 1, 2, 3] },
  { index: 2, path: "a.0", parent: 1, tensors: [0, 1] },
  { index: 3, path: "a.1", parent: 1, tensors: [2, 3] },
];
const INCIDENT = { origin: { tensor: "a.1.weight", step: 100, followers: [["a.1.bias", 101], ["a.0.weight", 103], ["head.weight", 104]] } };

function places(open) {
  const tree = buildTree(TENSORS, GROUPS);
  const rows = visibleRows(tree, new Set(open));
  return placesOf(INCIDENT, rows, tree.nodes).map(({ line, step, order }) => [rows[line].name, step, order]);
}

test("each layer of the path is marked in its order", () => {
  assert.deepEqual(places(["a", "a.0", "a.1"]), [["a.1.weight", 100, 1], ["a.1.bias", 101, 2], ["a.0.weight", 103, 3], ["head.weight", 104, 4]]);
});

test("a closed group carries the first of what it holds", () => {
  assert.deepEqual(places(["a"]), [["a.1", 100, 1], ["a.0", 103, 3], ["head.weight", 104, 4]]);
  assert.deepEqual(places([]), [["a", 100, 1], ["head.weight", 104, 4]]);
});

test("the chosen incident is shown before the gravest open one, and a cleared one only when chosen", () => {
  const open = { id: "o", severity: "critical", closed_step: null, first_step: 1 };
  const past = { id: "p", severity: "critical", closed_step: 9, first_step: 1 };
  assert.equal(shownIncident({ incidents: [past, open] }), open);
  assert.equal(shownIncident({ incidents: [past, open], chosenIncident: "p" }), past);
  assert.equal(shownIncident({ incidents: [past] }), null);
});
