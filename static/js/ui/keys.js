// The list of keys behind "?". Pages add theirs: addKeys([["L", "follow the newest steps"], ...]).
//
//   mount(button, boot) -> {destroy}     opens the list from the button and from the "?" key
//   typing(event) -> boolean             true while a field has the keyboard: page keys should do nothing then

import { openDialog } from "./dialog.js";
import { el } from "./element.js";

const keys = [["?", "this list"]];

export function addKeys(rows) {
  for (const row of rows) if (!keys.some(([key]) => key === row[0])) keys.splice(-1, 0, row);
}

export function typing(event) {
  const target = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || (target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)));
}

export function mount(button, boot) {
  // The help pages are for owners; a shared view shows its keys alone.
  const links = boot.role === "owner" ? [helpLink(boot.base)] : [];
  const open = () => openDialog("Keys", (body) => body.append(keyTable(), ...links));
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
  const list = el("dl", { class: "keys" });
  for (const [key, meaning] of keys) {
    const caps = key.split(" ").flatMap((part) => [el("kbd", {}, part), " "]);
    list.append(el("dt", {}, ...caps), el("dd", {}, meaning));
  }
  return list;
}

function helpLink(base) {
  return el("a", { href: `${base}/help` }, "Help pages");
}
