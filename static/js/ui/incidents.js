// Incidents of one run: keeping them current, and the card that explains the open one.
//
//   followIncidents(store, {run, onLoaded}) -> {destroy}
//     keeps `incidents`, `kinds`, `normal` and `health` current from the live socket; loads GET /runs/{id}/incidents where the boot data
//     hold not all of them; onLoaded() after each load
//   mount(element, store, { onShow }) -> {destroy}
//     reads `incidents`, `health`, `chosenIncident` (id), `kinds`; onShow({step, tensor, incident}) when a step or layer is chosen

import { formatCount, formatTime, formatUtc, plural } from "../core/format.js";
import { alarms, bestRemedy, byUrgency, leading, pathOf, saidText, spanText, withIncident } from "../core/incident.js";
import { createTurns } from "../core/turns.js";
import { copyButton } from "./copy.js";
import { el, setChildren } from "./element.js";
import { toastError } from "./toast.js";

const FOLLOWERS_SHOWN = 4;
const EVIDENCE_SHOWN = 3;
/** Under a pointer that moves the card stands still; it has rested after so long. */
const REST_MS = 4000;

export function followIncidents(store, { run, onLoaded }) {
  const { api, live } = store.get();
  /** What events have told since the newest question: newer than its answer. */
  let arrived = [];
  let judged = null;
  const turns = createTurns();
  const load = async () => {
    arrived = [];
    judged = null;
    const counts = turns();
    try {
      const { incidents, health, kinds, normal } = await api.get(`/runs/${encodeURIComponent(run)}/incidents`);
      if (!counts()) return;
      store.set({ kinds, normal, incidents: arrived.reduce(withIncident, incidents), health: judged ?? health ?? store.get().health ?? null });
      onLoaded();
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) toastError(error);
    }
  };
  const stops = [
    live.on("event", (event) => {
      if (event.run !== run) return;
      if (event.kind === "health") {
        judged = event.data;
        store.set({ health: judged });
      }
      if (event.kind === "incident") {
        arrived.push(event.data);
        store.set({ incidents: withIncident(store.get().incidents ?? [], event.data) });
      }
    }),
    live.on("stale", load),
  ];
  if (!store.get().boot.found?.all) load();
  return { destroy: () => stops.forEach((stop) => stop()) };
}

export function mount(element, store, { onShow }) {
  const body = el("div", { class: "incident-body" });
  element.append(body);
  const part = keeper();
  let drawn = "";
  let asked = null;
  let last = null;
  let movedAt = -Infinity;
  let timer = null;
  const onMove = () => (movedAt = performance.now());
  element.addEventListener("pointermove", onMove);

  function draw() {
    const { incidents, health, chosenIncident, kinds } = store.get();
    if (!incidents) return;
    const sorted = byUrgency(incidents);
    // What was read on a card that stands there stays, also when it is over.
    const kept = sorted.find(({ id, dismissed }) => id === last && (dismissed || element.closest("[data-held=card]")));
    const shown = sorted.find(({ id }) => id === chosenIncident) ?? leading(incidents) ?? kept;
    const key = JSON.stringify([shown, kinds, sorted.map(({ id, severity, closed_step, dismissed }) => [id, severity, closed_step, dismissed]), shown ? "" : health?.sentence]);
    if (key === drawn) return;
    clearTimeout(timer);
    // What somebody does here is answered at once; what comes by itself waits.
    const ask = () => JSON.stringify([chosenIncident, sorted.find(({ id }) => id === last)?.dismissed ?? null]);
    const rest = movedAt + REST_MS - performance.now();
    if (rest > 0 && ask() === asked && element.matches(":hover")) {
      timer = setTimeout(draw, rest);
      return;
    }
    drawn = key;
    last = shown?.id ?? null;
    asked = ask();
    const parts = shown ? card(part, shown, context(store, onShow)) : [part("calm", health?.sentence, () => el("p", { class: "incident-calm muted" }, health?.sentence ?? "Nothing unusual so far."))];
    const past = sorted.filter((one) => one !== shown);
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const unfolded = body.querySelector("details")?.open ?? false;
    const aboutPast = past.map(({ id, sentence, severity, closed_step, dismissed }) => [id, sentence, severity, closed_step, dismissed]);
    setChildren(body, [...parts, part("others", [Boolean(shown), aboutPast], () => others(past, shown ? "other " : "", unfolded, store))].filter(Boolean));
    element.dataset.tone = shown && alarms(shown) ? shown.severity : "";
    if (focused && !body.contains(document.activeElement)) body.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }
  const stop = store.subscribe((_, changed) => ["incidents", "health", "chosenIncident", "kinds"].some((key) => changed.has(key)) && draw());
  draw();
  return {
    destroy() {
      stop();
      clearTimeout(timer);
      element.removeEventListener("pointermove", onMove);
      body.remove();
    },
  };
}

/** `part(name, about, make)`: the node made for `about`, made again only when that changed. What stands is left alone. */
function keeper() {
  const made = new Map();
  return (name, about, make) => {
    const key = JSON.stringify(about) ?? "";
    if (made.get(name)?.key !== key) made.set(name, { key, node: make() });
    return made.get(name).node;
  };
}

const context = (store, onShow) => ({ base: store.get().boot.base, kinds: store.get().kinds ?? {}, onShow, store });

function card(part, incident, { base, kinds, onShow, store }) {
  const { id, kind, severity, sentence, origin, first_step, closed_step, causes, unsure, help } = incident;
  const title = () =>
    el("div", { class: "incident-title" }, el("strong", {}, `${WORDS[severity]}: ${kinds[kind] ?? kind.replaceAll("_", " ")}`), el("span", { class: "muted" }, spanText(incident)));
  return [
    part("title", [severity, kind, kinds[kind], first_step, closed_step], title),
    part("sentence", sentence, () => el("p", { class: "incident-sentence" }, sentence)),
    part("path", [id, first_step, origin], () => path(incident, onShow)),
    part("cause", [causes, unsure], () => cause(incident)),
    part("remedy", causes, () => remedy(incident)),
    part("curves", [id, first_step, origin.tensor], () => curves(incident, store)),
    part("evidence", incident.evidence, () => evidence(incident)),
    part("said", [id, incident.dismissed], () => said(incident)),
    part("foot", [id, help, incident.dismissed], () => foot(incident, base, store)),
  ];
}

function said(incident) {
  const text = saidText(incident, formatTime);
  return text ? el("p", { class: "incident-said muted", title: formatUtc(incident.dismissed.time) }, text) : null;
}

function foot({ id, help, dismissed }, base, store) {
  // The help pages ask for a sign-in.
  if (store.get().boot.role !== "owner") return null;
  const link = help ? el("a", { href: `${base}/help/${encodeURIComponent(help)}` }, "What this means") : null;
  const title = dismissed ? "It counts as a problem again, for everybody" : "A false alarm, or meant so: it turns this run red for nobody any more";
  const say = el("button", { type: "button", class: "linklike push", "data-focus": "say", title, onclick: () => dismiss(id, !dismissed, store) }, dismissed ? "It is a problem" : "Not a problem");
  return el("p", { class: "incident-foot" }, link, say);
}

/** Says that it is no problem, or takes that back. The news comes by the socket too, as to everybody else. */
async function dismiss(id, noProblem, store) {
  const { api, run } = store.get();
  const path = `/runs/${encodeURIComponent(run.id)}/incidents/${encodeURIComponent(id)}/dismissal`;
  try {
    const { dismissed } = noProblem ? await api.post(path) : { dismissed: null, ...(await api.delete(path)) };
    store.set({ incidents: store.get().incidents.map((one) => (one.id === id ? { ...one, dismissed } : one)) });
  } catch (error) {
    toastError(error);
  }
}

const WORDS = { critical: "Critical", warning: "Warning", info: "Worth knowing" };

function path(incident, onShow) {
  const steps = pathOf(incident);
  const show = (step, tensor) => () => onShow({ step, tensor, incident });
  if (!steps.length) {
    return el("p", {}, el("button", { class: "linklike", type: "button", "data-focus": "step", onclick: show(incident.first_step, "") }, `Show step ${formatCount(incident.first_step)}`));
  }
  const rows = steps.slice(0, 1 + FOLLOWERS_SHOWN).map(({ tensor, step, order }) =>
    el(
      "li",
      {},
      el("span", { class: "incident-order", "aria-label": order === 1 ? "began in" : "followed" }, String(order)),
      el("button", { class: "linklike mono ellipsis", type: "button", title: tensor, "data-focus": tensor, onclick: show(step, tensor) }, tensor),
      el("span", { class: "muted push" }, formatCount(step)),
    ),
  );
  const more = incident.origin.followed + 1 - rows.length;
  if (more > 0) rows.push(el("li", { class: "muted" }, `and ${formatCount(more)} more`));
  return el("ol", { class: "incident-path", "aria-label": "Where it began and what followed" }, ...rows);
}

/** Small curves around the first step; their code comes with the first incident. */
function curves(incident, store) {
  const element = el("div", { class: "incident-curves", "data-loading": true });
  import("./incident_sparks.js").then(({ mount: mountCurves }) => mountCurves(element, store, incident), toastError);
  return element;
}

function evidence(incident) {
  const texts = [...new Set(incident.evidence.map(({ text }) => text))];
  const rows = texts.slice(0, EVIDENCE_SHOWN).map((text) => el("li", {}, ...prose(text)));
  return rows.length ? section("Evidence", el("ul", {}, ...rows)) : null;
}

function cause(incident) {
  const [first, ...rest] = incident.causes;
  if (incident.unsure || !first) return section("Likely cause", el("p", { class: "muted" }, "Unsure: nothing here points to one cause."));
  const also = rest.map((one) => `${one.label} (${one.certainty})`).join(", ");
  return section(
    "Likely cause",
    el("p", {}, `${first.label} `, el("span", { class: "muted" }, `${first.certainty} confidence`)),
    first.supporting.length ? el("p", { class: "muted small" }, `For: ${first.supporting.slice(0, 3).join("; ")}.`) : null,
    first.contradicting.length ? el("p", { class: "muted small" }, `Against: ${first.contradicting.slice(0, 2).join("; ")}.`) : null,
    also ? el("p", { class: "muted small" }, `Also possible: ${also}.`) : null,
  );
}

function remedy(incident) {
  const best = bestRemedy(incident);
  if (!best) return null;
  const code = best.code ? el("div", { class: "snippet" }, el("pre", {}, el("code", {}, best.code)), copyButton(() => best.code)) : null;
  return section("What to try", el("p", {}, ...prose(best.text)), code);
}

/** A sentence with `code` in it, as nodes. */
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 === 1 ? el("code", {}, part) : part));
}

const section = (heading, ...children) => el("section", { class: "incident-part" }, el("h3", {}, heading), ...children);

/** The incidents beside the one on the card; without a card all of them. */
function others(incidents, which, open, store) {
  if (!incidents.length) return null;
  const rows = incidents.map((one) =>
    el(
      "li",
      {},
      el(
        "button",
        { class: "incident-other", type: "button", "data-focus": one.id, onclick: () => store.set({ chosenIncident: one.id }) },
        el("span", { class: "dot", "data-tone": alarms(one) ? one.severity : "" }),
        el("span", { class: one.dismissed ? "ellipsis muted" : "ellipsis", title: [one.sentence, saidText(one, formatTime)].filter(Boolean).join(" ") }, one.dismissed ? `No problem: ${one.sentence}` : one.sentence),
      ),
    ),
  );
  const list = el("ul", { class: "incident-others" }, ...rows);
  return el("details", { class: "incident-more", open }, el("summary", {}, plural(rows.length, `${which}incident`)), list);
}
