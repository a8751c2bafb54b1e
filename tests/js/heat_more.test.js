import assert from "node:assert/strict";
import { test } from "node:test";

import { HAS_INF, HAS_NAN, HAS_ZERO, PRESENT } from "../../static/js/core/codec.js";
import * as heat from "../../static/js/core/heat.js";
import { gainCell, gainText, nextAlike, noSamples, ratioCell, sampledText, tensorsBelow, zerosCell } from "../../static/js/core/heat_more.js";
import { buildTree } from "../../static/js/core/tree.js";
import { SeriesWindow } from "../../static/js/core/window.js";
import { PRIORITIES } from "../../static/js/ui/heat_data.js";
import { createMore } from "../../static/js/ui/heat_more.js";
import { viewOf } from "./helpers.js";

test("what was not sampled is absent, not zero", () => {
  for (const cell of [ratioCell, zerosCell]) assert.equal(cell(NaN, NaN, 0), heat.ABSENT);
  assert.equal(gainCell(1, PRESENT, NaN, 0), heat.ABSENT);
  assert.equal(gainCell(NaN, 0, 1, PRESENT), heat.ABSENT);
});

test("scales are fixed: a usual update in the middle, three decades to each side", () => {
  const at = (value) => ratioCell(value, value, PRESENT);
  assert.deepEqual([1e-9, 1e-6, 1e-3, 1, 50].map(at), [1, 1, heat.MIDDLE, heat.LEVELS, heat.LEVELS]);
  assert.equal(at(1e-2), heat.MIDDLE + 20);
  assert.equal(ratioCell(1e-6, 1e-2, PRESENT), 1, "of a bucket the end further from usual is shown");
  assert.equal(ratioCell(0, 0, PRESENT | HAS_ZERO), heat.ZERO);
});

test("a share of zeros runs from 0 to 100 %, and none is a number like others", () => {
  assert.deepEqual([0, 0.5, 1].map((value) => zerosCell(0, value, PRESENT | (value ? 0 : HAS_ZERO))), [1, heat.MIDDLE, heat.LEVELS]);
});

test("a gain of 2 is a third of the way to 8; NaN and Inf of either row win", () => {
  assert.equal(gainCell(3, PRESENT, 3, PRESENT), heat.MIDDLE);
  assert.equal(gainCell(6, PRESENT, 3, PRESENT), heat.MIDDLE + 20);
  assert.equal(gainCell(1, PRESENT, 64, PRESENT), 1);
  assert.equal(gainCell(1, PRESENT, 1, PRESENT | HAS_NAN), heat.NAN);
  assert.equal(gainCell(1, PRESENT | HAS_INF, 1, PRESENT), heat.INF);
  assert.equal(gainCell(1, PRESENT, 0, PRESENT | HAS_ZERO), heat.ZERO);
});

const NAMES = ["embed.weight", "blocks.0.a", "blocks.0.b", "blocks.1.a", "blocks.1.b"];
const TENSORS = NAMES.map((name, index) => ({ name, index, depth: index }));
const GROUPS = [
  { index: 0, path: "", parent: null, tensors: [0, 1, 2, 3, 4] },
  { index: 1, path: "blocks", parent: 0, tensors: [1, 2, 3, 4] },
  { index: 2, path: "blocks.0", parent: 1, tensors: [1, 2] },
  { index: 3, path: "blocks.1", parent: 1, tensors: [3, 4] },
];

test("a block is divided by the next one like it, never by another kind of part", () => {
  const { nodes } = buildTree(TENSORS, GROUPS);
  assert.equal(nextAlike(nodes.get("g:blocks.0")), nodes.get("g:blocks.1"));
  assert.equal(nextAlike(nodes.get("g:blocks.1")), null);
  assert.equal(nextAlike(nodes.get("t:embed.weight")), null);
  assert.deepEqual(tensorsBelow(nodes.get("g:blocks")), [1, 2, 3, 4]);
});

test("a closed group shows its most telling layer, and hatching between samples", () => {
  const values = [[0.1, NaN, 0.1], [0.2, NaN, 0.9]];
  const view = viewOf(values);
  view.flags.fill(0, 1, 2).fill(0, 4, 5);
  const feed = { window: new SeriesWindow(view), select: (rows) => (feed.asked = rows), rowOf: (index) => feed.asked.indexOf(index) };
  const released = [];
  const more = createMore({ feed: () => feed, release: (gone) => released.push(gone) });
  const { nodes } = buildTree(TENSORS, GROUPS);
  const place = { rows: [nodes.get("g:blocks.0")], range: { from: 0, to: 3 }, lines: new Uint8Array(3), width: 3, priority: PRIORITIES.zeros };
  more.fill("zeros", place);
  assert.deepEqual(feed.asked, [1, 2]);
  assert.deepEqual([...place.lines], [25, heat.ABSENT, 109]);
  more.fill(null);
  assert.deepEqual(released, [feed]);
});

const sample = (low, high = low, more = {}) => ({ low, high, flags: PRESENT, step: 120, width: 1, ...more });

test("what was sampled is told with its unit, its tensors, and its own step", () => {
  assert.equal(sampledText("ratio", [sample(0.0012)], 120), "update/weight 0.0012");
  assert.equal(sampledText("ratio", [sample(0.0012), sample(0.5)], 125), "update/weight 0.0012 to 0.5 in 2\u00a0tensors, sampled at step 120");
  assert.equal(sampledText("zeros", [sample(0.25)], 120), "zeros 25\u00a0%");
  assert.equal(sampledText("zeros", [sample(0.25, 0.25, { width: 16 })], 130), "zeros 25\u00a0%", "in the bucket of the step");
  assert.equal(sampledText("ratio", [sample(1), sample(NaN, NaN, { flags: PRESENT | HAS_NAN })], 120), "update/weight NaN in 2\u00a0tensors");
  assert.equal(sampledText("zeros", [], 120), "zeros: no sample here");
});

test("a gain names the block that it is over", () => {
  assert.equal(gainText(sample(3), sample(2), "blocks.4"), "gain \u00d71.5 over blocks.4");
  assert.equal(gainText(sample(3), sample(0), "blocks.4"), "gain over blocks.4: not finite");
  assert.equal(gainText(sample(3), null, "blocks.4"), "gain: none here");
});

test("a colouring without samples says why, and when there will be some", () => {
  const known = [{ name: "update_ratio" }];
  assert.equal(noSamples("ratio", { state: "running", cost: {} }, []), "No samples of the update/weight ratio yet; they are taken about every 10 steps.");
  assert.equal(noSamples("ratio", { state: "running", cost: { thinned: 4 } }, known), "No samples of the update/weight ratio in these steps; they are taken about every 40 steps.");
  assert.equal(noSamples("zeros", { state: "running", cost: { budget: 0 } }, []), "No samples of the share of zeros yet; the budget for them is 0.");
  assert.equal(noSamples("zeros", { state: "finished" }, known), "This run has no samples of the share of zeros.");
});
