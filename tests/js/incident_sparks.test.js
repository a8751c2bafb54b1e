import assert from "node:assert/strict";
import { test } from "node:test";

import { dueFor, markAt, rowsOf } from "../../static/js/ui/incident_sparks.js";

const INCIDENT = { first_step: 600, origin: { tensor: "blocks.3.mlp.fc2.weight" } };
const TENSORS = [{ name: "embed.weight", index: 0 }, { name: "blocks.3.mlp.fc2.weight", index: 7 }];

test("three curves around the first step: the whole norm, the tensor it began in, the loss", () => {
  const rows = rowsOf(INCIDENT, { tensors: TENSORS, run: { summary: { global_grad_norm: 1, loss: 2 } } });
  assert.deepEqual(rows.map(({ label }) => label), ["Global norm", "mlp.fc2.weight", "Loss"]);
  assert.deepEqual(rows[1].query, { statistic: "grad_norm", scope: "tensor", rows: [7], from: 400, to: 651, points: 140 });
});

test("what a run doesn't have gets no curve, and a run has no steps before its first", () => {
  const early = { first_step: 20, origin: { tensor: "" } };
  const rows = rowsOf(early, { tensors: TENSORS, run: { summary: { global_grad_norm: 1 } } });
  assert.deepEqual(rows.map(({ label, query }) => [label, query.from]), [["Global norm", 0]]);
});

test("the mark stands where the curve has the step, with absent steps left out", () => {
  const view = { n: 11, firstBucket: 400, width: 1, flags: new Array(11).fill(1) };
  assert.equal(markAt(view, 405), 0.5);
  view.flags.fill(0, 0, 4);
  assert.equal(markAt(view, 407), 0.5);
  assert.equal(markAt({ ...view, n: 0 }, 407), 1);
});

test("the curves are asked for when the incident's steps are there, the run has ended, or one more is known", () => {
  const state = (last_step, more = {}) => ({ tensors: TENSORS, run: { last_step, state: "running", summary: { global_grad_norm: 1, loss: 2 }, ...more } });
  assert.equal(dueFor(INCIDENT, state(599), { upTo: -1, curves: 0 }), false);
  assert.equal(dueFor(INCIDENT, { ...state(600), tensors: [] }, { upTo: -1, curves: 0 }), false);
  assert.equal(dueFor(INCIDENT, state(600), { upTo: -1, curves: 0 }), true);
  const drawn = { upTo: 600, curves: 3 };
  assert.equal(dueFor(INCIDENT, state(640), drawn), false);
  assert.equal(dueFor(INCIDENT, state(640, { state: "failed" }), drawn), true);
  assert.equal(dueFor(INCIDENT, state(651), drawn), true);
  assert.equal(dueFor(INCIDENT, state(640), { upTo: 600, curves: 2 }), true);
  assert.equal(dueFor(INCIDENT, state(900), { upTo: 651, curves: 3 }), false);
  assert.equal(dueFor(INCIDENT, state(640, { state: "failed" }), { upTo: 640, curves: 3 }), false);
});
