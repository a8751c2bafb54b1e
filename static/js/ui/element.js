// Small makers of DOM nodes. Text always goes in as text.
//
//   el("span", { class: "chip", "data-tone": "live", title: "..." }, "running", child)
//   icon("M5 5l9 9")           a 20 x 20 line icon
//   setText, setAttribute, setChildren      write only what changed: nothing flickers, selections survive

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, key, value) {
  if (value === null || value === false) element.removeAttribute(key);
  else if (element.getAttribute(key) !== value) element.setAttribute(key, value);
}

/** Makes `nodes` the children of `parent`; those that stand there already are not touched. */
export function setChildren(parent, nodes) {
  for (const old of [...parent.children]) if (!nodes.includes(old)) old.remove();
  nodes.forEach((node, i) => parent.children[i] !== node && parent.insertBefore(node, parent.children[i] ?? null));
}
