// The runs list's pure parts: what it says, in which order, and its small curves.

import assert from "node:assert/strict";
import test from "node:test";

import { createQueue } from "../../static/js/ui/queue.js";
import { formatBytes } from "../../static/js/core/format.js";
import { arrange, databaseText, durationOf, parseTags, standingOf, startedText, storedText } from "../../static/js/ui/runs_text.js";
import { pointsOf, sparkPath } from "../../static/js/ui/sparkline.js";

const NOW = 1_700_000_000;
const run = (patch) => ({ id: "a", project: "p", name: "n", state: "running", created_at: NOW - 100, last_time: NOW - 1, last_seen: NOW, last_step: 9, finished_at: null, reason: "", error: null, summary: {}, ...patch });
const spaced = (text) => text.replaceAll("\u00a0", " ");

test("each state of a run has its sentence", () => {
  const say = (patch) => spaced(standingOf(run(patch), NOW).text);
  assert.equal(say({}), "No open alert.");
  assert.equal(say({ last_step: -1 }), "No step yet.");
  assert.equal(say({ last_time: NOW - 540 }), "Last step 9 min ago, still alive.");
  assert.equal(say({ state: "finished" }), "");
  assert.equal(say({ state: "failed", error: { type: "ValueError" } }), "Failed with ValueError.");
  assert.equal(say({ state: "failed" }), "Failed.");
  assert.equal(say({ state: "killed", reason: "SIGKILL" }), "Killed: SIGKILL.");
  assert.equal(say({ state: "lost", last_seen: NOW - 300 }), "No sign of life for 5 min: killed, out of memory, or cut off.");
});

test("the health engine speaks first, then alerts; what is over has no colour", () => {
  const alerts = [{ rule_name: "Too high", opened_step: 12047, severity: "critical" }, { rule_name: "NaN", opened_step: 12050, severity: "warning" }];
  const healthy = { state: "healthy", sentence: "Healthy for 2 min." };
  const ill = { state: "attention", sentence: "Exploding since step 12,040." };
  const say = (patch, known) => {
    const { text, tone } = standingOf(run(patch), NOW, known);
    return [spaced(text), tone];
  };
  assert.deepEqual(say({}, { health: healthy }), ["Healthy for 2 min.", ""]);
  assert.deepEqual(say({}, { health: healthy, alerts }), ["Too high since step 12,047, and 1 more alert.", "critical"]);
  assert.deepEqual(say({}, { health: ill }), ["Exploding since step 12,040.", "warning"]);
  assert.deepEqual(say({}, { health: ill, alerts }), ["Exploding since step 12,040.", "critical"]);
  assert.deepEqual(say({ state: "killed" }, { health: ill, alerts }), ["Killed by a signal. Exploding since step 12,040.", ""]);
  assert.deepEqual(say({ state: "finished" }, { health: healthy }), ["", ""]);
});

test("a run's duration ends with the run", () => {
  assert.equal(durationOf(run({}), NOW), 100);
  assert.equal(durationOf(run({ state: "finished", finished_at: NOW - 40 }), NOW), 60);
  assert.equal(durationOf(run({ state: "lost", last_time: NOW - 70 }), NOW), 30);
});

test("a start is told as briefly as it can be without doubt", () => {
  const noon = new Date(2024, 5, 15, 12, 0).getTime() / 1000;
  assert.equal(startedText(noon - 3600, noon), "11:00");
  assert.equal(startedText(noon - 86_400, noon), "yesterday 12:00");
  assert.equal(startedText(noon - 3 * 86_400, noon), "12 Jun");
  assert.equal(startedText(noon - 400 * 86_400, noon), "12 May 2023");
});

test("runs are sorted, then grouped by project in the order of their first run", () => {
  const runs = [run({ id: "1", project: "b", created_at: 1, name: "z" }), run({ id: "2", project: "a", created_at: 3, name: "y" }), run({ id: "3", project: "b", created_at: 2, name: "x" })];
  const shape = (options) => arrange(runs, options).map(({ project, runs: members }) => [project, members.map(({ id }) => id).join("")]);
  assert.deepEqual(shape({}), [["a", "2"], ["b", "31"]]);
  assert.deepEqual(shape({ sort: "name", grouped: false }), [[null, "321"]]);
  assert.deepEqual(arrange([], { grouped: false }), []);
});

test("sorting by norm takes NaN for nothing, never for a crash", () => {
  const runs = [run({ id: "1", summary: { global_grad_norm: "NaN" } }), run({ id: "2", summary: { global_grad_norm: 5 } }), run({ id: "3" })];
  assert.deepEqual(arrange(runs, { sort: "norm", grouped: false })[0].runs.map(({ id }) => id), ["2", "1", "3"]);
});

test("tags are trimmed and told once", () => {
  assert.deepEqual(parseTags(" paper, baseline,,paper "), ["paper", "baseline"]);
});

test("a curve leaves gaps where there is no number, and marks NaN", () => {
  const points = [{ value: 1, bad: false }, { value: NaN, bad: true }, { value: 10, bad: false }, { value: 100, bad: false }];
  const { d, dot, bad } = sparkPath(points, { width: 100, height: 20, log: true });
  assert.equal(d.match(/M/g).length, 2);
  assert.equal(bad.length, 1);
  assert.ok(Math.abs(bad[0] - (2 + 96 / 3)) < 1e-9);
  assert.ok(dot[1] < 10, "the largest value stands at the top");
});

test("a flat, an empty and a one-point curve are drawable", () => {
  for (const values of [[], [3], [3, 3, 3], [0, 0]]) {
    const { d } = sparkPath(values.map((value) => ({ value, bad: false })), { width: 100, height: 20 });
    assert.doesNotMatch(d, /NaN|Infinity/);
  }
  assert.equal(sparkPath([{ value: 0, bad: false }], { width: 10, height: 10, log: true }).d, "", "zero has no place on a log scale");
});

test("absent buckets are left out, non-finite ones kept as bad", () => {
  const view = { n: 3, flags: [1, 0, 3], last: [1, NaN, NaN], high: [2, NaN, 4] };
  assert.deepEqual(pointsOf(view, "high"), [{ value: 2, bad: false }, { value: 4, bad: true }]);
});

test("the queue runs so many jobs at a time and goes on after a failure", async () => {
  const queue = createQueue(2);
  let busy = 0;
  let most = 0;
  const job = (fail) => async () => {
    busy += 1;
    most = Math.max(most, busy);
    await new Promise((resolve) => setImmediate(resolve));
    busy -= 1;
    if (fail) throw new Error("no");
    return "yes";
  };
  const results = await Promise.allSettled([false, true, false, false].map((fail) => queue.run(job(fail))));
  assert.equal(most, 2);
  assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled", "fulfilled"]);
});

test("what runs take on the disk is told where it is known", () => {
  assert.equal(storedText([{ bytes: 0 }, {}]), "");
  assert.equal(storedText([{ bytes: 1.5e6 }, { bytes: 2.5e6 }, {}]), formatBytes(4e6));
  assert.equal(databaseText(null), "");
  assert.equal(databaseText({ bytes: 4e6, max_bytes: 0 }), `All runs take ${formatBytes(4e6)} on the disk.`);
  assert.equal(databaseText({ bytes: 4e6, max_bytes: 1e10 }), `All runs take ${formatBytes(4e6)} of at most ${formatBytes(1e10)} on the disk.`);
});
