// Short messages at the lower right, read out by screen readers.
//
//   toast("Saved.")                                            goes after 5 s
//   toast("Deleted.", {action: {label: "Undo", run}, ms: 8000, onGone})   onGone runs when it went without the action
//   toastError(error)                                          stays until it is closed

import { button } from "./dialog.js";
import { el } from "./element.js";

export function toast(text, { tone = "", ms = 5000, action = null, onGone = () => {} } = {}) {
  const box = el("div", { class: "toast", "data-tone": tone }, el("span", { class: "text" }, text));
  let done = false;
  const end = (run) => {
    if (done) return;
    done = true;
    box.remove();
    run();
  };
  if (action) box.append(button(action.label, () => end(action.run)));
  if (!action || ms === Infinity) box.append(button("Close", () => end(onGone), "plain"));
  document.querySelector("#toasts").append(box);
  if (ms !== Infinity) setTimeout(() => end(onGone), ms);
  return { close: () => end(onGone) };
}

export function toastError(error) {
  return toast(error?.message ?? String(error), { tone: "critical", ms: Infinity });
}
