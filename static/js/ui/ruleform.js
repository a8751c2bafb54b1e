// The form for an alert rule. It is made from GET /rules/kinds, so that a new kind of rule needs no change here.
//
//   openRuleForm(store, options) -> dialog
//   mount(element, store, options) -> {destroy}
//     options: rule      Rule to edit; null makes a new one
//              preset    values to start from ({statistic, tensors, condition, threshold}), for a new rule
//              run       RunOut that the rule is tried on and, when it is new, made for; null lets a person choose
//              onSaved   function(rule) after the server took it
//              onCancel  function()
//              onPreview function(result or null): the run page draws where it would have fired
//   Beside the fields: what is wrong with each, and, while typing, "Would have fired 3 times in this run (steps ...)".
//   scopeOf: pure

import { backtestSentence } from "../core/backtest.js";
import { formatNumber } from "../core/format.js";
import { button, openDialog } from "./dialog.js";
import { el, setAttribute, setText } from "./element.js";
import { fieldFor } from "./rulefields.js";
import { toast } from "./toast.js";

const MAIN = ["statistic", "tensors", "condition", "threshold", "upper", "incidents", "least", "window", "for_steps", "severity"];
const TEXT_MS = 350;
export const EDITED = "Rule saved. It starts anew: its open alerts are closed, and fire again if they have cause.";

/** Which runs a rule is about, as the form says it: "run", "project", "all" or "other" (globs typed by hand). */
export function scopeOf(rule, run) {
  if (rule.project === "*" && rule.run === "*") return "all";
  if (run && rule.run === run.id) return "run";
  return run && rule.project === run.project && rule.run === "*" ? "project" : "other";
}

export function openRuleForm(store, options = {}) {
  let form = null;
  let saved = null;
  const fill = (body, foot, close) => {
    const onSaved = (rule) => {
      saved = rule;
      close();
    };
    form = mount(body, store, { ...options, foot, onSaved, onCancel: close });
  };
  const dialog = openDialog(options.rule ? "Edit alert rule" : "New alert rule", fill, { className: "rule-dialog" });
  dialog.addEventListener("close", () => {
    form.destroy();
    if (saved) options.onSaved?.(saved);
    else options.onCancel?.();
  });
  return dialog;
}

export function mount(element, store, options = {}) {
  const box = el("div", { class: "rule-form-box" }, el("p", { class: "muted" }, "Loading..."));
  element.append(box);
  const context = { store, options, box, gone: false, stop: () => {} };
  load(context).catch((error) => box.replaceChildren(el("p", { class: "note", "data-tone": "critical" }, error.message)));
  return {
    destroy() {
      context.gone = true;
      context.stop();
      options.onPreview?.(null);
      box.remove();
    },
  };
}

async function load(context) {
  const { api } = context.store.get();
  const { run } = context.options;
  const table = await api.get("/rules/kinds");
  const [details, shape, recent] = await Promise.all([
    run ? api.get(`/runs/${encodeURIComponent(run.id)}`) : null,
    run ? api.get(`/runs/${encodeURIComponent(run.id)}/tensors`) : null,
    run ? null : api.get("/runs", { limit: 30 }),
  ]);
  if (context.gone) return;
  build(context, table, { statistics: details?.statistics ?? [], tensors: shape?.tensors ?? [], runs: recent?.runs ?? [] });
}

function start(table, { rule, preset = {}, run }) {
  if (rule) return rule;
  const values = Object.fromEntries(table.parameters.map(({ key, default: value }) => [key, value]));
  return { ...values, project: run ? run.project : "*", run: run ? run.id : "*", ...preset };
}

function build(context, table, known) {
  const { options, box } = context;
  const values = start(table, options);
  const fields = new Map();
  const make = (parameter) => {
    const field = fieldFor(parameter, { value: values[parameter.key], ...helpFor(parameter, table, known) });
    fields.set(parameter.key, field);
    return field.element;
  };
  const by = new Map(table.parameters.map((parameter) => [parameter.key, parameter]));
  const main = MAIN.filter((key) => by.has(key)).map((key) => make(by.get(key)));
  const rest = table.parameters.filter(({ key }) => !MAIN.includes(key)).map(make);
  const where = scopeField(fields, values, options.run);
  const tryOn = options.run ? null : runField(known.runs);
  const backtest = el("p", { class: "backtest", "aria-live": "polite" });
  const problem = el("p", { class: "note", "data-tone": "critical", role: "alert", hidden: true });
  const save = el("button", { class: "button primary", type: "submit", form: "rule-form" }, options.rule ? "Save" : "Make rule");
  const more = el("details", { class: "rule-more" }, el("summary", {}, "More"), el("div", { class: "rule-grid" }, ...rest));
  const form = el("form", { id: "rule-form", class: "rule-form", novalidate: true }, el("div", { class: "rule-grid" }, ...main, where), more, tryOn?.element ?? null, backtest, problem);
  box.replaceChildren(form);
  const buttons = [options.onCancel ? button("Cancel", options.onCancel) : null, save].filter(Boolean);
  if (options.foot) options.foot.replaceChildren(...buttons);
  else form.append(el("div", { class: "rule-buttons" }, ...buttons));
  if (options.foot && !options.foot.isConnected) box.closest("dialog")?.append(options.foot);
  wire({ ...context, table, values, fields, form, save, backtest, problem, tryOn, known, touched: new Set(), context });
}

function helpFor(parameter, table, { statistics, tensors }) {
  if (parameter.key === "condition") return { options: table.kinds.map((kind) => [kind.condition, kind.label]) };
  if (parameter.key === "statistic") return { suggestions: [...new Set(statistics.map(({ name }) => name))] };
  if (parameter.key === "tensors") return { suggestions: ["*", ...tensors.slice(0, 500).map(({ name }) => name)] };
  if (parameter.key === "channels") return { options: (table.channels ?? []).map(({ id, name }) => [id, name || id]) };
  return {};
}

/** "This run / its project / all runs": writes the two globs, which stand under "More" for those who want them. */
function scopeField(fields, values, run) {
  if (!run) return null;
  const rows = [["run", "this run only"], ["project", `all runs of ${run.project}`], ["all", "all runs"]];
  const scope = scopeOf(values, run);
  if (scope === "other") rows.push(["other", "as typed under More"]);
  const select = el("select", { id: "rule-scope" }, ...rows.map(([value, label]) => el("option", { value, selected: value === scope }, label)));
  select.addEventListener("change", () => {
    if (select.value === "other") return;
    fields.get("run").set(select.value === "run" ? run.id : "*");
    fields.get("project").set(select.value === "all" ? "*" : run.project);
  });
  return el("div", { class: "field" }, el("label", { for: "rule-scope" }, "Runs"), select);
}

function runField(runs) {
  if (!runs.length) return null;
  const select = el("select", { id: "rule-try" }, ...runs.map((run) => el("option", { value: run.id }, `${run.project} / ${run.name}`)));
  return { select, element: el("div", { class: "field rule-try" }, el("label", { for: "rule-try" }, "Try it on"), select) };
}

function wire(form) {
  let timer = null;
  let request = null;
  const kindNow = () => form.table.kinds.find(({ condition }) => condition === form.fields.get("condition").get());
  const preview = async () => {
    request?.abort();
    request = new AbortController();
    await runPreview(form, kindNow(), request.signal);
  };
  const later = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(preview, ms);
  };
  form.form.addEventListener("input", (event) => {
    const key = event.target.closest("[data-field]")?.dataset.field;
    if (key) form.touched.add(key);
    if (key === "condition") applyDefaults(form, kindNow());
    show(form, kindNow());
    later(event.target instanceof HTMLInputElement ? TEXT_MS : 0);
  });
  form.form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form, kindNow());
  });
  form.context.stop = () => {
    clearTimeout(timer);
    request?.abort();
  };
  show(form, kindNow());
  later(0);
}

function isTensorStatistic(form) {
  const name = form.fields.get("statistic").get();
  const scopes = form.known.statistics.filter((statistic) => statistic.name === name).map(({ scope }) => scope);
  if (scopes.length) return scopes.includes("tensor");
  return name === "grad_norm" || form.fields.get("tensors").get() !== "";
}

/** Shows the fields that mean something for this kind and statistic. */
function show(form, kind) {
  const keys = new Set([...form.table.common, ...kind.parameters]);
  if (!isTensorStatistic(form)) ["tensors", "groups"].forEach((key) => keys.delete(key));
  // A kind that names its statistic itself leaves nothing to choose.
  if (kind.defaults.some(([key]) => key === "statistic")) ["statistic", "tensors", "groups"].forEach((key) => keys.delete(key));
  const aggregate = form.fields.get("aggregate")?.get();
  if (kind.aggregated && aggregate === "last") keys.delete("window");
  if (aggregate !== "share") keys.delete("share");
  if (!(form.table.channels ?? []).length) keys.delete("channels");
  if (!form.context.options.rule) keys.delete("enabled");
  for (const field of form.fields.values()) field.element.hidden = !keys.has(field.key);
  if (isTensorStatistic(form) && !form.fields.get("tensors").get() && !form.fields.get("groups").get() && !form.touched.has("tensors")) {
    form.fields.get("tensors").set("*");
  }
}

/** What wasn't touched takes the values that the new kind starts with. */
function applyDefaults(form, kind) {
  const defaults = Object.fromEntries(kind.defaults);
  for (const field of form.fields.values()) {
    if (field.key !== "condition" && !form.touched.has(field.key)) field.set(defaults[field.key] ?? form.values[field.key]);
  }
}

function ruleOf(form, kind) {
  const rule = { ...(form.context.options.rule ?? {}) };
  for (const field of form.fields.values()) rule[field.key] = field.get();
  if (!isTensorStatistic(form)) Object.assign(rule, { tensors: "", groups: "" });
  for (const { key, default: value } of form.table.parameters) {
    // What a kind doesn't know goes back to its default: an old threshold must not haunt another kind.
    if (!form.table.common.includes(key) && !kind.parameters.includes(key)) rule[key] = value;
  }
  return Object.fromEntries(form.table.parameters.map(({ key }) => [key, rule[key]]));
}

function showErrors(form, fields, only = null) {
  for (const field of form.fields.values()) field.error(!only || only.has(field.key) ? (fields[field.key] ?? "") : "");
}

async function runPreview(form, kind, signal) {
  const { options } = form.context;
  const run = options.run?.id ?? form.tryOn?.select.value;
  if (!run) return;
  const ask = (others) => form.store.get().api.post("/rules/preview", { rule: ruleOf(form, kind), run, others }, { signal });
  try {
    const result = await ask(false);
    showErrors(form, {});
    showTrial(form, result);
    options.onPreview?.(result);
    showTrial(form, await ask(true));
  } catch (error) {
    if (error.name === "AbortError") return;
    showErrors(form, error.fields ?? {}, form.touched);
    setText(form.backtest, Object.keys(error.fields ?? {}).length ? "" : error.message);
    options.onPreview?.(null);
  }
}

/** What the rule would have done, and the threshold that the run itself suggests. */
function showTrial(form, result) {
  const threshold = form.fields.get("threshold");
  const use = () => {
    threshold.set(result.suggested);
    threshold.element.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const offered = result.suggested !== null && result.suggested !== threshold.get() ? el("button", { type: "button", class: "suggested", onclick: use }, `Use ${formatNumber(result.suggested)}, which this run suggests`) : "";
  form.backtest.replaceChildren(backtestSentence(result), " ", offered);
  setAttribute(form.backtest, "data-fired", String(result.count));
}

async function submit(form, kind) {
  const { options } = form.context;
  form.save.disabled = true;
  form.problem.hidden = true;
  try {
    const { api } = form.store.get();
    const rule = ruleOf(form, kind);
    const saved = options.rule ? await api.put(`/rules/${encodeURIComponent(options.rule.id)}`, rule) : await api.post("/rules", rule);
    toast(options.rule ? EDITED : "Rule made. It watches from the next step on.");
    options.onSaved?.(saved.rule ?? saved);
  } catch (error) {
    const fields = error.fields ?? {};
    showErrors(form, fields);
    const elsewhere = Object.keys(fields).every((key) => form.fields.get(key)?.element.hidden ?? true);
    form.problem.hidden = !elsewhere;
    setText(form.problem, elsewhere ? error.message : "");
    const first = [...form.fields.values()].find(({ key }) => key in fields);
    if (first?.element.closest("details")) first.element.closest("details").open = true;
    first?.input.focus();
  }
  form.save.disabled = false;
}
