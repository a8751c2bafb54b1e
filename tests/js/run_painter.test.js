import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { createPainter } from "../../static/js/ui/run_painter.js";

/** A painter over one chart and one quick panel, frame by frame; `drawn` lists what was drawn. */
function started({ cost = 20 } = {}) {
  const drawn = [];
  const frames = [];
  const clock = { now: 1000 };
  const state = { busy: false };
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(performance, "now", () => clock.now);
  Object.assign(globalThis, { document: { visibilityState: "visible" }, requestAnimationFrame: (paint) => frames.push(paint) });
  const painter = createPainter(() => ({}), {
    quick: [{ draw: () => drawn.push("quick") }],
    charts: [{ draw: () => drawn.push("chart"), cost }],
    after: () => {},
    busy: () => state.busy,
  });
  /** Lets time pass, and then one frame. */
  function frame(ms = 16) {
    clock.now += ms;
    mock.timers.tick(ms);
    for (const paint of frames.splice(0)) paint(clock.now);
  }
  return { painter, drawn, frame, state, end: () => (mock.timers.reset(), mock.restoreAll()) };
}

test("a chart waits for the numbers that a person asked for, and is drawn once", () => {
  const { painter, drawn, frame, state, end } = started();
  state.busy = true;
  painter.now();
  frame();
  frame();
  assert.deepEqual(drawn, ["quick"]);
  state.busy = false;
  painter.now();
  frame();
  assert.deepEqual(drawn, ["quick", "quick", "chart"]);
  assert.ok(painter.settled());
  end();
});

test("a chart that Plotly hasn't drawn yet doesn't wait: its first drawing asks for its numbers", () => {
  const { painter, drawn, frame, state, end } = started({ cost: 0 });
  state.busy = true;
  painter.now();
  frame();
  assert.deepEqual(drawn, ["quick", "chart"]);
  end();
});

test("it doesn't wait long for an answer that takes its time", () => {
  const { painter, drawn, frame, state, end } = started();
  state.busy = true;
  painter.now();
  frame();
  frame(200);
  assert.deepEqual(drawn, ["quick", "chart"]);
  end();
});

test("numbers that come by themselves are drawn at most ten times a second", () => {
  const { painter, drawn, frame, end } = started();
  for (let i = 0; i < 30; i += 1) {
    painter.numbers();
    frame(20);
  }
  assert.ok(drawn.filter((name) => name === "quick").length <= 7);
  end();
});
