// The header's moving parts; its frame stands in templates/base.html.
//
//   mount(element, store, {boot, name}) -> {destroy}
//     element  <header id="header">
//     boot     the page's boot data
//     name     optional function() -> what the tab title says before " · gradwatch"
//   reads from the store:
//     run         RunOut or null: shows dot, age of the newest point, step, steps per second
//     connection  what io/live.js reports: shown when it isn't live; its `clock` corrects ages
//     alerts      [Alert]: open ones are counted beside "Alerts", colour the favicon and go into the tab title
//   The "?" button and key open the list of keys (ui/keys.js); the theme button is ui/theme.js.

import { formatCount, formatDuration, formatRate } from "../core/format.js";
import { el, setAttribute, setText } from "./element.js";
import { connectionSentence, worst } from "./header_text.js";
import { mount as mountKeys } from "./keys.js";
import { mount as mountTheme } from "./theme.js";

const TICK_MS = 500;

export function mount(element, store, { boot, name = () => "" }) {
  const parts = buildParts(element);
  const theme = mountTheme(element.querySelector("#theme"));
  const keys = mountKeys(element.querySelector("#help"), boot);
  const icon = document.querySelector("#favicon");
  const icons = icon.getAttribute("href");

  const paint = () => {
    const { run, connection, alerts } = store.get();
    const now = Date.now() / 1000 + (connection?.clock ?? 0);
    const pointAge = run?.last_time ? now - run.last_time : null;
    const lost = connection?.state === "lost";
    if (run) paintRun(parts, run, pointAge, lost);
    paintConnection(parts.connection, connectionSentence(connection, pointAge));
    const { open, severity } = worst(alerts);
    paintCount(parts.count, open, severity);
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
  const dot = el("span", { class: "dot" });
  const text = el("span", { class: "run-age" });
  const step = el("span", { class: "run-step wide" });
  const rate = el("span", { class: "run-rate wide" });
  const box = el("span", { class: "run-live", hidden: true }, rate, step, dot, text);
  element.querySelector(".header-live").append(box);
  return { box, dot, text, step, rate, connection: element.querySelector("#connection"), count: element.querySelector(".nav .count") };
}

function paintRun(parts, run, pointAge, lost) {
  const running = run.state === "running";
  parts.box.hidden = false;
  setAttribute(parts.dot, "data-tone", running && lost ? "lost" : toneOf(run.state, pointAge));
  setText(parts.text, running ? (pointAge === null ? "no point yet" : formatDuration(pointAge)) : run.state);
  parts.box.title = running ? "Age of the newest point" : `This run is ${run.state}`;
  setText(parts.step, run.last_step >= 0 ? `step ${formatCount(run.last_step)}` : "");
  setText(parts.rate, running ? formatRate(run.steps_per_s) : "");
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
