import assert from "node:assert/strict";
import { test } from "node:test";

import { markText, ranksMissing, sentenceOf } from "../../static/js/core/sentence.js";

const RUN = {
  state: "running", created_at: 0, last_time: 1000, last_seen: 1000, finished_at: null, last_step: 12047, steps: 12048,
  steps_per_s: 10, reason: "", error: null, summary: { global_grad_norm: 0.812, loss: 0.42 },
};
const spaced = (said) => said.text.replaceAll("\u00a0", " ");

test("a running run says norm, loss and step", () => {
  const said = sentenceOf(RUN, [], 1000.4);
  assert.deepEqual([said.state, said.tone, spaced(said)], ["Running", "ok", "Norm 0.812, loss 0.42 at step 12,047."]);
});

test("a long step is told, a usual one isn't", () => {
  assert.match(spaced(sentenceOf(RUN, [], 1540)), /last step came 9 min ago/);
  assert.doesNotMatch(spaced(sentenceOf({ ...RUN, steps_per_s: 0.01 }, [], 1540)), /ago/);
});

test("a norm that isn't finite is critical without any rule", () => {
  const said = sentenceOf({ ...RUN, summary: { global_grad_norm: "NaN" } }, [], 1000);
  assert.equal(said.tone, "critical");
  assert.match(spaced(said), /NaN at step 12,047/);
});

test("every state has its own word", () => {
  const states = ["running", "finished", "failed", "killed", "preempted", "lost"];
  const words = states.map((state) => sentenceOf({ ...RUN, state }, [], 1100).state);
  assert.equal(new Set(words).size, states.length);
  for (const state of states) {
    assert.ok(sentenceOf({ ...RUN, state, last_step: -1, summary: {} }, [], 1100).text.length > 10);
    assert.doesNotMatch(sentenceOf({ ...RUN, state }, [], 1100).text, /undefined|null|NaN/);
  }
});

test("the gravest open alert speaks first; cleared, acknowledged and informative ones don't", () => {
  const alert = (patch) => ({ severity: "warning", cleared_step: null, acknowledged: false, opened_step: 5, statistic: "loss", condition: "above", threshold: 5, ...patch });
  const quiet = [alert({ cleared_step: 9 }), alert({ acknowledged: true }), alert({ severity: "info" })];
  assert.equal(sentenceOf(RUN, quiet, 1000).state, "Running");
  const said = sentenceOf(RUN, [...quiet, alert({}), alert({ severity: "critical", sentence: "The loss is NaN.", id: "x" })], 1000);
  assert.equal(said.tone, "critical");
  assert.equal(said.alert.id, "x");
  assert.match(said.text, /^The loss is NaN\./);
});

test("without a connection nothing old is repeated as if it were now", () => {
  const said = sentenceOf(RUN, [], 1012, { lost: true });
  assert.equal(said.tone, "");
  assert.match(spaced(said), /connection to the server is lost\. The last point is 12 s old/);
});

test("a distributed run says when ranks are missing", () => {
  assert.equal(ranksMissing(RUN), "");
  assert.equal(ranksMissing({ ...RUN, summary: { ranks_present: 8, ranks: 8 } }), "");
  assert.equal(ranksMissing({ ...RUN, summary: { ranks_present: 7, ranks: 8 } }), "7 of 8 ranks");
});

test("marks about ranks are words, and what is only for the server is left out", () => {
  assert.equal(markText({ kind: "ranks", data: { present: 7, of: 8 } }), "7 of 8 ranks");
  assert.equal(markText({ kind: "holds", data: { rank: 1 } }), "");
  assert.equal(markText({ kind: "checkpoint" }), "checkpoint");
});

test("a run that is over tells of the gravest of what went wrong on the way", () => {
  const past = (id, severity, first_step) => ({ id, severity, kind: "spike", first_step, opened_step: first_step, closed_step: first_step + 5, sentence: `Spike ${id}.`, origin: {}, causes: [] });
  const incidents = [past("a", "warning", 10), past("c", "critical", 90), past("b", "critical", 50), past("i", "info", 1)];
  const said = sentenceOf({ ...RUN, state: "finished", last_step: 100 }, [], 1100, { incidents });
  assert.match(said.text, /It went wrong on the way: Spike b\.$/);
  assert.equal(said.incident.id, "b");
  assert.equal(said.tone, "");
  assert.equal(sentenceOf({ ...RUN, state: "running" }, [], 1100, { incidents }).incident, null);
});
