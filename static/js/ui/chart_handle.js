// Alert thresholds on a chart: a line and a handle at the right edge for each rule, moved up and down only, and one handle to
// make a new rule. Letting go opens a small form with the typed value and what the rule would have done in this run.
//
//   mountHandles(chart, store, { statistic }) -> {place(), paint(context, box), values(), draft(value), destroy}

import { formatNumber } from "../core/format.js";
import { el, setAttribute, setText } from "./element.js";
import { openThreshold } from "./chart_form.js";
import { rulesFor } from "./run_charts.js";
import { token } from "./theme.js";

const ARROW = 1.02;

export function mountHandles(chart, store, { statistic, suggest }) {
  const owner = store.get().boot.role === "owner";
  const add = el("button", { type: "button", class: "handle add", title: "Drag to set an alert, or click (A)", "aria-label": `New alert on ${statistic}` }, "+ alert");
  const handles = new Map();
  let draft = null;
  let form = null;
  /** Steps at which the rule in the form would have fired. */
  let fired = [];
  if (owner) {
    chart.plot.append(add);
    makeDraggable(add, null);
  }

  function rules() {
    return rulesFor(store, statistic);
  }

  function values() {
    return [...rules().map((rule) => rule.threshold), ...(draft === null ? [] : [draft.threshold])];
  }

  function handleFor(rule) {
    let handle = handles.get(rule.id);
    if (!handle) {
      handle = el(owner ? "button" : "span", { class: "handle", type: owner ? "button" : null });
      if (owner) makeDraggable(handle, rule.id);
      handles.set(rule.id, handle);
      chart.plot.append(handle);
    }
    return handle;
  }

  function setFired(steps) {
    fired = steps;
    setAttribute(chart.plot, "data-fired", steps.join(" ") || null);
    chart.redraw?.();
  }

  /** Puts every handle at its value; those that no longer have a rule go. */
  function place() {
    const shown = rules();
    for (const [id, handle] of handles) {
      if (shown.some((rule) => rule.id === id)) continue;
      handle.remove();
      handles.delete(id);
    }
    for (const rule of shown) {
      const mine = draft?.id === rule.id ? draft : rule;
      const handle = handleFor(rule);
      put(handle, mine.threshold);
      setText(handle, `${beyond(mine.threshold)}${rule.condition === "below" ? "<" : ">"} ${formatNumber(mine.threshold)}`);
      setAttribute(handle, "title", `${rule.name}: ${rule.condition} ${formatNumber(mine.threshold)}. Drag to change.`);
      setAttribute(handle, "data-tone", openAlertOf(store, rule.id)?.severity ?? null);
      setAttribute(handle, "data-draft", draft?.id === rule.id ? "1" : null);
    }
    placeAdd(shown);
  }

  /** The handle for a new rule rests at the top of the axis, or below it where another already lies there. */
  function placeAdd(shown) {
    if (!owner) return;
    const drafted = draft !== null && draft.id === null;
    setAttribute(add, "data-draft", drafted ? "1" : null);
    setText(add, drafted ? `> ${formatNumber(draft.threshold)}` : "+ alert");
    if (drafted) return put(add, draft.threshold);
    const { top, bottom } = chart.box();
    const taken = shown.map((rule) => clampY(chart.yOf(rule.threshold)));
    const free = [top + 9, bottom - 9, (top + bottom) / 2].find((y) => taken.every((other) => Math.abs(other - y) > 20));
    add.style.top = `${free ?? top + 9}px`;
  }

  /** An arrow for a threshold that the axis doesn't reach. */
  function beyond(threshold) {
    const { top, bottom } = chart.box();
    const y = chart.yOf(threshold);
    return y < top ? "\u2191 " : y > bottom ? "\u2193 " : "";
  }

  function clampY(y) {
    const { top, bottom } = chart.box();
    return Math.min(bottom, Math.max(top, y));
  }

  function put(handle, threshold) {
    handle.style.top = `${clampY(chart.yOf(threshold))}px`;
  }

  function setDraft(id, threshold) {
    draft = { id, threshold: Number(threshold.toPrecision(3)) };
    form?.setThreshold(draft.threshold);
    place();
    chart.redraw?.();
  }

  function makeDraggable(handle, id) {
    let start = null;
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      start = { y: event.clientY, at: parseFloat(handle.style.top), moved: false };
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const by = event.clientY - start.y;
      if (Math.abs(by) > 3) start.moved = true;
      if (!start.moved) return;
      setDraft(id, chart.valueOf(clampY(start.at + by)));
      open(id);
    });
    handle.addEventListener("pointerup", () => {
      if (start === null) return;
      const { moved } = start;
      start = null;
      if (!moved) begin(id);
    });
    handle.addEventListener("pointercancel", () => (start = null));
    handle.addEventListener("keydown", (event) => {
      const factor = { ArrowUp: ARROW, ArrowDown: 1 / ARROW }[event.key];
      if (factor !== undefined) {
        event.preventDefault();
        setDraft(id, currentOf(id) * factor);
        open(id);
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        begin(id);
      }
    });
  }

  function currentOf(id) {
    if (draft !== null && draft.id === id) return draft.threshold;
    return rules().find((rule) => rule.id === id)?.threshold ?? suggest();
  }

  function begin(id, value = currentOf(id)) {
    setDraft(id, value);
    open(id, true);
  }

  function open(id, focus = false) {
    if (form !== null && form.id === id) {
      if (focus) form.focus();
      return;
    }
    form?.close();
    const rule = rules().find((item) => item.id === id) ?? null;
    form = openThreshold(chart.plot, store, {
      rule,
      statistic,
      threshold: draft.threshold,
      onThreshold: (threshold) => {
        draft = { id, threshold };
        place();
        chart.redraw?.();
      },
      onFired: (found) => setFired(found.map(({ step }) => step)),
      onClose: () => {
        form = null;
        draft = null;
        place();
        setFired([]);
      },
    });
    form.id = id;
    if (focus) form.focus();
  }

  /** Lines across the plot: dashed for rules, red only while an alert of the rule is open; a pin where a draft would have fired. */
  function paint(context, box, { range }) {
    const line = (value, colour) => {
      const y = chart.yOf(value);
      if (y < box.top || y > box.bottom) return;
      context.strokeStyle = token(colour);
      context.setLineDash([5, 4]);
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(box.left, Math.round(y) + 0.5);
      context.lineTo(box.right + 4, Math.round(y) + 0.5);
      context.stroke();
      context.setLineDash([]);
    };
    for (const rule of rules()) {
      if (draft?.id === rule.id) continue;
      const severity = openAlertOf(store, rule.id)?.severity;
      line(rule.threshold, severity === "critical" ? "--critical" : severity === "warning" ? "--warning-line" : "--line-strong");
    }
    if (draft !== null) line(draft.threshold, "--accent");
    paintPins(context, box, range, fired);
  }

  return {
    place,
    paint,
    values,
    /** Begins a new rule at a value: the "alert here" key. */
    draft: (value) => owner && begin(null, value),
    destroy() {
      form?.close();
      add.remove();
      for (const handle of handles.values()) handle.remove();
    },
  };
}

/** A pin at each of these steps: where a rule would have fired. */
export function paintPins(context, box, range, steps) {
  context.fillStyle = token("--accent");
  for (const step of steps) {
    if (step < range.from || step >= range.to) continue;
    const x = Math.round(box.left + ((step + 0.5 - range.from) / (range.to - range.from)) * (box.right - box.left));
    context.beginPath();
    context.moveTo(x - 4, box.top);
    context.lineTo(x + 5, box.top);
    context.lineTo(x + 0.5, box.top + 7);
    context.fill();
    context.fillRect(x, box.top, 1, box.bottom - box.top);
  }
}

function openAlertOf(store, rule) {
  return (store.get().alerts ?? []).find((alert) => alert.rule_id === rule && (alert.cleared_step ?? null) === null) ?? null;
}
