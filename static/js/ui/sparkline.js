// Small curves for lists.
//
//   sparkline({width, height, log}) -> {element, draw(points)}   points: what pointsOf gives
//   pointsOf(view, plane)   from a decoded series: {values, flags}, oldest first, absent buckets left out
//   sparkPath(points, {width, height, log}) -> {d, dot, bad}   pure; `bad` are x positions of NaN and Inf

import { HAS_INF, HAS_NAN, PRESENT } from "../core/codec.js";
import { el } from "./element.js";

const SVG = "http://www.w3.org/2000/svg";
const PAD = 2;

export function pointsOf(view, plane = "last") {
  const points = [];
  for (let i = 0; i < view.n; i += 1) {
    const flags = view.flags[i];
    if (!(flags & PRESENT)) continue;
    points.push({ value: view[plane][i], bad: (flags & (HAS_NAN | HAS_INF)) !== 0 || !Number.isFinite(view.last[i]) });
  }
  return points;
}

export function sparkPath(points, { width, height, log = false }) {
  const scaled = points.map(({ value }) => (log ? (value > 0 ? Math.log10(value) : NaN) : value));
  const finite = scaled.filter(Number.isFinite);
  const low = Math.min(...finite);
  const high = Math.max(...finite);
  const span = high - low;
  const x = (i) => (points.length < 2 ? width - PAD : PAD + (i / (points.length - 1)) * (width - 2 * PAD));
  // A flat curve lies in the middle; and a log curve of less than a quarter decade isn't blown up to look wild.
  const shown = Math.max(span, log ? 0.25 : Math.abs(high) * 1e-3, Number.MIN_VALUE);
  const middle = (low + high) / 2;
  const y = (value) => height / 2 - ((value - middle) / shown) * (height - 2 * PAD - 2);
  let d = "";
  let pen = false;
  let dot = null;
  scaled.forEach((value, i) => {
    if (!Number.isFinite(value)) {
      pen = false;
      return;
    }
    dot = [x(i), y(value)];
    d += `${pen ? "L" : "M"}${dot[0].toFixed(1)} ${dot[1].toFixed(1)}`;
    pen = true;
  });
  const bad = points.flatMap((point, i) => (point.bad ? [x(i)] : []));
  return { d, dot, bad };
}

export function sparkline({ width = 110, height = 26, log = false } = {}) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of [["class", "spark"], ["width", width], ["height", height], ["viewBox", `0 0 ${width} ${height}`], ["aria-hidden", "true"]]) {
    svg.setAttribute(key, value);
  }
  const line = document.createElementNS(SVG, "path");
  const bad = document.createElementNS(SVG, "path");
  const dot = document.createElementNS(SVG, "circle");
  line.setAttribute("class", "spark-line");
  bad.setAttribute("class", "spark-bad");
  dot.setAttribute("class", "spark-dot");
  dot.setAttribute("r", "0");
  svg.append(bad, line, dot);
  const element = el("span", { class: "spark-box" }, svg);
  return {
    element,
    draw(points) {
      const path = sparkPath(points, { width, height, log });
      line.setAttribute("d", path.d);
      // Neighbours touch: a stretch without numbers is one block.
      bad.style.strokeWidth = Math.max(2, width / points.length + 0.5);
      bad.setAttribute("d", path.bad.map((x) => `M${x.toFixed(1)} 0V${height}`).join(""));
      dot.setAttribute("r", path.dot ? 2 : 0);
      if (!path.dot) return;
      dot.setAttribute("cx", path.dot[0].toFixed(1));
      dot.setAttribute("cy", path.dot[1].toFixed(1));
    },
  };
}
