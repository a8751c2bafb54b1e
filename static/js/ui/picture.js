// A part of the page as a picture: what stands there as text, lines and canvas goes into one SVG, and from there into a PNG.
// The SVG needs nothing else: canvases go in as images, colours and fonts as they are computed, text as text.
//
//   svgOf(element, {title}) -> {text, width, height}
//   pngOf(svg) -> Promise<Blob>         at twice the size of the page
//   savePicture(element, {title, name, kind})   "png" or "svg", as a download
//   fileName(parts, kind), printable(text): pure

import { el } from "./element.js";
import { token } from "./theme.js";

const SVG = "http://www.w3.org/2000/svg";
const PADDING = 12;
const TITLE = 26;
const SHARPNESS = 2;
/** What is for hands, not for eyes. */
const LEFT_OUT = "button.handle, .chart-menu, .handle-form, input, select, .find, .picker, .segmented, .visually-hidden, [hidden]";

/** What XML can't hold is shown as what it is: something that can't be shown. */
export function printable(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd").toWellFormed();
}

/** "digits-baseline-global-norm.png": ASCII letters, digits, dots and dashes only, whatever a run is called. */
export function fileName(parts, kind) {
  const name = parts.join("-").replace(/[^A-Za-z0-9._]+/g, "-").replace(/\.{2,}/g, ".");
  return `${name.replace(/^[-.]+|[-.]+$/g, "").slice(0, 100) || "chart"}.${kind}`;
}

function node(tag, attributes, text = null) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== null) made.textContent = printable(text);
  return made;
}

export function svgOf(element, { title }) {
  const frame = element.getBoundingClientRect();
  const width = Math.ceil(frame.width) + 2 * PADDING;
  const height = Math.ceil(frame.height) + 2 * PADDING + TITLE;
  const root = node("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  root.append(node("title", {}, title));
  root.append(node("rect", { width, height, fill: token("--surface") }));
  root.append(node("text", { x: PADDING, y: PADDING + 13, fill: token("--text"), "font-family": token("--font"), "font-size": 13, "font-weight": 600 }, title));
  const inside = node("svg", { x: PADDING, y: PADDING + TITLE, width: frame.width, height: frame.height, overflow: "hidden" });
  root.append(inside);
  put(element, inside, frame);
  return { text: new XMLSerializer().serializeToString(root), width, height };
}

function put(element, into, frame) {
  if (element.matches(LEFT_OUT)) return;
  const style = getComputedStyle(element);
  if (style.display === "none" || style.visibility === "hidden" || style.opacity === "0") return;
  const box = element.getBoundingClientRect();
  const at = { x: box.left - frame.left, y: box.top - frame.top, width: box.width, height: box.height };
  if (element instanceof HTMLCanvasElement) {
    if (element.width && element.height) into.append(node("image", { ...at, href: element.toDataURL(), preserveAspectRatio: "none" }));
    return;
  }
  if (element instanceof SVGSVGElement) {
    const copy = element.cloneNode(true);
    for (const [key, value] of Object.entries(at)) copy.setAttribute(key, String(value));
    copy.setAttribute("color", style.color);
    into.append(copy);
    return;
  }
  putFill(style, at, into);
  const clipped = style.overflowX === "visible" ? into : node("svg", { x: at.x, y: at.y, width: at.width, height: at.height, overflow: "hidden" });
  const origin = clipped === into ? frame : box;
  for (const child of element.childNodes) {
    if (child instanceof Element) put(child, clipped, origin);
    else if (child.nodeType === Node.TEXT_NODE && child.data.trim()) putText(child, style, clipped, origin);
  }
  if (clipped !== into && clipped.childNodes.length) into.append(clipped);
}

/** Swatches, bars and bands. */
function putFill(style, at, into) {
  const { backgroundColor: fill, borderTopWidth, borderTopColor, borderTopStyle } = style;
  if (!/^(transparent|rgba\(.*, 0\))$/.test(fill) && at.width && at.height) into.append(node("rect", { ...at, fill, rx: Number.parseFloat(style.borderRadius) || 0 }));
  const line = Number.parseFloat(borderTopWidth);
  if (line > 1 && at.width) into.append(node("line", { x1: at.x, x2: at.x + at.width, y1: at.y + line / 2, y2: at.y + line / 2, stroke: borderTopColor, "stroke-width": line, "stroke-dasharray": borderTopStyle === "dashed" ? "4 3" : "none" }));
}

function putText(text, style, into, frame) {
  const range = document.createRange();
  range.selectNodeContents(text);
  const lines = [...range.getClientRects()];
  if (lines.length === 0) return;
  const size = Number.parseFloat(style.fontSize);
  const place = { fill: style.color, "font-family": style.fontFamily, "font-size": size, "font-weight": style.fontWeight, "xml:space": "preserve" };
  const [first] = lines;
  const baseline = first.top - frame.top + first.height / 2 + size * 0.35;
  into.append(node("text", { ...place, x: first.left - frame.left, y: baseline }, text.data.trim()));
}

export async function pngOf({ text, width, height }) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    await image.decode();
    const canvas = el("canvas", { width: width * SHARPNESS, height: height * SHARPNESS });
    const context = canvas.getContext("2d");
    context.scale(SHARPNESS, SHARPNESS);
    context.drawImage(image, 0, 0, width, height);
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

export async function savePicture(element, { title, name, kind }) {
  const svg = svgOf(element, { title });
  const blob = kind === "png" ? await pngOf(svg) : new Blob([svg.text], { type: "image/svg+xml" });
  const link = el("a", { href: URL.createObjectURL(blob), download: fileName(name, kind) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
