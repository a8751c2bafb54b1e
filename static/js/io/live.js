// The live socket: one per page. It reconnects by itself, asks again for what the page follows, and says how it stands.
//
//   const live = createLive(boot);
//   live.on("connection", ({ state, since, error }) => ...);  // "connecting" | "live" | "lost" | "revoked" | "refused"
//   live.on("event", (event) => ...);           // {revision, run, kind, data}: numbers excepted, every change
//   live.on("stale", () => refetchEverything());
//   live.follow(runId);                         // events of one run, null for all
//   const sub = live.subscribe({ run, statistic, scope, rows, from, to, points, segment }, (view) => ...);
//   sub.update(query); sub.close();
//
// `connection.clock` is server time minus this machine's, in seconds: ages are told by the server's clock.

import { decodeView } from "../core/codec.js";

const FIRST_RETRY = 250;
const LONGEST_RETRY = 5000;
const PING_EVERY = 10_000;
/** Nothing heard for this long, although pings went out: the connection is dead (a sleeping laptop, a lost tunnel). */
const SILENCE = 25_000;

/** The address of the live socket beside a page at `location`. */
export function liveAddress(base, location) {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${base}/ws/live`;
}

/** @param {{WebSocket?: typeof WebSocket, address?: string, now?: () => number, random?: () => number}} [seams] for tests */
export function createLive(boot, seams = {}) {
  const Socket = seams.WebSocket ?? globalThis.WebSocket;
  const address = seams.address ?? liveAddress(boot.base, globalThis.location);
  const now = seams.now ?? (() => Date.now() / 1000);
  const random = seams.random ?? Math.random;
  const handlers = { connection: new Set(), event: new Set(), stale: new Set() };
  const subscriptions = new Map();
  let socket = null;
  let greeted = false;
  let connection = { state: "connecting", since: now(), clock: 0, error: "" };
  let revision = boot.revision ?? null;
  let followed;
  let nextId = 1;
  let retry = FIRST_RETRY;
  let timer = null;
  let pinger = null;
  let heard = now();
  let closed = false;
  let paused = false;

  function emit(type, value) {
    for (const handler of [...handlers[type]]) handler(value);
  }

  function setConnection(patch) {
    if (patch.state === connection.state && patch.error === undefined && patch.clock === undefined) return;
    const since = patch.state === connection.state ? connection.since : now();
    connection = { ...connection, since, ...patch };
    emit("connection", connection);
  }

  const ready = () => greeted && socket !== null && socket.readyState === 1;

  function send(message) {
    if (ready()) socket.send(JSON.stringify(message));
  }

  function ask(subscription) {
    if (!paused) send({ type: "subscribe", id: subscription.id, ...subscription.query });
  }

  function welcome(message) {
    retry = FIRST_RETRY;
    if (revision === null) revision = message.revision;
    setConnection({ state: "live", clock: message.now - now(), error: "" });
  }

  /** Says who we are and what we want at once: the server's welcome need not be waited for. */
  function greet() {
    const hello = boot.share ? { share: boot.share } : { page: boot.page };
    greeted = true;
    send({ type: "hello", ...hello, ...(revision === null ? {} : { since: revision }) });
    if (followed !== undefined) send({ type: "follow", run: followed });
    for (const subscription of subscriptions.values()) ask(subscription);
  }

  const receive = {
    welcome,
    event(message) {
      if (typeof message.revision === "number") revision = Math.max(revision ?? 0, message.revision);
      emit("event", message);
    },
    stale(message) {
      revision = message.revision ?? null;
      emit("stale", message);
    },
    error(message) {
      const subscription = subscriptions.get(message.id);
      if (subscription?.onError) subscription.onError(message.message);
      else setConnection({ state: connection.state, error: message.message });
    },
    pong(message) {
      setConnection({ state: connection.state, clock: message.now - now() });
    },
    revoked() {
      finish("revoked");
    },
  };

  function onMessage(event) {
    heard = now();
    if (typeof event.data !== "string") {
      const view = decodeView(event.data);
      subscriptions.get(view.id)?.handler(view);
      return;
    }
    const message = JSON.parse(event.data);
    receive[message.type]?.(message);
  }

  function finish(state) {
    closed = true;
    clearTimeout(timer);
    clearInterval(pinger);
    if (socket !== null) socket.close();
    setConnection({ state });
  }

  function connect() {
    clearTimeout(timer);
    timer = null;
    if (closed) return;
    heard = now();
    const opened = new Socket(address);
    opened.binaryType = "arraybuffer";
    socket = opened;
    greeted = false;
    opened.onopen = () => socket === opened && greet();
    opened.onmessage = (event) => socket === opened && onMessage(event);
    opened.onclose = (event) => socket === opened && onClose(event);
  }

  function onClose(event) {
    socket = null;
    if (closed) return;
    // 4401 and 4403: the session ended or the link was withdrawn. Asking again would only be refused again.
    if (event.code === 4401 || event.code === 4403) {
      closed = true;
      clearInterval(pinger);
      setConnection({ state: "refused", error: event.reason });
      return;
    }
    setConnection({ state: "lost" });
    timer = setTimeout(connect, retry * (0.75 + 0.5 * random()));
    retry = Math.min(retry * 2, LONGEST_RETRY);
  }

  function checkPulse() {
    if (socket === null) return;
    if ((now() - heard) * 1000 > SILENCE) {
      const dead = socket;
      socket = null;
      dead.close();
      setConnection({ state: "lost" });
      connect();
    } else {
      send({ type: "ping" });
    }
  }

  pinger = setInterval(checkPulse, PING_EVERY);
  connect();

  return {
    connection: () => connection,
    on(type, handler) {
      handlers[type].add(handler);
      return () => handlers[type].delete(handler);
    },
    follow(run) {
      followed = run;
      send({ type: "follow", run });
    },
    /** Series of one statistic, snapshot and deltas, handed decoded to `handler`. `onError` takes the server's sentence. */
    subscribe(query, handler, onError) {
      const subscription = { id: nextId++, query, handler, onError };
      subscriptions.set(subscription.id, subscription);
      ask(subscription);
      return {
        update(changed) {
          subscription.query = changed;
          ask(subscription);
        },
        close() {
          subscriptions.delete(subscription.id);
          send({ type: "unsubscribe", id: subscription.id });
        },
      };
    },
    /** Stops the flow of numbers while nobody looks; events go on. */
    pause() {
      if (paused) return;
      for (const id of subscriptions.keys()) send({ type: "unsubscribe", id });
      paused = true;
    },
    /** Asks again for everything, with fresh snapshots, and reconnects at once if the connection is down. */
    resume() {
      const wasPaused = paused;
      paused = false;
      if (socket === null) {
        retry = FIRST_RETRY;
        connect();
      } else if (wasPaused) {
        for (const subscription of subscriptions.values()) ask(subscription);
      }
    },
    close: () => finish("lost"),
  };
}
