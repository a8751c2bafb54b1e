// Pure parts of the run page's components.

import assert from "node:assert/strict";
import { test } from "node:test";

import { installBrowser } from "./browser.js";

installBrowser();
const { topShares } = await import("../../static/js/ui/inspector.js");
const { textOf } = await import("../../static/js/ui/batch_ids.js");
const { outlineOf } = await import("../../static/js/ui/chart_traces.js");
const { queryOf, stateOf } = await import("../../static/js/ui/run_address.js");
const { concerns } = await import("../../static/js/ui/run_charts.js");
const { costFacts, flatten, isPrivate } = await import("../../static/js/ui/run_details.js");
const { backtestSentence } = await import("../../static/js/core/backtest.js");

test("shares are of the squared norm, and add up", () => {
  const rows = topShares([3, 4, null, 0], 5);
  assert.deepEqual(rows.map(({ index, share }) => [index, share]), [[1, 0.64], [0, 0.36], [3, 0]]);
});

test("shares survive norms whose squares don't fit into numbers", () => {
  const [first, second] = topShares([1e-200, 1e-200], 2);
  assert.equal(first.share + second.share, 1);
  assert.equal(topShares([1e200, 1e-200], 1)[0].share, 1);
});

test("what isn't finite comes first and leaves no share to the rest", () => {
  const rows = topShares([5, NaN, Infinity], 3);
  assert.deepEqual(rows.map(({ index }) => index), [1, 2, 0]);
  assert.ok(rows.every(({ share }) => Number.isNaN(share)));
});

test("an envelope is one closed shape for each stretch without a gap", () => {
  const outline = outlineOf([0, 1, 2, 3], [1, 1, NaN, 1], [2, 2, NaN, 3]);
  assert.deepEqual(outline.x, [0, 1, 1, 0, NaN, 3, 3]);
  assert.deepEqual(outline.y, [2, 2, 1, 1, NaN, 3, 1]);
});

test("a copied address opens the same view", () => {
  const usual = new Set(["blocks"]);
  const state = {
    view: { from: 100, to: 900, last: null }, at: 563, colouring: "norm", lossLog: true, selected: "a1", picked: "g:blocks.7",
    scalars: ["loss", "val/loss"], pins: ["t:head.weight"], open: new Set(["blocks", "blocks.7"]), theme: null,
  };
  const back = stateOf(queryOf(state, usual));
  assert.deepEqual(back.view, state.view);
  assert.deepEqual(back.opened, ["blocks", "blocks.7"]);
  for (const key of ["at", "colouring", "lossLog", "selected", "picked", "scalars", "pins"]) assert.deepEqual(back[key], state[key]);
});

test("the plain page has a plain address, and everything closed is told from the usual", () => {
  const usual = new Set(["blocks"]);
  const plain = { ...stateOf(""), open: usual };
  assert.equal(queryOf(plain, usual), "");
  assert.deepEqual(stateOf(queryOf({ ...plain, open: new Set() }, usual)).opened, ["-"]);
  assert.deepEqual(stateOf("?from=9&to=3").view, { from: null, to: null, last: null });
});

test("a rule concerns a run by its globs", () => {
  const run = { id: "r1", project: "digits" };
  assert.ok(concerns({ project: "*", run: "r1" }, run));
  assert.ok(concerns({ project: "dig*", run: "*" }, run));
  assert.ok(!concerns({ project: "digits.", run: "*" }, run));
  assert.ok(!concerns({ project: "*", run: "r2" }, run));
});

test("nested settings are laid flat in their order", () => {
  assert.deepEqual(flatten({ lr: 0.1, data: { batch: 8, sizes: [1, 2] }, none: null }), [["lr", "0.1"], ["data.batch", "8"], ["data.sizes", "1 2"], ["none", "none"]]);
});

test("nothing waits of a run that has said how it ended", () => {
  const run = { cost: { share_of_step: 0.01, queue: 2, spooled: 0 }, lost_frames: 3 };
  const names = (state) => costFacts({ ...run, state }).map(([name]) => name);
  assert.deepEqual(names("running"), ["share of step time", "waiting to be sent", "kept on disk", "lost on the way"]);
  assert.deepEqual(names("lost"), names("running"));
  assert.deepEqual(names("failed"), ["share of step time", "lost on the way"]);
  assert.deepEqual(costFacts({ cost: null, state: "finished", lost_frames: 0 }), []);
});

test("the back-test in words", () => {
  assert.match(backtestSentence({ fired: [], count: 0 }), /would not have fired/i);
  const text = backtestSentence({ fired: [{ step: 120 }, { step: 1020 }], count: 2 }).replaceAll("\u00a0", " ");
  assert.equal(text, "Would have fired 2 times in this run (steps 120, 1,020).");
});

test("what clipping would have done, in words and on the slider", async () => {
  const { limitAt, notchOf, whatIfText } = await import("../../static/js/ui/run_whatif.js");
  assert.equal(whatIfText({ share: 0.032, looked_at: 1500 }).replaceAll("\u00a0", " "), "Would have clipped 3.2 % of 1,500 steps in view");
  assert.match(whatIfText({ share: 1e-5, looked_at: 20000 }), /less than 0\.1/);
  for (const limit of [0.3, 1, 2.5, 15]) assert.ok(Math.abs(Math.log2(limitAt(notchOf(limit, 1), 1) / limit)) < 0.03);
});

test("batch ids are text to copy, which says how many are left out", () => {
  assert.equal(textOf([{ rank: 0, ids: [3, "a.jpg"], count: 2 }]), "3, a.jpg");
  assert.equal(textOf([{ rank: 0, ids: [3], count: 41 }]), "3, and 40 more");
  assert.equal(textOf([]), "");
});

test("batch ids of several ranks are told rank by rank, each once however many incidents told them", () => {
  const ranks = [{ rank: 10, ids: [7], count: 1 }, { rank: 2, ids: [5, 6], count: 3 }, { rank: 2, ids: [5, 6], count: 3 }];
  assert.equal(textOf(ranks), "rank 2: 5, 6, and 1 more; rank 10: 7");
});

test("a setting is private by its own name or that of one around it", () => {
  assert.ok(isPrivate("data.path", ["data"]) && isPrivate("data.path", ["lr", "data.path"]));
  assert.ok(!isPrivate("database", ["data"]) && !isPrivate("lr", []));
  assert.ok(isPrivate("lr", null));
});
