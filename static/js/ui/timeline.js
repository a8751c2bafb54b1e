// The timeline: always the whole run. A small curve of the norm, glyphs for alerts, marks and restarts, and a brush that is
// the window of all panels. Dragging the brush moves it, its edges resize it, a click elsewhere centres it.
//
//   mount(element, store, model, { onGlyph }) -> {draw(scene), destroy}     onGlyph({step, alert, incident}) for a chosen glyph
//   reads `view`, `alerts`, `incidents`, `marks`, `segments`

import { formatCount } from "../core/format.js";
import { PRESENT, HAS_INF, HAS_NAN } from "../core/codec.js";
import { fitRange, position } from "../core/scale.js";
import { markText } from "../core/sentence.js";
import { standing, WHOLE } from "../core/view.js";
import { columnsOf, valuesIn } from "./chart_traces.js";
import { setAttribute } from "./element.js";
import { token } from "./theme.js";

const GRIP = 5;
const GLYPH = 7;

export function mount(element, store, model, { onGlyph }) {
  const plot = element.querySelector(".timeline-plot");
  const canvas = plot.querySelector("canvas");
  const buttons = [...element.querySelectorAll("[data-last]")];
  const context = canvas.getContext("2d");
  const feed = model.feed("global_grad_norm", "run", { overview: true });
  let size = { width: 0, height: 0 };
  let drag = null;
  let glyphs = [];
  let drawn = null;

  function measure() {
    const ratio = window.devicePixelRatio || 1;
    size = { width: plot.clientWidth, height: plot.clientHeight };
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  const whole = () => ({ from: model.first(), to: Math.max(model.newest() + 1, model.first() + 8) });
  const xOf = (step, { from, to } = whole()) => ((step - from) / (to - from)) * size.width;
  const stepOf = (x) => whole().from + (x / size.width) * (whole().to - whole().from);

  function draw(scene) {
    const { range } = scene;
    drawn = scene;
    if (size.width === 0) return;
    context.clearRect(0, 0, size.width, size.height);
    setAttribute(element, "data-loading", feed.busy && feed.window === null ? "" : null);
    paintCurve();
    paintBrush(range);
    paintGlyphs();
    const { view } = store.get();
    for (const button of buttons) {
      const last = button.dataset.last === "" ? null : Number(button.dataset.last);
      setAttribute(button, "aria-pressed", String(view.from === null && view.last === last));
    }
    setAttribute(plot, "aria-valuemax", String(model.newest()));
    setAttribute(plot, "aria-valuenow", String(Math.round(range.from)));
    setAttribute(plot, "aria-valuetext", `steps ${formatCount(range.from)} to ${formatCount(range.to - 1)}`);
  }

  function paintCurve() {
    if (feed.window === null || feed.window.n === 0) return;
    const range = whole();
    const axis = fitRange(valuesIn([{ feed, index: 0 }], range), [], true);
    const { window } = feed;
    const { x, low, high } = columnsOf(window, 0, range, false);
    const top = 9;
    const room = size.height - top - 3;
    const yOf = (value) => top + (1 - Math.min(1, Math.max(0, position(value, axis, true)))) * room;
    context.fillStyle = token("--line-strong");
    if (axis !== null) {
      const wide = Math.max(1, xOf(range.from + window.width, range));
      x.forEach((step, i) => {
        if (!(high[i] > 0)) return;
        const y = yOf(high[i]);
        const bottom = low[i] > 0 ? yOf(low[i]) : top + room;
        context.fillRect(xOf(step, range) - wide / 2, y, wide, Math.max(1, bottom - y));
      });
    }
    // What isn't finite anywhere in the run is seen here too.
    for (let bucket = window.firstBucket; bucket < window.endBucket; bucket += 1) {
      const flags = window.flags[window.index(0, bucket)];
      if (!(flags & PRESENT) || !(flags & (HAS_NAN | HAS_INF))) continue;
      context.fillStyle = token(flags & HAS_NAN ? "--nan" : "--inf");
      context.fillRect(Math.floor(xOf(bucket * window.width)), top, Math.ceil(Math.max(2, xOf(range.from + window.width))) + 1, room);
    }
  }

  function paintBrush(range) {
    const left = Math.max(0, xOf(range.from));
    const right = Math.min(size.width, Math.max(left + 3, xOf(range.to)));
    const { view } = store.get();
    const all = view.from === null && view.last === null;
    context.fillStyle = token("--surface");
    context.globalAlpha = 0.72;
    context.fillRect(0, 0, left, size.height);
    context.fillRect(right, 0, size.width - right, size.height);
    context.globalAlpha = 1;
    context.fillStyle = token(all ? "--line" : "--accent");
    context.fillRect(left, size.height - 2, right - left, 2);
    if (all) return;
    for (const x of [left, right - 2]) context.fillRect(x, 4, 2, size.height - 6);
  }

  function paintGlyphs() {
    const { alerts = [], incidents = [], marks = [], segments = [] } = store.get();
    glyphs = [
      ...segments.slice(1).map((segment) => ({ step: segment.start_step, colour: "--text-3", shape: "bar", text: "restart" })),
      ...marks.filter(markText).map((mark) => ({ step: mark.step, colour: mark.kind === "ranks" ? "--warning" : "--accent", shape: "mark", text: markText(mark) })),
      ...incidents.filter(({ severity }) => severity !== "info").map((incident) => ({ step: incident.first_step, colour: incidentColour(incident), shape: "dot", incident, text: incident.sentence })),
      ...alerts.map((alert) => ({ step: alert.opened_step, colour: alertColour(alert), shape: "dot", alert, text: alert.rule_name })),
    ];
    for (const { step, colour, shape } of glyphs) {
      const x = Math.min(size.width - 3, Math.max(3, xOf(step)));
      context.fillStyle = token(colour);
      if (shape === "bar") context.fillRect(Math.round(x), 0, 1, size.height);
      else if (shape === "dot") {
        context.beginPath();
        context.arc(x, 5, 3.2, 0, 2 * Math.PI);
        context.fill();
      } else {
        context.beginPath();
        context.moveTo(x - 3, 1);
        context.lineTo(x + 3, 1);
        context.lineTo(x, 6);
        context.fill();
      }
    }
  }

  function local(event) {
    return event.clientX - plot.getBoundingClientRect().left;
  }

  function gripAt(x) {
    const range = model.range();
    const [left, right] = [xOf(range.from), xOf(range.to)];
    if (Math.abs(x - left) <= GRIP && left > 1) return "from";
    if (Math.abs(x - right) <= GRIP && right < size.width - 1) return "to";
    return x > left && x < right && right - left < size.width - 2 ? "move" : null;
  }

  function onDown(event) {
    if (event.button !== 0) return;
    const x = local(event);
    const glyph = glyphs.filter((item) => Math.abs(xOf(item.step) - x) <= GLYPH && event.offsetY < 12).at(-1);
    if (glyph) {
      onGlyph(glyph);
      return;
    }
    plot.setPointerCapture(event.pointerId);
    const range = model.range();
    const grip = gripAt(x) ?? (x < xOf(range.from) || x > xOf(range.to) ? "centre" : "new");
    drag = { grip, x, range, before: store.get().view };
    if (grip === "centre") {
      const half = (range.to - range.from) / 2;
      move(stepOf(x) - half, stepOf(x) + half);
      drag.range = model.range();
      drag.grip = "move";
    }
  }

  function move(from, to) {
    store.set({ frozen: null, view: standing(from, to, model.first(), model.newest()) });
  }

  function onMove(event) {
    const x = local(event);
    if (drag === null) {
      const grip = gripAt(x);
      plot.style.cursor = grip === "move" ? "grab" : grip === null ? "pointer" : "ew-resize";
      const glyph = glyphs.find((item) => Math.abs(xOf(item.step) - x) <= GLYPH);
      plot.title = glyph ? `${glyph.text}, step ${formatCount(glyph.step)}` : "";
      return;
    }
    if (Math.abs(x - drag.x) < 3) return;
    const { range, grip } = drag;
    const by = stepOf(x) - stepOf(drag.x);
    if (grip === "from") move(Math.min(range.from + by, range.to - 8), range.to);
    else if (grip === "to") move(range.from, Math.max(range.to + by, range.from + 8));
    else if (grip === "move") move(range.from + by, range.to + by);
    else move(Math.min(stepOf(drag.x), stepOf(x)), Math.max(stepOf(drag.x), stepOf(x)));
  }

  function onUp() {
    if (drag !== null && store.get().view !== drag.before) store.set({ zoomedFrom: drag.before });
    drag = null;
  }

  function onKey(event) {
    const range = model.range();
    const by = { ArrowLeft: -0.25, ArrowRight: 0.25, PageUp: -1, PageDown: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const before = store.get().view;
    const span = range.to - range.from;
    move(range.from + by * span, range.to + by * span);
    store.set({ zoomedFrom: before });
  }

  function onButton(event) {
    const last = event.currentTarget.dataset.last;
    store.set({ frozen: null, zoomedFrom: store.get().view, view: last === "" ? WHOLE : { ...WHOLE, last: Number(last) } });
  }

  const handlers = { pointerdown: onDown, pointermove: onMove, pointerup: onUp, pointercancel: onUp, keydown: onKey };
  for (const [type, handler] of Object.entries(handlers)) plot.addEventListener(type, handler);
  for (const button of buttons) button.addEventListener("click", onButton);
  const observer = new ResizeObserver(() => {
    measure();
    if (drawn !== null) draw(drawn);
  });
  observer.observe(plot);
  measure();

  return {
    draw,
    destroy() {
      observer.disconnect();
      for (const [type, handler] of Object.entries(handlers)) plot.removeEventListener(type, handler);
      for (const button of buttons) button.removeEventListener("click", onButton);
    },
  };
}

const incidentColour = ({ closed_step: closed, severity, dismissed }) => severityColour(dismissed ? 0 : closed, severity);
const alertColour = ({ cleared_step: cleared, severity }) => severityColour(cleared, severity);

function severityColour(over, severity) {
  if (over !== null && over !== undefined) return "--text-3";
  return severity === "critical" ? "--critical" : severity === "warning" ? "--warning-line" : "--accent";
}
