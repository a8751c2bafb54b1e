// One row of the runs list: made once, then only what changed is written.
//
//   createRow(run, context) -> {element, update(run, now), spark(kind, points)}
//     context: base, owner, onMenu(run, button), onSelect(run, checked), selected(id), knownOf(id) ({alerts, health})

import { formatAgo, formatCount, formatDuration, formatNumber, formatRate, formatTime, formatUtc, numberOf } from "../core/format.js";
import { el, icon, setAttribute, setText } from "./element.js";
import { durationOf, standingOf, startedText, storedText, toneOf } from "./runs_text.js";
import { sparkline } from "./sparkline.js";

const cell = (name, ...children) => el("td", { class: `c-${name}` }, ...children);

export function createRow(run, context) {
  const parts = rowParts(run, context);
  const element = rowElement(run, parts, context);
  let current = run;
  const update = (fresh, now) => {
    current = fresh;
    paint(parts, element, fresh, now, context);
    if (parts.check) parts.check.checked = context.selected(fresh.id);
  };
  parts.menu?.addEventListener("click", () => context.onMenu(current, parts.menu));
  parts.check?.addEventListener("change", () => context.onSelect(current, parts.check.checked));
  return { element, update, spark: (kind, points) => parts[kind].draw(points) };
}

function rowParts(run, { owner }) {
  return {
    chip: el("span", { class: "chip" }),
    name: el("a", { class: "run-name ellipsis" }),
    tags: el("span", { class: "run-tags" }),
    who: el("span", { class: "run-who muted" }),
    sentence: el("span", { class: "run-sentence muted ellipsis" }),
    normText: el("span", { class: "num" }),
    norm: sparkline({ log: true }),
    lossText: el("span", { class: "num" }),
    loss: sparkline(),
    step: cell("step num"),
    rate: cell("rate num"),
    age: cell("age num"),
    started: cell("started num"),
    duration: cell("duration num"),
    check: owner ? el("input", { type: "checkbox", "aria-label": `Select ${run.name}` }) : null,
    menu: owner ? el("button", { class: "icon-button", type: "button", "aria-label": `What to do with ${run.name}`, "aria-haspopup": "menu" }, icon("M4 10h.1M10 10h.1M16 10h.1")) : null,
  };
}

function rowElement(run, parts, { owner }) {
  const what = el("div", { class: "run-what" }, el("div", { class: "run-title" }, parts.chip, parts.name, parts.tags, parts.who), parts.sentence);
  return el(
    "tr",
    { "data-run": run.id },
    owner ? cell("check", parts.check) : null,
    cell("run", what),
    cell("norm", el("div", { class: "trend" }, parts.normText, parts.norm.element)),
    cell("loss", el("div", { class: "trend" }, parts.lossText, parts.loss.element)),
    parts.step,
    parts.rate,
    parts.age,
    parts.started,
    parts.duration,
    owner ? cell("menu", parts.menu) : null,
  );
}

function paint(parts, element, run, now, { base, knownOf }) {
  const running = run.state === "running";
  setAttribute(element, "data-state", run.state);
  setText(parts.chip, run.state);
  setAttribute(parts.chip, "data-tone", toneOf(run));
  setText(parts.name, run.name);
  setAttribute(parts.name, "title", run.name);
  setAttribute(parts.name, "href", `${base}/runs/${encodeURIComponent(run.id)}`);
  paintTags(parts.tags, run.tags ?? []);
  setText(parts.who, run.who ?? "");
  setAttribute(parts.who, "title", run.who ? `Started by ${run.who}` : null);
  const { text, tone } = standingOf(run, now, knownOf(run.id));
  setAttribute(parts.sentence, "data-tone", tone || null);
  setText(parts.sentence, [text, run.notes].filter(Boolean).join(" "));
  setAttribute(parts.sentence, "title", parts.sentence.textContent);
  paintValue(parts.normText, run.summary?.global_grad_norm);
  paintValue(parts.lossText, run.summary?.loss);
  setText(parts.step, run.last_step < 0 ? "" : formatCount(run.last_step));
  const stored = storedText([run]);
  setAttribute(parts.step, "title", stored ? `${stored} on the disk` : null);
  setText(parts.rate, running ? formatRate(run.steps_per_s) : "");
  setText(parts.age, run.last_time ? formatAgo(now - run.last_time) : "");
  setText(parts.started, startedText(run.created_at, now));
  setAttribute(parts.started, "title", `${formatTime(run.created_at)}\n${formatUtc(run.created_at)}`);
  setText(parts.duration, formatDuration(durationOf(run, now)));
}

function paintValue(element, value) {
  const number = value === undefined ? NaN : numberOf(value);
  setText(element, value === undefined ? "" : formatNumber(number));
  setAttribute(element, "data-bad", value !== undefined && !Number.isFinite(number) ? "true" : null);
}

function paintTags(element, tags) {
  const key = tags.join(",");
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  element.replaceChildren(...tags.map((tag) => el("span", { class: "tag" }, tag)));
}
