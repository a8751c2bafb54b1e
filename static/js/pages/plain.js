// Pages without data (errors, help): the theme button, the list of keys, copy buttons.

import { readBoot } from "../io/api.js";
import { addCopyButtons } from "../ui/copy.js";
import { mount as mountKeys } from "../ui/keys.js";
import { mount as mountTheme } from "../ui/theme.js";

mountTheme(document.querySelector("#theme"));
const help = document.querySelector("#help");
if (help) mountKeys(help, readBoot());
for (const block of document.querySelectorAll(".prose pre")) {
  const snippet = document.createElement("div");
  snippet.className = "snippet";
  block.replaceWith(snippet);
  snippet.append(block);
}
addCopyButtons(document);
document.body.dataset.ready = "1";
