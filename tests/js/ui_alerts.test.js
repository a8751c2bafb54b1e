// Alerts, rules and links: what the pages say about them.

import assert from "node:assert/strict";
import test from "node:test";

import { byUrgency, detailText, withAlert } from "../../static/js/ui/alerts.js";
import { connectionSentence, worst } from "../../static/js/ui/header_text.js";
import { codeOf } from "../../static/js/ui/login.js";
import { readNumber } from "../../static/js/ui/rulefields.js";
import { backtestSentence } from "../../static/js/core/backtest.js";
import { scopeOf } from "../../static/js/ui/ruleform.js";
import { whereText } from "../../static/js/ui/rulelist.js";
import { shareState } from "../../static/js/ui/share.js";

const spaced = (text) => text.replaceAll("\u00a0", " ");
const alert = (patch) => ({ id: "a", severity: "warning", opened_time: 1, opened_step: 5, cleared_step: null, condition: "above", statistic: "loss", threshold: 2.5, ...patch });

test("open alerts come first, the gravest of them on top", () => {
  const alerts = [
    alert({ id: "old", cleared_step: 9, opened_time: 50 }),
    alert({ id: "warning", opened_time: 9 }),
    alert({ id: "critical", severity: "critical", opened_time: 3 }),
    alert({ id: "newer", opened_time: 12 }),
    alert({ id: "older", severity: "critical", cleared_step: 8, opened_time: 2 }),
  ];
  assert.deepEqual(byUrgency(alerts).map(({ id }) => id), ["critical", "newer", "warning", "old", "older"]);
});

test("an alert says what happened, how it ended, and where it was worst", () => {
  const open = alert({ sentence: "The loss is above 2.5 since step 5 (peak 9).", worst: [], count: 1 });
  assert.equal(detailText(open), open.sentence);
  assert.equal(detailText({ ...open, cleared_step: 99, reason: "run ended" }), `${open.sentence} Cleared at step 99: run ended.`);
  assert.equal(detailText({ ...open, cleared_step: 1099, reason: "" }), `${open.sentence} Cleared at step 1,099.`);
  assert.equal(detailText({ ...open, count: 12, worst: ["a", "b", "c", "d"] }), `${open.sentence} Worst: a, b, c and 9 more.`);
  assert.equal(detailText({ ...open, count: 2, worst: ["a", "b"] }), `${open.sentence} Worst: a, b.`);
});

test("an event about an alert replaces what was known of it", () => {
  const known = [alert({ note: "mine" })];
  assert.deepEqual(withAlert(known, { id: "a", cleared_step: 7 })[0], { ...known[0], cleared_step: 7 });
  assert.equal(withAlert(known, alert({ id: "b" })).length, 2);
  assert.equal(known[0].cleared_step, null, "the old list is left alone");
});

test("the header counts open alerts and takes the worst colour", () => {
  assert.deepEqual(worst([alert({}), alert({ severity: "critical" }), alert({ severity: "critical", cleared_step: 3 })]), { open: 2, severity: "critical" });
  assert.deepEqual(worst(undefined), { open: 0, severity: "" });
});

test("a lost connection says how old the picture is", () => {
  assert.equal(spaced(connectionSentence({ state: "lost" }, 12)), "connection lost, last point 12 s ago");
  assert.equal(connectionSentence({ state: "lost" }, null), "connection lost, trying again");
  assert.equal(connectionSentence({ state: "live" }, 1), "");
});

test("the back-test line tells how often and where", () => {
  const at = (...steps) => ({ fired: steps.map((step) => ({ step })), count: steps.length });
  assert.equal(backtestSentence(at()), "Would not have fired in this run so far.");
  assert.equal(spaced(backtestSentence(at(1020))), "Would have fired 1 time in this run (step 1,020).");
  assert.equal(spaced(backtestSentence(at(120, 480, 1020))), "Would have fired 3 times in this run (steps 120, 480, 1,020).");
  const others = (runs, fired) => backtestSentence({ ...at(7), others: { runs, fired } });
  assert.equal(spaced(others(10, 0)), "Would have fired 1 time in this run (step 7), and in none of your last 10 healthy runs.");
  assert.equal(spaced(others(1, 1)), "Would have fired 1 time in this run (step 7), and in your last healthy run.");
  assert.equal(spaced(others(1, 0)), "Would have fired 1 time in this run (step 7), and not in your last healthy run.");
  assert.equal(spaced(others(0, 0)), "Would have fired 1 time in this run (step 7).");
  assert.equal(spaced(backtestSentence({ fired: [{ step: 1 }], count: 400 })), "Would have fired 400 times in this run (steps 1, …).");
});

test("a rule knows which runs it is for", () => {
  const run = { id: "r1", project: "digits" };
  assert.equal(scopeOf({ project: "*", run: "*" }, run), "all");
  assert.equal(scopeOf({ project: "digits", run: "r1" }, run), "run");
  assert.equal(scopeOf({ project: "digits", run: "*" }, run), "project");
  assert.equal(scopeOf({ project: "dig*", run: "*" }, run), "other");
});

test("numbers are read as people type them", () => {
  assert.equal(readNumber("1e-3"), 0.001);
  assert.equal(readNumber(" 1 000 "), 1000);
  assert.equal(readNumber("five"), "five", "the server says what is wrong with it");
  assert.equal(readNumber(""), "");
});

test("a rule says which runs it is for", () => {
  assert.equal(whereText({ project: "*", run: "*" }), "all runs");
  assert.equal(whereText({ project: "digits", run: "r*" }), "project digits, run r*");
});

test("a link says whether it still works", () => {
  const share = { revoked_at: null, expires_at: 100 + 86_400 };
  assert.equal(spaced(shareState(share, 100)), "works for 1 d");
  assert.equal(shareState(share, 90_000), "expired");
  assert.equal(shareState({ ...share, revoked_at: 5 }, 100), "withdrawn");
  assert.equal(shareState({ revoked_at: null, expires_at: null }, 1e12), "works until withdrawn");
});

test("the code stands behind the hash, nowhere else", () => {
  assert.equal(codeOf("#code=abc-_1"), "abc-_1");
  assert.equal(codeOf(""), "");
  assert.equal(codeOf("#step=4"), "");
});
