// Questions about what goes on moving.

import assert from "node:assert/strict";
import test from "node:test";

import { createPace } from "../../static/js/core/pace.js";

/** A clock whose timers go off when it is moved on. */
function clock() {
  let time = 0;
  const timers = new Set();
  return {
    now: () => time,
    after(work, wait) {
      const timer = { work, at: time + wait };
      timers.add(timer);
      return timer;
    },
    cancel: (timer) => timers.delete(timer),
    go(ms) {
      for (const end = time + ms; time < end; ) {
        time += 1;
        for (const timer of [...timers].filter(({ at }) => at <= time)) {
          timers.delete(timer);
          timer.work();
        }
      }
    },
  };
}

function asking() {
  const seams = clock();
  const asked = [];
  return { seams, asked, pace: createPace((key) => asked.push(key), seams) };
}

test("the first question is asked at once, however short ago the page was opened", () => {
  const { seams, asked, pace } = asking();
  pace.want(599, 0, 1500);
  seams.go(1);
  assert.deepEqual(asked, [599]);
});

test("what moves on is asked for now and then, and in the end for where it stopped", () => {
  const { seams, asked, pace } = asking();
  for (let step = 0; step < 40; step += 1) {
    pace.want(step, 0, 1500);
    seams.go(100);
  }
  seams.go(5000);
  assert.deepEqual(asked, [0, 15, 30, 39]);
});

test("a cursor is asked for when it rests, though the page is drawn meanwhile", () => {
  const { seams, asked, pace } = asking();
  for (const step of [5, 6, 7, 7, 7, 7]) {
    pace.want(step, 90);
    seams.go(40);
  }
  assert.deepEqual(asked, [7]);
  seams.go(500);
  assert.deepEqual(asked, [7]);
});

test("nothing is asked after the end", () => {
  const { seams, asked, pace } = asking();
  pace.want(1, 90);
  pace.stop();
  seams.go(500);
  assert.deepEqual(asked, []);
});

test("what got no answer is asked again, each time after a longer while, until something else is wanted", () => {
  const seams = clock();
  const asked = [];
  let answers = false;
  const pace = createPace((key) => (asked.push(`${key} ${seams.now()}`), answers || pace.again()), seams);
  pace.want("a", 0);
  seams.go(4000);
  assert.deepEqual(asked, ["a 1", "a 501", "a 1501", "a 3501"]);
  pace.want("b", 0);
  seams.go(600);
  assert.deepEqual(asked.slice(4), ["b 4001", "b 4501"]);
  answers = true;
  seams.go(60_000);
  assert.deepEqual(asked.slice(6), ["b 5501"]);
});

test("a question that is due already isn't asked twice, and after the end none is", () => {
  const { seams, asked, pace } = asking();
  pace.want(1, 90);
  pace.again();
  seams.go(700);
  assert.deepEqual(asked, [1]);
  pace.again();
  pace.stop();
  seams.go(700);
  assert.deepEqual(asked, [1]);
});
