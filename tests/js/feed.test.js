import assert from "node:assert/strict";
import { test } from "node:test";

import { createFeed } from "../../static/js/io/feed.js";
import { viewOf } from "./helpers.js";

/** A live socket and an API that the test answers by hand. */
function server() {
  const asked = [];
  const requests = [];
  const live = {
    subscribe(query, handler, onError) {
      const subscription = { query, handler, onError, open: true, close: () => (subscription.open = false) };
      asked.push(subscription);
      return subscription;
    },
  };
  const api = {
    series: (run, query, { signal }) => new Promise((resolve, reject) => requests.push({ run, query, signal, resolve, reject })),
  };
  return { asked, requests, store: { get: () => ({ live, api }) } };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));
const GROUPS = { statistic: "grad_norm", scope: "group" };

test("a live stretch: snapshot, then deltas", () => {
  const { asked, store } = server();
  let told = 0;
  const feed = createFeed(store, "r", GROUPS, () => (told += 1));
  feed.show({ from: 0, points: 100 });
  assert.deepEqual(asked[0].query, { run: "r", ...GROUPS, rows: null, from: 0, to: null, points: 100, segment: null });
  asked[0].handler(viewOf([[1, 2]]));
  asked[0].handler(viewOf([[3]], { kind: 2, firstBucket: 2 }));
  assert.equal(feed.window.n, 3);
  assert.equal(feed.window.lastStep, 2);
  assert.equal(told, 2);
});

test("the same question isn't asked twice", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 100 });
  feed.show({ from: 0, points: 100 });
  assert.equal(asked.length, 1);
});

test("the old window stays until the new one has come, and late answers of the old are not taken for it", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", { statistic: "grad_norm", scope: "tensor", rows: [1, 2] }, () => {});
  feed.show({ from: 0, points: 100 });
  asked[0].handler(viewOf([[1], [2]]));
  feed.select([7, 8]);
  assert.equal(feed.rowOf(2), 1);
  asked[0].handler(viewOf([[9], [9]], { kind: 2, firstBucket: 1 }));
  assert.equal(feed.window.n, 2, "the old one goes on meanwhile");
  asked[1].handler(viewOf([[70], [80]]));
  assert.equal(feed.rowOf(8), 1);
  assert.equal(feed.rowOf(2), -1);
  assert.equal(asked[0].open, false);
  asked[0].handler(viewOf([[1], [2]]));
  assert.equal(feed.window.last[feed.window.index(0, 0)], 70);
});

test("grown to twice what can be drawn, it asks for wider buckets", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 10 });
  asked[0].handler(viewOf([[1]]));
  asked[0].handler(viewOf([Array(20).fill(1)], { kind: 2, firstBucket: 1 }));
  assert.equal(asked.length, 2);
});

test("a sliding stretch lets go of what slid out", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 90, points: 100, slide: 10 });
  asked[0].handler(viewOf([Array(10).fill(1)], { firstBucket: 90 }));
  asked[0].handler(viewOf([[1, 1, 1]], { kind: 2, firstBucket: 100 }));
  assert.equal(feed.window.firstBucket, 93);
  assert.equal(feed.window.n, 10);
});

test("a delta that doesn't fit asks again instead of mixing widths", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 100 });
  asked[0].handler(viewOf([[1, 2]]));
  asked[0].handler(viewOf([[5]], { kind: 2, firstBucket: 0, width: 4 }));
  assert.equal(asked.length, 2);
  assert.equal(feed.window.width, 1);
});

test("a standing stretch comes by REST and ends the live one; an answer to an old question is dropped", async () => {
  const { asked, requests, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 100 });
  asked[0].handler(viewOf([[1]]));
  feed.show({ from: 10, to: 20, points: 100 });
  feed.show({ from: 30, to: 40, points: 100 });
  assert.equal(requests[0].signal.aborted, true);
  requests[0].resolve(viewOf([[10]], { firstBucket: 10 }));
  requests[1].resolve(viewOf([[30]], { firstBucket: 30 }));
  await settle();
  assert.equal(feed.window.firstBucket, 30);
  assert.equal(asked[0].open, false);
});

test("a refusal is kept as the server's sentence", async () => {
  const { asked, requests, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 100 });
  assert.equal(feed.busy, true);
  asked[0].onError("There is no statistic 'x'.");
  assert.match(feed.error, /no statistic/);
  assert.equal(feed.busy, false, "nothing more is awaited");
  assert.equal(asked[0].open, false);
  feed.show({ from: 1, to: 2, points: 100 });
  requests[0].reject(new Error("The server doesn't answer."));
  await settle();
  assert.match(feed.error, /doesn't answer/);
});

test("after a refusal nothing is awaited, and the same may be asked again", async () => {
  const { asked, requests, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 100 });
  assert.equal(feed.busy, true);
  asked[0].onError("The server is busy.");
  assert.equal(feed.busy, false);
  feed.retry();
  assert.equal(asked.length, 2);
  asked[1].handler(viewOf([[1]]));
  feed.retry();
  assert.equal(asked.length, 2, "it was answered");
  feed.show({ from: 1, to: 2, points: 100 });
  requests[0].reject(new Error("The server doesn't answer."));
  await settle();
  feed.show({ from: 1, to: 2, points: 100 });
  assert.equal(requests.length, 2);
  assert.equal(feed.busy, true);
});

test("no rows, no question", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", { statistic: "grad_norm", scope: "tensor", rows: [] }, () => {});
  feed.show({ from: 0, points: 100 });
  assert.equal(asked.length, 0);
  feed.select([3]);
  assert.equal(asked.length, 1);
});

test("a refusal of another stretch leaves the one that stands there going on", () => {
  const { asked, store } = server();
  const feed = createFeed(store, "r", GROUPS, () => {});
  feed.show({ from: 0, points: 100 });
  asked[0].handler(viewOf([[1, 2]]));
  feed.show({ from: 0, points: 200 });
  asked[1].onError("Too many cells.");
  assert.equal(feed.busy, false);
  asked[0].handler(viewOf([[3]], { kind: 2, firstBucket: 2 }));
  assert.equal(feed.window.n, 3);
});
