// Dialogs and menus.
//
//   openDialog(title, fill, {wide}) -> dialog    fill(body, foot, close) builds the content; Esc, the cross and a click
//                                                outside close it; focus returns to where it was
//   confirmDialog(title, text, action) -> Promise<boolean>
//   openMenu(anchor, [{label, run, danger}])     a small menu under a button

import { el, icon } from "./element.js";

export function openDialog(title, fill, { className = "" } = {}) {
  const dialog = el("dialog", { class: `dialog ${className}`.trim(), "aria-label": title });
  const close = () => dialog.close();
  const body = el("div", { class: "dialog-body" });
  const foot = el("div", { class: "dialog-foot" });
  fill(body, foot, close);
  dialog.append(el("div", { class: "dialog-head" }, el("h2", { class: "ellipsis" }, title), closeButton(close)), body);
  if (foot.childNodes.length) dialog.append(foot);
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog && outside(dialog, event)) close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  // What one came for has the keyboard; where there is nothing to fill in or choose, the cross keeps it.
  body.querySelector("input, select, textarea, button")?.focus();
  return dialog;
}

function outside(dialog, event) {
  const box = dialog.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

function closeButton(close) {
  return el("button", { class: "icon-button push", type: "button", "aria-label": "Close", onclick: close }, icon("M5.5 5.5l9 9M14.5 5.5l-9 9"));
}

export function button(label, run, className = "") {
  return el("button", { type: "button", class: `button ${className}`.trim(), onclick: run }, label);
}

export function confirmDialog(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const dialog = openDialog(title, (body, foot, close) => {
      body.append(el("p", {}, text));
      const yes = () => {
        answer = true;
        close();
      };
      foot.append(button("Cancel", close), button(action, yes, "danger"));
    });
    dialog.addEventListener("close", () => resolve(answer));
  });
}

export function openMenu(anchor, items) {
  const menu = el("div", { class: "menu", role: "menu", popover: "auto" });
  for (const { label, run, danger } of items) {
    const choose = () => {
      menu.hidePopover();
      run();
    };
    menu.append(el("button", { type: "button", role: "menuitem", class: danger ? "danger" : null, onclick: choose }, label));
  }
  document.body.append(menu);
  menu.addEventListener("toggle", (event) => event.newState === "closed" && menu.remove());
  menu.addEventListener("keydown", moveInMenu);
  menu.showPopover();
  place(menu, anchor);
  menu.firstElementChild.focus();
}

function moveInMenu(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const items = [...event.currentTarget.children];
  items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
}

function place(menu, anchor) {
  const box = anchor.getBoundingClientRect();
  const size = menu.getBoundingClientRect();
  // Without the strip that is kept free for a scroll bar: nothing is painted there.
  const { right } = document.documentElement.getBoundingClientRect();
  const left = Math.min(box.left, right - size.width - 8);
  const below = box.bottom + 4;
  menu.style.left = `${Math.max(8, left)}px`;
  menu.style.top = `${below + size.height > innerHeight ? Math.max(8, box.top - size.height - 4) : below}px`;
}
