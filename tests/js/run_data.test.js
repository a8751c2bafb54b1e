// What is known of a run: answers and events may cross on their way.

import assert from "node:assert/strict";
import { test } from "node:test";

import { followRun, withMarks } from "../../static/js/ui/run_data.js";

/** A run that is followed; the test answers each question by hand. */
function followed(role = "viewer") {
  const asked = [];
  const handlers = {};
  let state = {
    boot: { base: "", role },
    run: { id: "r", state: "running", last_step: 0 },
    api: { get: (path) => new Promise((answer, refuse) => asked.push({ path, answer, refuse })) },
    live: { on: (type, handler) => (handlers[type] = handler), follow() {} },
  };
  const store = { get: () => state, set: (patch) => (state = { ...state, ...patch }) };
  followRun(store, [], { onTree() {}, onColumns() {}, onCorrected() {} });
  const questions = (path) => asked.filter((one) => one.path === path);
  const tell = (kind, data) => handlers.event({ run: "r", kind, data });
  return { store, questions, tell, stale: () => handlers.stale() };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));
const answerOf = (run) => ({ run, segments: [], statistics: [] });
const mark = (step) => ({ step, time: 1000 + step, kind: "note", data: { text: `at ${step}` } });

test("what an event told is newer than an answer that was under way", async () => {
  const { store, questions, tell, stale } = followed();
  stale();
  tell("status", { state: "finished", last_step: 9 });
  questions("/runs/r")[0].answer(answerOf({ state: "running", last_step: 8, name: "one" }));
  await settle();
  assert.deepEqual(store.get().run, { id: "r", state: "finished", last_step: 9, name: "one" });
});

test("of two answers that come in the wrong order the newer question's stands", async () => {
  const { store, questions, stale } = followed();
  stale();
  stale();
  const [first, second] = questions("/runs/r");
  second.answer(answerOf({ state: "finished" }));
  await settle();
  first.answer(answerOf({ state: "running" }));
  await settle();
  assert.equal(store.get().run.state, "finished");
});

test("rules that changed twice are those of the newer question", async () => {
  const { store, questions, tell } = followed("owner");
  tell("rule", {});
  const [first, second] = questions("/rules");
  second.answer({ rules: ["new"] });
  await settle();
  first.answer({ rules: ["old"] });
  await settle();
  assert.deepEqual(store.get().rules, ["new"]);
});

test("a mark is neither lost nor doubled, whether the answer held it or not", async () => {
  const { store, questions, tell } = followed();
  tell("mark", mark(5));
  questions("/runs/r/marks")[0].answer({ marks: [{ ...mark(3), run_id: "r", revision: 4 }] });
  await settle();
  tell("mark", mark(3));
  assert.deepEqual(store.get().marks.map(({ step }) => step), [3, 5]);
  assert.deepEqual(withMarks([mark(1)], [mark(1), mark(2)]), [mark(1), mark(2)]);
});
