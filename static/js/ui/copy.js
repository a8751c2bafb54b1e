// Copying text. The clipboard needs a secure page: over plain HTTP from another computer the old way still works.

import { button } from "./dialog.js";

export async function copyText(text) {
  if (navigator.clipboard && isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("Copying was refused by the browser: select the text and copy it by hand.");
}

/** A button that copies `text()` and says so for a moment. */
export function copyButton(text, label = "Copy", className = "") {
  const element = button(
    label,
    async () => {
      try {
        await copyText(text());
        element.textContent = "Copied";
      } catch {
        element.textContent = "Select it and copy by hand";
      }
      setTimeout(() => (element.textContent = label), 2000);
    },
    className,
  );
  return element;
}

/** Gives every <pre> in `root` that stands in a .snippet its copy button. */
export function addCopyButtons(root) {
  for (const snippet of root.querySelectorAll(".snippet")) {
    const pre = snippet.querySelector("pre");
    if (!snippet.querySelector(".button")) snippet.append(copyButton(() => pre.textContent.trim()));
  }
}
