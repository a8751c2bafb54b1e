// The list of keys behind "?". Pages add theirs: addKeys([["L", "follow the newest steps"], ...]).
//
//   mount(button, {base}) -> {destroy}   opens the list from the button and from the "?" key
//   typing(event) -> boolean             true while a field has the keyboard: page keys should do nothing then

import { openDialog } from "./dialog.js";

const keys = [["?", "this list"]];

export function addKeys(rows) {
  for (const row of rows) if (!keys.some(([key]) => key === row[0])) keys.unshift(row);
}

export function typing(event) {
  const target = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || (target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)));
}

export function mount(button, { base }) {
  const open = () => openDialog("Keys", (body) => body.append(keyTable(), helpLink(base)));
  const onKey = (event) => {
    if (event.key !== "?" || typing(event) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    open();
  };
  button.addEventListener("click", open);
  document.addEventListener("keydown", onKey);
  return {
    destroy() {
      button.removeEventListener("click", open);
      document.removeEventListener("keydown", onKey);
    },
  };
}

function keyTable() {
  const list = document.createElement("dl");
  list.className = "keys";
  for (const [key, meaning] of keys) {
    const term = document.createElement("dt");
    for (const part of key.split(" ")) {
      const cap = document.createElement("kbd");
      cap.textContent = part;
      term.append(cap, " ");
    }
    const text = document.createElement("dd");
    text.textContent = meaning;
    list.append(term, text);
  }
  return list;
}

function helpLink(base) {
  const link = document.createElement("a");
  link.href = `${base}/help`;
  link.textContent = "Help pages";
  return link;
}
