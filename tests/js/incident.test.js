import assert from "node:assert/strict";
import { test } from "node:test";

import { beginsOver, bestRemedy, byUrgency, eventsOf, gravestPast, leading, neverNormal, pathOf, saidText, spanText, withIncident } from "../../static/js/core/incident.js";

const incident = (id, fields = {}) => ({
  id,
  kind: "exploding",
  severity: "critical",
  first_step: 10,
  opened_step: 12,
  closed_step: null,
  merged_into: "",
  causes: [],
  origin: { step: 10, tensor: "", followers: [], followed: 0 },
  ...fields,
});

test("open incidents come first, the gravest and earliest of them on top, past ones newest first", () => {
  const list = [
    incident("past-old", { closed_step: 20, opened_step: 5 }),
    incident("warning", { severity: "warning" }),
    incident("late", { first_step: 40 }),
    incident("past-new", { closed_step: 90, opened_step: 80, severity: "info" }),
    incident("early", { first_step: 3 }),
  ];
  assert.deepEqual(byUrgency(list).map(({ id }) => id), ["early", "late", "warning", "past-new", "past-old"]);
});

test("the page speaks of nothing that is over, or only worth knowing", () => {
  assert.equal(leading([]), null);
  assert.equal(leading([incident("a", { severity: "info" }), incident("b", { closed_step: 9 })]), null);
  assert.equal(leading([incident("a", { severity: "info" }), incident("b", { severity: "warning" })]).id, "b");
});

test("what somebody called no problem alarms nobody, and stays so while the engine goes on about it", () => {
  const dismissed = { who: "ann", time: 60 };
  const list = withIncident([incident("a", { dismissed }), incident("b", { severity: "warning" })], incident("a", { severity: "critical" }));
  assert.deepEqual(list.find(({ id }) => id === "a").dismissed, dismissed);
  assert.equal(leading(list).id, "b");
  assert.deepEqual(byUrgency(list).map(({ id }) => id), ["b", "a"]);
  assert.equal(leading(withIncident(list, incident("a", { dismissed: null }))).id, "a");
  assert.equal(gravestPast([incident("a", { closed_step: 20, dismissed })]), null);
});

test("who said it is told as far as it is known", () => {
  const time = (seconds) => `at ${seconds}`;
  assert.equal(saidText(incident("a"), time), "");
  assert.equal(saidText({ dismissed: { who: "ann", time: 60 } }, time), "Said to be no problem by ann, at 60");
  assert.equal(saidText({ dismissed: { time: 60 } }, time), "Said to be no problem, at 60");
  assert.equal(saidText({ dismissed: { who: "server", time: 60 } }, time), "Said to be no problem with the server's own token, at 60");
});

test("a newer snapshot replaces the older one, and one that was merged goes", () => {
  const list = [incident("a"), incident("b")];
  assert.equal(withIncident(list, incident("a", { severity: "warning" })).find(({ id }) => id === "a").severity, "warning");
  assert.deepEqual(withIncident(list, incident("a", { merged_into: "b" })).map(({ id }) => id), ["b"]);
});

test("the path begins where it began and never names the first tensor twice", () => {
  const origin = { step: 10, tensor: "x", followers: [["x", 10], ["y", 11], ["z", 12]], followed: 2 };
  assert.deepEqual(pathOf(incident("a", { origin })), [
    { tensor: "x", step: 10, order: 1 },
    { tensor: "y", step: 11, order: 2 },
    { tensor: "z", step: 12, order: 3 },
  ]);
  assert.deepEqual(pathOf(incident("a")), []);
});

test("a span says whether it goes on", () => {
  assert.equal(spanText(incident("a", { first_step: 12047 })), "since step 12,047");
  assert.equal(spanText(incident("a", { first_step: 5, closed_step: 9 })), "steps 5 to 9");
});

test("the remedy shown is the first with a line to paste", () => {
  const plain = { key: "a", text: "look", code: "" };
  const coded = { key: "b", text: "clip", code: "clip()" };
  assert.equal(bestRemedy(incident("a", { causes: [{ remedies: [plain] }, { remedies: [coded] }] })), coded);
  assert.equal(bestRemedy(incident("a", { causes: [{ remedies: [plain] }] })), plain);
  assert.equal(bestRemedy(incident("a")), null);
});

test("incidents and alerts are visited in the order of their steps", () => {
  const alert = { id: "a", opened_step: 40 };
  const events = eventsOf([incident("late", { first_step: 90 }), incident("early", { first_step: 3 })], [alert]);
  assert.deepEqual(events.map(({ id }) => id), ["early", "a", "late"]);
  assert.equal(events[1].alert, alert);
});

test("a run that went wrong before anything was normal is told from one that was normal first, and from one with a sick layer", () => {
  const ill = { kind: "exploding", severity: "critical", first_step: 3, closed_step: null, dismissed: null };
  const judged = (incidents) => ({ incidents, normal: { spreading: ["exploding"], least_steps: 16 } });
  assert.equal(neverNormal(judged([ill]), 400, 0), 3);
  assert.equal(neverNormal(judged([{ ...ill, first_step: 400 }]), 400, 0), null);
  assert.equal(neverNormal(judged([{ ...ill, first_step: 400 }]), 400, 390), 400, "a resumed run begins later");
  assert.equal(neverNormal(judged([{ ...ill, closed_step: 90 }]), 400, 0), null, "it recovered");
  for (const other of [{ kind: "dead" }, { severity: "info" }, { dismissed: { time: 1 } }]) assert.equal(neverNormal(judged([{ ...ill, ...other }]), 400, 0), null);
  assert.deepEqual(beginsOver(judged([ill, { ...ill, first_step: 500 }]), 400), [3]);
});
