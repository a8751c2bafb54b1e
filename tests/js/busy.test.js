import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { mount } from "../../static/js/ui/busy.js";

test("the bar shows for long questions only, and goes with the answer", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const element = { hidden: true };
  const marks = new Map();
  const region = { toggleAttribute: (name, on) => marks.set(name, on), setAttribute: (name, value) => marks.set(name, value) };
  const bar = mount(element, region);
  bar.set(true);
  mock.timers.tick(200);
  bar.set(false);
  mock.timers.tick(1000);
  assert.equal(element.hidden, true, "a quick answer never shows it");
  bar.set(true);
  bar.set(true);
  mock.timers.tick(300);
  assert.equal(element.hidden, false);
  assert.equal(marks.get("data-busy"), true);
  assert.equal(marks.get("aria-busy"), "true");
  bar.set(false);
  assert.equal(element.hidden, true);
  assert.equal(marks.get("data-busy"), false);
  mock.timers.reset();
});
