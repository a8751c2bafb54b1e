// Dialogs and menus.
//
//   openDialog(title, fill, {wide}) -> dialog    fill(body, foot, close) builds the content; Esc, the cross and a click
//                                                outside close it; focus returns to where it was
//   confirmDialog(title, text, action) -> Promise<boolean>
//   openMenu(anchor, [{label, run, danger}])     a small menu under a button

export function openDialog(title, fill, { className = "" } = {}) {
  const dialog = document.createElement("dialog");
  dialog.className = `dialog ${className}`.trim();
  dialog.setAttribute("aria-label", title);
  const close = () => dialog.close();
  const head = document.createElement("div");
  head.className = "dialog-head";
  const heading = document.createElement("h2");
  heading.className = "ellipsis";
  heading.textContent = title;
  head.append(heading, closeButton(close));
  const body = document.createElement("div");
  body.className = "dialog-body";
  const foot = document.createElement("div");
  foot.className = "dialog-foot";
  fill(body, foot, close);
  dialog.append(head, body);
  if (foot.childNodes.length) dialog.append(foot);
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog && outside(dialog, event)) close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function outside(dialog, event) {
  const box = dialog.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

function closeButton(close) {
  const button = document.createElement("button");
  button.className = "icon-button push";
  button.type = "button";
  button.setAttribute("aria-label", "Close");
  button.append(cross());
  button.addEventListener("click", close);
  return button;
}

function cross() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M5.5 5.5l9 9M14.5 5.5l-9 9");
  svg.append(path);
  return svg;
}

export function button(label, run, className = "") {
  const element = document.createElement("button");
  element.type = "button";
  element.className = `button ${className}`.trim();
  element.textContent = label;
  element.addEventListener("click", run);
  return element;
}

export function confirmDialog(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const dialog = openDialog(title, (body, foot, close) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = text;
      body.append(paragraph);
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
  const menu = document.createElement("div");
  menu.className = "menu";
  menu.setAttribute("role", "menu");
  menu.setAttribute("popover", "auto");
  for (const { label, run, danger } of items) {
    const item = document.createElement("button");
    item.type = "button";
    item.setAttribute("role", "menuitem");
    item.textContent = label;
    if (danger) item.className = "danger";
    item.addEventListener("click", () => {
      menu.hidePopover();
      run();
    });
    menu.append(item);
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
  const left = Math.min(box.left, innerWidth - size.width - 8);
  const below = box.bottom + 4;
  menu.style.left = `${Math.max(8, left)}px`;
  menu.style.top = `${below + size.height > innerHeight ? Math.max(8, box.top - size.height - 4) : below}px`;
}
