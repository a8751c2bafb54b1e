// The list of alert rules: switch, edit, delete with undo.
//
//   mount(element, store) -> {destroy, reload}   reads and writes store key `rules`
//   whereText(rule): pure

import { createTurns } from "../core/turns.js";
import { button, openMenu } from "./dialog.js";
import { el, icon } from "./element.js";
import { openRuleForm } from "./ruleform.js";
import { toast, toastError } from "./toast.js";

const UNDO_MS = 8000;

/** "all runs", "project digits", "run 7f3a". */
export function whereText(rule) {
  const parts = [rule.project === "*" ? "" : `project ${rule.project}`, rule.run === "*" ? "" : `run ${rule.run}`].filter(Boolean);
  return parts.join(", ") || "all runs";
}

export function mount(element, store) {
  const { api, live } = store.get();
  const turns = createTurns();
  /** Saving asks, and so does the news of it: the newest question's answer stands. */
  const load = async () => {
    const counts = turns();
    try {
      const { rules } = await api.get("/rules");
      if (counts()) store.set({ rules });
    } catch (error) {
      toastError(error);
    }
  };
  const gone = new Set();
  const context = { store, reload: load, gone, draw };
  function draw() {
    const rules = (store.get().rules ?? []).filter((rule) => !gone.has(rule.id));
    const rows = rules.map((rule) => row(rule, context));
    if (!rows.length && store.get().rules) rows.push(el("li", { class: "alert-none muted" }, "No rules yet. Make one, and you hear of trouble before it costs you a night."));
    element.replaceChildren(...rows);
  }
  const stops = [store.subscribe((_, changed) => changed.has("rules") && draw()), live.on("event", (event) => event.kind === "rule" && load()), live.on("stale", load)];
  load();
  return { reload: load, destroy: () => stops.forEach((stop) => stop()) };
}

function row(rule, context) {
  const { store } = context;
  const toggle = el("input", { type: "checkbox", checked: rule.enabled, "aria-label": `${rule.name || "Rule"} on`, title: rule.enabled ? "On" : "Off" });
  toggle.addEventListener("change", () => save(rule, { enabled: toggle.checked }, context));
  const edit = () => openRuleForm(store, { rule, onSaved: context.reload });
  const menu = el("button", { class: "icon-button", type: "button", "aria-label": "What to do with this rule", "aria-haspopup": "menu" }, icon("M4 10h.1M10 10h.1M16 10h.1"));
  menu.addEventListener("click", () =>
    openMenu(menu, [
      { label: "Edit", run: edit },
      { label: "Make a copy", run: () => openRuleForm(store, { preset: { ...rule, name: "" }, onSaved: context.reload }) },
      { label: "Delete", danger: true, run: () => remove(rule, context) },
    ]),
  );
  const firing = rule.enabled && rule.state === "firing";
  return el(
    "li",
    { class: "rule", "data-rule": rule.id, "data-enabled": String(rule.enabled) },
    toggle,
    el("div", { class: "rule-text" }, el("strong", { class: "ellipsis" }, rule.name || rule.statistic), el("span", { class: "muted" }, `${capital(rule.sentence)} · ${whereText(rule)}`)),
    firing ? el("span", { class: "chip", "data-tone": rule.severity }, "firing") : null,
    el("span", { class: "muted rule-severity push" }, rule.severity),
    button("Edit", edit, "plain"),
    menu,
  );
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Fields that are left out stay as they are. */
async function save(rule, patch, { store, reload }) {
  try {
    await store.get().api.put(`/rules/${encodeURIComponent(rule.id)}`, patch);
  } catch (error) {
    toastError(error);
  }
  reload();
}

function remove(rule, { store, gone, draw }) {
  gone.add(rule.id);
  draw();
  const undo = () => {
    removeEventListener("pagehide", box.close);
    gone.delete(rule.id);
    draw();
  };
  const commit = () => {
    removeEventListener("pagehide", box.close);
    store.get().api.delete(`/rules/${encodeURIComponent(rule.id)}`).catch((error) => {
      undo();
      toastError(error);
    });
  };
  const box = toast(`Deleted the rule "${rule.name || rule.statistic}".`, { ms: UNDO_MS, action: { label: "Undo", run: undo }, onGone: commit });
  addEventListener("pagehide", box.close);
}
