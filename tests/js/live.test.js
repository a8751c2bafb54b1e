import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { createLive, liveAddress } from "../../static/js/io/live.js";

/** Stands in for the browser's WebSocket; the test plays the server. */
function fakeSockets() {
  const opened = [];
  class FakeSocket {
    constructor(address) {
      this.address = address;
      this.readyState = 0;
      this.sent = [];
      opened.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
    open() {
      this.readyState = 1;
      this.onopen();
    }
    say(message) {
      this.onmessage({ data: JSON.stringify(message) });
    }
    drop(code = 1006, reason = "") {
      this.readyState = 3;
      this.onclose({ code, reason });
    }
  }
  return { opened, FakeSocket };
}

function started(boot = { base: "", page: "p" }) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const { opened, FakeSocket } = fakeSockets();
  const clock = { now: 1000 };
  const live = createLive(boot, { WebSocket: FakeSocket, address: "ws://x/ws/live", now: () => clock.now, random: () => 0.5 });
  return { live, opened, clock, end: () => (live.close(), mock.timers.reset()) };
}

const QUERY = { run: "r1", statistic: "grad_norm", scope: "group", rows: null, from: 0, to: null, points: 500, segment: null };

test("it says hello first, and asks for everything without waiting for the welcome", () => {
  const { live, opened, end } = started();
  live.follow("r1");
  live.subscribe(QUERY, () => {});
  opened[0].open();
  const asked = [{ type: "hello", page: "p" }, { type: "follow", run: "r1" }, { type: "subscribe", id: 1, ...QUERY }];
  assert.deepEqual(opened[0].sent, asked);
  assert.equal(live.connection().state, "connecting");
  opened[0].say({ type: "welcome", revision: 40, now: 1002.5 });
  assert.deepEqual(opened[0].sent, asked, "nothing is asked twice");
  assert.equal(live.connection().state, "live");
  assert.equal(live.connection().clock, 2.5);
  end();
});

test("after a lost connection it comes back by itself, with what it knows and what it wants", () => {
  const { live, opened, end } = started({ base: "", share: "tok" });
  const states = [];
  live.on("connection", ({ state }) => states.push(state));
  live.subscribe(QUERY, () => {});
  opened[0].open();
  opened[0].say({ type: "welcome", revision: 40, now: 1000 });
  opened[0].say({ type: "event", revision: 44, run: "r1", kind: "alert", data: {} });
  opened[0].drop();
  assert.equal(live.connection().state, "lost");
  mock.timers.tick(250);
  assert.equal(opened.length, 2);
  opened[1].drop();
  mock.timers.tick(250);
  assert.equal(opened.length, 2, "the second wait is longer");
  mock.timers.tick(250);
  opened[2].open();
  assert.deepEqual(opened[2].sent[0], { type: "hello", share: "tok", since: 44 });
  opened[2].say({ type: "welcome", revision: 44, now: 1000 });
  assert.equal(opened[2].sent[1].type, "subscribe");
  assert.deepEqual(states.filter((state, i) => state !== states[i - 1]), ["live", "lost", "live"]);
  end();
});

test("a silent connection is taken for dead although it never closed", () => {
  const { live, opened, clock, end } = started();
  opened[0].open();
  opened[0].say({ type: "welcome", revision: 1, now: 1000 });
  clock.now += 10;
  mock.timers.tick(10_000);
  assert.deepEqual(opened[0].sent.at(-1), { type: "ping" });
  clock.now += 20;
  mock.timers.tick(10_000);
  assert.equal(opened.length, 2);
  assert.equal(live.connection().state, "lost");
  end();
});

test("a withdrawn link and an ended session are not asked again", () => {
  for (const withdraw of [(socket) => socket.say({ type: "revoked" }), (socket) => socket.drop(4403, "This link was revoked.")]) {
    const { live, opened, end } = started();
    opened[0].open();
    opened[0].say({ type: "welcome", revision: 1, now: 1000 });
    withdraw(opened[0]);
    mock.timers.tick(60_000);
    assert.equal(opened.length, 1);
    assert.ok(["revoked", "refused"].includes(live.connection().state));
    end();
  }
});

test("pausing stops numbers, resuming asks for fresh snapshots", () => {
  const { live, opened, end } = started();
  live.subscribe(QUERY, () => {});
  opened[0].open();
  opened[0].say({ type: "welcome", revision: 1, now: 1000 });
  live.pause();
  assert.deepEqual(opened[0].sent.at(-1), { type: "unsubscribe", id: 1 });
  live.resume();
  assert.equal(opened[0].sent.at(-1).type, "subscribe");
  end();
});

test("a refused subscription hears the server's sentence", () => {
  const { live, opened, end } = started();
  let sentence = "";
  live.subscribe(QUERY, () => {}, (message) => (sentence = message));
  opened[0].open();
  opened[0].say({ type: "welcome", revision: 1, now: 1000 });
  opened[0].say({ type: "error", id: 1, message: "There is no statistic 'x' in this run." });
  assert.match(sentence, /no statistic/);
  end();
});

test("the socket's address follows the page's", () => {
  assert.equal(liveAddress("/p", { protocol: "https:", host: "a.org" }), "wss://a.org/p/ws/live");
  assert.equal(liveAddress("", { protocol: "http:", host: "127.0.0.1:8642" }), "ws://127.0.0.1:8642/ws/live");
});
