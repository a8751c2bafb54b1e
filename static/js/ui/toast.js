// Short messages at the lower right, read out by screen readers.
//
//   toast("Saved.")                                            goes after 5 s
//   toast("Deleted.", {action: {label: "Undo", run}, ms: 8000, onGone})   onGone runs when it went without the action
//   toastError(error)                                          stays until it is closed

import { button } from "./dialog.js";

export function toast(text, { tone = "", ms = 5000, action = null, onGone = () => {} } = {}) {
  const box = document.createElement("div");
  box.className = "toast";
  box.dataset.tone = tone;
  const message = document.createElement("span");
  message.className = "text";
  message.textContent = text;
  box.append(message);
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
