// What the run was started with, and what watching it costs. Share viewers see what the server gives them, no more; owners see
// a lock beside what links don't show.
//
//   mount(element, store) -> {destroy}       reads `run`, `lag` (seconds from a step to its being painted here)

import { formatBytes, formatCount, formatDuration, formatNumber, formatTime, formatUtc, plural } from "../core/format.js";
import { el, icon } from "./element.js";

const COST = {
  us_per_step: ["per step", (value) => (value < 1000 ? `${formatNumber(value)}\u00a0µs` : `${formatNumber(value / 1000)}\u00a0ms`)],
  share_of_step: ["share of step time", (value) => `${formatNumber(value * 100, 2)}\u00a0%`],
  budget: ["budget", (value) => `${formatNumber(value * 100, 2)}\u00a0%`],
  thinned: ["sampled less often", (value) => `÷${formatNumber(value)}`],
  bytes_per_s: ["sent", (value) => `${formatBytes(value)}/s`],
  queue: ["waiting to be sent", (value) => plural(value, "step")],
  spooled: ["kept on disk", (value) => plural(value, "step")],
};

/** What watching costs, as pairs of name and text. Of a run that has said how it ended everything has come: nothing waits any more. */
export function costFacts({ cost, state, lost_frames: lost }) {
  const ended = state !== "running" && state !== "lost";
  const told = Object.entries(COST).filter(([name]) => Number.isFinite(cost?.[name]) && !(ended && (name === "queue" || name === "spooled")));
  const pairs = told.map(([name, [label, text]]) => [label, text(cost[name])]);
  return lost > 0 ? [...pairs, ["lost on the way", plural(lost, "step")]] : pairs;
}

/** Pairs of name and text of nested settings, in the order they came: `optimizer.lr`, `0.001`. */
export function flatten(value, prefix = "") {
  if (value === null || typeof value !== "object") return [[prefix, value === null ? "none" : String(value)]];
  if (Array.isArray(value) && value.every((item) => item === null || typeof item !== "object")) return [[prefix, value.join(" ")]];
  return Object.entries(value).flatMap(([key, item]) => flatten(item, prefix ? `${prefix}.${key}` : key));
}

/** Whether links leave out the setting of this dotted name; `hidden` null: all of them. */
export function isPrivate(name, hidden) {
  return hidden === null || hidden.some((one) => name === one || name.startsWith(`${one}.`));
}

function lockIcon(title) {
  return el("span", { class: "lock", role: "img", title, "aria-label": title }, icon("M5.5 9h9v7.5h-9zM7 9V6.5a3 3 0 0 1 6 0V9"));
}

function facts(pairs) {
  return el("dl", { class: "facts" }, ...pairs.flatMap(([name, text, title, lock]) => [el("dt", {}, name, lock ? lockIcon(lock) : null), el("dd", { title }, text)]));
}

function gitText({ commit, branch, dirty }) {
  const parts = [commit ? String(commit).slice(0, 10) : "", branch ? `on ${branch}` : "", dirty ? "with uncommitted changes" : ""];
  return parts.filter(Boolean).join(" ");
}

function panel(title) {
  return el("section", { class: "panel", "aria-label": title }, el("div", { class: "panel-head" }, el("h2", {}, title)), el("div", { class: "panel-body", tabindex: 0 }));
}

export function mount(element, store) {
  let key = "";

  function settings(pairs, hidden) {
    if (store.get().boot.role !== "owner" || hidden === undefined) return pairs;
    const why = hidden === null ? "Share links show no settings of this run: it doesn't say which are private" : "Private: share links don't show this";
    return pairs.map(([name, text]) => [name, text, undefined, isPrivate(name, hidden) ? why : undefined]);
  }

  function sections(run, lag) {
    const made = [["started", formatTime(run.created_at), formatUtc(run.created_at)]];
    if (run.who) made.push(["by", run.who]);
    if (run.finished_at) made.push(["ran for", formatDuration(run.finished_at - run.created_at)]);
    made.push(["tensors", formatCount(run.tensor_count)]);
    if (run.tags?.length) made.push(["tags", run.tags.join(", ")]);
    if (run.notes) made.push(["notes", run.notes]);
    const { config, git, argv, who: _, private: __, ...rest } = run.context ?? {};
    if (git && gitText(git)) made.push(["git", gitText(git)]);
    if (argv) made.push(["command", [].concat(argv).join(" ")]);
    const parts = [["About this run", made]];
    const cost = costFacts(run);
    if (run.state === "running" && Number.isFinite(lag)) cost.push(["seen here after", `${formatNumber(lag * 1000, 2)}\u00a0ms`]);
    if (cost.length > 0) parts.push(["Cost of watching", cost]);
    if (config && Object.keys(config).length > 0) parts.push(["Configuration", settings(flatten(config), run.private)]);
    const other = flatten(rest).filter(([name]) => name !== "");
    if (other.length > 0) parts.push(["Environment", other]);
    return parts;
  }

  function paint() {
    const { run, lag } = store.get();
    const parts = sections(run, lag);
    const fresh = JSON.stringify(parts);
    if (fresh === key) return;
    key = fresh;
    const titles = parts.map(([title]) => title).join("|");
    if (element.dataset.titles !== titles) {
      element.dataset.titles = titles;
      element.replaceChildren(...parts.map(([title]) => panel(title)));
    }
    parts.forEach(([, pairs], i) => element.children[i].lastChild.replaceChildren(facts(pairs)));
  }

  const stop = store.subscribe((_, changed) => (changed.has("run") || changed.has("lag")) && paint());
  paint();
  return { destroy: stop };
}
