// The small form beside a chart for one threshold: value, for how many steps, severity, what it would have done in this run.
//
//   openThreshold(parent, store, { rule, statistic, threshold, onThreshold, onFired, onClose }) -> {setThreshold, focus, close}
//     onFired([{step}])   where it would have fired, to be drawn
//     rule null makes a new one for this run through POST /rules; else it is changed through PUT

import { backtestSentence } from "../core/backtest.js";
import { formatNumber } from "../core/format.js";
import { button } from "./dialog.js";
import { el, setText } from "./element.js";
import { EDITED, openRuleForm } from "./ruleform.js";
import { toast, toastError } from "./toast.js";

const PREVIEW_MS = 250;
const SEVERITIES = ["info", "warning", "critical"];
const LABELS = { global_grad_norm: "Global norm", loss: "Loss" };

/** A number as a person would type it: 5, 0.002, 7.4e15. */
function typed(number) {
  const size = Math.abs(number);
  return size >= 1e6 || (size > 0 && size < 1e-3) ? number.toExponential().replace("e+", "e") : String(number);
}

export function openThreshold(parent, store, { rule, statistic, threshold, onThreshold, onFired, onClose }) {
  const { api, run } = store.get();
  const value = el("input", { type: "text", inputmode: "decimal", "aria-label": "Threshold" });
  const condition = el("select", { "aria-label": "Condition" }, el("option", { value: "above" }, "above"), el("option", { value: "below" }, "below"));
  const steps = el("input", { type: "number", min: 1, max: 100000, value: rule?.for_steps ?? 1, "aria-label": "For how many steps" });
  const severity = el("select", { "aria-label": "Severity" }, ...SEVERITIES.map((name) => el("option", { value: name }, name)));
  const backtest = el("p", { class: "backtest wide-row", role: "status" });
  condition.value = rule?.condition ?? "above";
  severity.value = rule?.severity ?? "warning";
  value.value = typed(threshold);
  let timer = null;
  let asked = null;
  let closed = false;

  /** The rule as the form has it, null while the value isn't a number. */
  function current() {
    const number = Number(value.value);
    if (value.value.trim() === "" || !Number.isFinite(number)) return null;
    const base = rule ?? { name: "", statistic, tensors: "", project: "*", run: run.id, enabled: true };
    const made = { ...base, condition: condition.value, threshold: number, for_steps: Math.max(1, Math.round(Number(steps.value) || 1)), severity: severity.value };
    if (!rule) made.name = `${LABELS[statistic] ?? statistic} ${made.condition} ${formatNumber(number).replace("\u00a0", " ")}`;
    return made;
  }

  function preview() {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const tried = current();
      if (tried === null) return setText(backtest, "Type a number, such as 5 or 1e-3.");
      asked?.abort();
      asked = new AbortController();
      try {
        const { signal } = asked;
        const ask = (others) => api.post("/rules/preview", { rule: tried, run: run.id, others }, { signal });
        show(await ask(false));
        show(await ask(true));
      } catch (error) {
        if (error.name !== "AbortError") setText(backtest, error.message);
      }
    }, PREVIEW_MS);
  }

  /** What the rule would have done, and the threshold that the run itself suggests. */
  function show(result) {
    const use = () => {
      value.value = typed(result.suggested);
      onThreshold(result.suggested);
      preview();
    };
    const offered = result.suggested !== null && result.suggested !== current()?.threshold ? el("button", { type: "button", class: "suggested", onclick: use }, `Use ${formatNumber(result.suggested)}, which this run suggests`) : "";
    backtest.replaceChildren(backtestSentence(result), " ", offered);
    onFired(result.fired);
  }

  async function save(event) {
    event.preventDefault();
    const wanted = current();
    if (wanted === null) return value.focus();
    try {
      const saved = rule ? await api.put(`/rules/${encodeURIComponent(rule.id)}`, wanted) : await api.post("/rules", wanted);
      const kept = saved.rule ?? saved;
      const { rules = [] } = store.get();
      store.set({ rules: [...rules.filter((other) => other.id !== kept.id), kept] });
      toast(rule ? EDITED : "Alert set. It watches from the next step on.");
      close();
    } catch (error) {
      setText(backtest, Object.values(error.fields ?? {})[0] ?? error.message);
    }
  }

  async function remove() {
    try {
      await api.delete(`/rules/${encodeURIComponent(rule.id)}`);
      store.set({ rules: (store.get().rules ?? []).filter((other) => other.id !== rule.id) });
      toast("Alert removed.");
      close();
    } catch (error) {
      toastError(error);
    }
  }

  function more() {
    const wanted = current();
    close();
    openRuleForm(store, rule ? { rule, run } : { preset: wanted, run });
  }

  function close() {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    asked?.abort();
    form.remove();
    onClose();
  }

  const form = el(
    "form",
    { class: "handle-form", "aria-label": rule ? `Change ${rule.name}` : "New alert", onsubmit: save },
    el("strong", { class: "wide-row ellipsis" }, rule ? rule.name : `Alert on ${(LABELS[statistic] ?? statistic).toLowerCase()}`),
    condition,
    value,
    el("label", {}, "for", steps, "steps"),
    severity,
    backtest,
    el("span", { class: "row wide-row" }, el("button", { type: "submit", class: "button primary" }, rule ? "Save" : "Set alert"), button("Cancel", close), rule ? button("Remove", remove, "plain") : null, el("span", { class: "push" }), button("More…", more, "plain")),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  });
  for (const field of [condition, steps, severity]) field.addEventListener("change", preview);
  value.addEventListener("input", () => {
    const made = current();
    if (made !== null) onThreshold(made.threshold);
    preview();
  });
  parent.append(form);
  preview();
  return {
    id: null,
    setThreshold(number) {
      value.value = typed(number);
      preview();
    },
    focus: () => value.select(),
    close,
  };
}
