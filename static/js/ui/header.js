// The header's moving parts; its frame stands in templates/base.html.
//
//   mount(element, store, {boot, name}) -> {destroy}
//     element  <header id="header">
//     boot     the page's boot data
//     name     optional function() -> what the tab title says before " · gradwatch"
//   reads from the store:
//     run         RunOut or null: shows dot, age of the newest point, step, steps per second
//     connection  {state: "connecting" | "open" | "lost" | "revoked", since: ms}: shown when it isn't open
//     alerts      [Alert]: open ones are counted beside "Alerts", colour the favicon and go into the tab title
//     skew        seconds to add to this computer's clock to get the server's (0 when unknown)
//   The "?" button and key open the list of keys (ui/keys.js); the theme button is ui/theme.js.

import { mount as mountTheme } from "./theme.js";
import { mount as mountKeys } from "./keys.js";

const TICK_MS = 500;

export function age(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

export function worst(alerts) {
  const open = (alerts ?? []).filter((a) => a.cleared_step === null);
  const severity = ["critical", "warning", "info"].find((s) => open.some((a) => a.severity === s));
  return { open: open.length, severity: severity ?? "" };
}

export function connectionSentence(connection, lastPointAge) {
  if (connection?.state === "lost") {
    return lastPointAge === null ? "connection lost, trying again" : `connection lost, last point ${age(lastPointAge)} ago`;
  }
  if (connection?.state === "revoked") return "this link was withdrawn";
  return "";
}

export function mount(element, store, { boot, name = () => "" }) {
  const parts = buildParts(element);
  const theme = mountTheme(element.querySelector("#theme"));
  const keys = mountKeys(element.querySelector("#help"), { base: boot.base });
  const icon = document.querySelector("#favicon");
  const icons = icon.getAttribute("href");

  const paint = () => {
    const { run, connection, alerts, skew = 0 } = store.get();
    const now = Date.now() / 1000 + skew;
    const pointAge = run?.last_time ? now - run.last_time : null;
    if (run) paintRun(parts, run, pointAge);
    paintConnection(parts.connection, connectionSentence(connection, pointAge));
    const { open, severity } = worst(alerts);
    paintCount(parts.count, open, severity);
    const lost = connection?.state === "lost";
    setAttribute(icon, "href", iconFor(icons, lost ? "stale" : severity));
    const title = [open ? `(${open})` : "", name(), "gradwatch"].filter(Boolean).join(" · ").replace(") · ", ") ");
    if (document.title !== title) document.title = title;
  };
  const stop = store.subscribe(paint);
  const timer = setInterval(paint, TICK_MS);
  paint();
  return {
    destroy() {
      stop();
      clearInterval(timer);
      theme.destroy();
      keys.destroy();
    },
  };
}

function buildParts(element) {
  const live = element.querySelector(".header-live");
  const box = document.createElement("span");
  box.className = "run-live";
  box.hidden = true;
  const dot = document.createElement("span");
  dot.className = "dot";
  const text = document.createElement("span");
  text.className = "run-age";
  const step = document.createElement("span");
  step.className = "run-step wide";
  const rate = document.createElement("span");
  rate.className = "run-rate wide";
  box.append(dot, text, step, rate);
  live.prepend(box);
  return { box, dot, text, step, rate, connection: element.querySelector("#connection"), count: element.querySelector(".nav .count") };
}

function paintRun(parts, run, pointAge) {
  const running = run.state === "running";
  parts.box.hidden = false;
  setAttribute(parts.dot, "data-tone", toneOf(run.state, pointAge));
  setText(parts.text, running ? (pointAge === null ? "no point yet" : age(pointAge)) : run.state);
  parts.box.title = running ? "Age of the newest point" : `This run is ${run.state}`;
  setText(parts.step, run.last_step >= 0 ? `step ${Math.round(run.last_step).toLocaleString("en")}` : "");
  setText(parts.rate, running && run.steps_per_s > 0 ? `${rateText(run.steps_per_s)} steps/s` : "");
}

export function rateText(perSecond) {
  if (perSecond >= 100) return Math.round(perSecond).toLocaleString("en");
  return perSecond >= 10 ? perSecond.toFixed(1) : perSecond.toPrecision(2);
}

function toneOf(state, pointAge) {
  if (state === "running") return pointAge !== null && pointAge < 60 ? "live" : "";
  if (state === "failed" || state === "killed") return "critical";
  return state === "lost" || state === "preempted" ? "warning" : "";
}

function paintConnection(element, sentence) {
  element.hidden = sentence === "";
  element.className = "chip";
  setAttribute(element, "data-tone", "warning");
  setText(element, sentence);
}

function paintCount(element, open, severity) {
  if (!element) return;
  element.hidden = open === 0;
  setText(element, String(open));
  setAttribute(element, "data-severity", severity);
  setAttribute(element, "aria-label", `${open} open`);
}

function iconFor(href, state) {
  return state === "" || state === "info" ? href : href.replace("favicon.svg", `favicon-${state}.svg`);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, key, value) {
  if (element.getAttribute(key) !== value) element.setAttribute(key, value);
}
