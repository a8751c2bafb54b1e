// The keys of the run page. They do nothing while a field has the keyboard or a dialog or menu is open.

import { addKeys, typing } from "./keys.js";

const MOUSE = [
  ["drag", "zoom to these steps"],
  ["Ctrl wheel", "zoom in or out"],
  ["Shift drag", "move along the run"],
];

/** @param {Record<string, () => void>} acts by name: live, next, previous, find, share, alert, back */
export function mount(acts, owner) {
  const table = {
    l: [acts.live, "L", "follow the newest steps"],
    j: [acts.next, "J", "next incident or alert"],
    k: [acts.previous, "K", "previous incident or alert"],
    "/": [acts.find, "/", "find a layer"],
    ...(owner ? { s: [acts.share, "S", "share this run"], a: [acts.alert, "A", "set an alert at the cursor"] } : {}),
    escape: [acts.back, "Esc", "undo the last zoom"],
  };
  addKeys([...Object.values(table).map(([, key, meaning]) => [key, meaning]), ...MOUSE]);
  const onKey = (event) => {
    if (typing(event) || document.querySelector("dialog[open], :popover-open")) return;
    const [act] = table[event.key.toLowerCase()] ?? [];
    if (!act) return;
    event.preventDefault();
    act();
  };
  document.addEventListener("keydown", onKey);
  return { destroy: () => document.removeEventListener("keydown", onKey) };
}
