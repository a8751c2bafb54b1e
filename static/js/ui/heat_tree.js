// The labels beside the heat map: one for each row that has room, groups to open and close, tensors to pin.

import { rowSpan } from "../core/heat.js";
import { el, setAttribute } from "./element.js";

const LABEL = 13;

/**
 * @param {{onOpen: (node: object) => void, onMenu?: (node: object, label: HTMLElement) => void}} options called when a label
 * is chosen, and when its menu is asked for
 */
export function mountTree(element, store, { onOpen, onMenu }) {
  let labels = [];
  let hovered = null;

  function arrange(rows, height) {
    const { open } = store.get();
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    labels = legible(rows, height, open).map(({ row, middle }) => label(row, middle, open));
    element.replaceChildren(...labels);
    if (focused !== null) labels.find((item) => item.dataset.key === focused)?.focus();
  }

  function label(row, middle, open) {
    const group = row.kind === "group";
    const expanded = group && open.has(row.name);
    const text = el("span", { class: "ellipsis" }, shortened(row));
    const button = el(
      "button",
      {
        type: "button",
        class: "heat-label",
        role: "treeitem",
        title: group ? `${row.name}: ${row.size} tensors` : row.name,
        "data-key": row.key,
        "aria-level": row.depth + 1,
        "aria-expanded": group ? String(expanded) : null,
        onclick: () => onOpen(row),
        oncontextmenu: (event) => {
          if (!onMenu) return;
          event.preventDefault();
          onMenu(row, event.currentTarget);
        },
        onpointerenter: () => store.set({ hover: { key: row.key } }),
        onpointerleave: () => store.set({ hover: null }),
      },
      el("i", { class: group ? "twist" : "leaf", "aria-hidden": "true" }),
      text,
      group && !expanded ? el("small", {}, String(row.size)) : null,
    );
    button.style.top = `${middle}px`;
    button.style.setProperty("--depth", Math.min(row.depth, 6));
    return button;
  }

  function paint(key) {
    if (key === hovered) return;
    hovered = key;
    for (const item of labels) setAttribute(item, "data-hover", item.dataset.key === key ? "1" : null);
  }

  return { arrange, paint, destroy: () => element.replaceChildren() };
}

/** A bare number says nothing by itself: "blocks.7" instead of "7". */
function shortened(row) {
  if (!/^\d+$/.test(row.label) || !row.parent?.name) return row.label;
  return `${row.parent.name.split(".").at(-1)}.${row.label}`;
}

/**
 * The rows that get a label, none over another: open groups first (they must be there to be closed), then by depth. A row
 * whose group has none stays without: its short name would be read as another group's.
 */
function legible(rows, height, open) {
  const placed = rows.map((row, line) => {
    const { top, bottom } = rowSpan(line, rows.length, height);
    return { row, middle: Math.min(height - LABEL / 2, Math.max(LABEL / 2, (top + bottom) / 2)) };
  });
  if (height / rows.length >= LABEL) return placed;
  const taken = [];
  const rank = ({ row }) => (open.has(row.name) ? 0 : 1000) + row.depth * 2 + (row.kind === "group" ? 0 : 1);
  for (const item of [...placed].sort((a, b) => rank(a) - rank(b))) {
    const known = !placed.some((other) => other.row === item.row.parent) || taken.some((other) => other.row === item.row.parent);
    if (known && taken.every((other) => Math.abs(other.middle - item.middle) >= LABEL)) taken.push(item);
  }
  return taken.sort((a, b) => a.middle - b.middle);
}
